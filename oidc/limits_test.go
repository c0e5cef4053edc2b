package oidc

import (
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func TestSourceOf(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.1:1":              "192.0.2.1/32",
		"[::ffff:192.0.2.1]:1":     "192.0.2.1/32",
		"[2001:db8:1:2:3:4:5:6]:1": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1":         "fe80::/64",
		"@":                        "invalid Prefix",
	} {
		if got := sourceOf(&http.Request{RemoteAddr: remote}).String(); got != want {
			t.Errorf("%s is of %s, want %s", remote, got, want)
		}
	}
}

// However many addresses come, the table stays bounded, and forgets only what is
// full again or was asked longest ago.
func TestBucketsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBuckets[netip.Addr](time.Now, 1, 2)
		first := netip.MustParseAddr("10.0.0.0")
		b.take(first)
		b.take(first)
		if wait := b.take(first); wait != time.Second {
			t.Errorf("an empty bucket says %v", wait)
		}
		address := netip.MustParseAddr("10.1.0.0")
		for range 2 * maxBuckets {
			b.take(address)
			address = address.Next()
			b.take(first) // stays the one that was used last
		}
		if len(b.byKey) > maxBuckets || b.oldest.Len() != len(b.byKey) {
			t.Errorf("%d buckets, %d in their order", len(b.byKey), b.oldest.Len())
		}
		if b.take(first) == 0 {
			t.Error("a flood of addresses refilled a bucket that was in use")
		}
		time.Sleep(2 * time.Second)
		b.take(first)
		if len(b.byKey) != 1 {
			t.Errorf("%d buckets are kept that are full again", len(b.byKey)-1)
		}
	})
}

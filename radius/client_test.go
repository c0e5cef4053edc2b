package radius

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
)

// netipAddr is an address that no client has.
func netipAddr(i int) netip.AddrPort {
	ip := [4]byte{10}
	binary.BigEndian.PutUint16(ip[2:], uint16(i))
	return netip.AddrPortFrom(netip.AddrFrom4(ip), 50000)
}

func TestLongestPrefixWins(t *testing.T) {
	prefixes := []string{
		"0.0.0.0/0", "10.0.0.0/8", "10.1.2.3/32", "10.1.9.9/16", "::ffff:172.16.0.0/108", "::ffff:172.16.5.5/128",
		"2001:db8::/32", "2001:db8::1/128", "fe80::/10",
	}
	list := make([]Client, 0, len(prefixes))
	for _, prefix := range prefixes {
		list = append(list, Client{Name: prefix, Prefix: netip.MustParsePrefix(prefix), Secret: Secret("s")})
	}
	clients, err := NewClients(list)
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"10.1.2.3":           "10.1.2.3/32",
		"::ffff:10.1.2.3":    "10.1.2.3/32",
		"10.1.2.4":           "10.1.9.9/16",
		"10.2.0.1":           "10.0.0.0/8",
		"11.0.0.1":           "0.0.0.0/0",
		"::ffff:11.0.0.1":    "0.0.0.0/0",
		"172.31.0.1":         "::ffff:172.16.0.0/108",
		"172.16.5.5":         "::ffff:172.16.5.5/128",
		"::ffff:172.16.5.5":  "::ffff:172.16.5.5/128",
		"2001:db8::1":        "2001:db8::1/128",
		"2001:db8::2":        "2001:db8::/32",
		"fe80::1%eth0":       "fe80::/10",
		"2001:db9::1":        "",
		"::1":                "",
		"::ffff:0:10.1.2.3":  "",
		"64:ff9b::10.1.2.3":  "",
		"::10.1.2.3":         "",
		"2001:db8:0:0::1%e0": "2001:db8::1/128",
	} {
		got := ""
		if c := clients.lookup(netip.MustParseAddr(addr)); c != nil {
			got = c.Name
		}
		if got != want {
			t.Errorf("%s: client %q, want %q", addr, got, want)
		}
	}
}

func TestNewClientsRefuses(t *testing.T) {
	ok := Client{Name: "a", Prefix: netip.MustParsePrefix("10.0.0.0/8"), Secret: Secret("s")}
	with := func(change func(*Client)) Client { c := ok; change(&c); return c }
	for want, list := range map[string][]Client{
		"no name":          {with(func(c *Client) { c.Name = "" })},
		"no valid address": {with(func(c *Client) { c.Prefix = netip.Prefix{} })},
		"empty shared":     {with(func(c *Client) { c.Secret = nil })},
		`named "a"`:        {ok, with(func(c *Client) { c.Prefix = netip.MustParsePrefix("11.0.0.0/8") })},
		"same address":     {ok, with(func(c *Client) { c.Name, c.Prefix = "b", netip.MustParsePrefix("::ffff:10.9.9.9/104") })},
	} {
		if _, err := NewClients(list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	if _, err := NewClients(nil); err != nil {
		t.Errorf("no clients: %v", err)
	}
}

func TestSecretDoesNotPrintItself(t *testing.T) {
	c := Client{Name: "vpn", Secret: Secret("hush")}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+"\n", c)
		fmt.Fprintf(&out, verb+"\n", &c)
		fmt.Fprintf(&out, verb+"\n", c.Secret)
	}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("x", "client", c, "secret", c.Secret)
	}
	if err := json.NewEncoder(&out).Encode(c); err != nil {
		t.Error(err)
	}
	for _, form := range []string{"hush", "68757368", "104 117", "0x68", "aHVzaA"} {
		if strings.Contains(out.String(), form) {
			t.Errorf("%q is in\n%s", form, out.String())
		}
	}
}

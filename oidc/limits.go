package oidc

import (
	"container/list"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// failureBurst is how many failed authentications of one address, or in one
	// client's name, are answered as such at once, and failureRate how many a
	// second after that. A portal that is being set up stays below; a loop gone
	// wild, or somebody who guesses, doesn't.
	failureBurst = 100
	failureRate  = rate.Limit(1)
	// maxBuckets bounds each table, at some 400 octets a bucket to 7 MiB. One that
	// is full again is removed; if there are still too many, the one that was
	// asked longest ago goes first.
	maxBuckets = 1 << 14
)

// limits are what holds back the back channel, and browsers at /authorize. A stranger can use up what an
// address has, never what a client has: its rate is taken only by requests that
// it has authenticated, and failures in its name are answered otherwise but
// never keep a right authentication out.
type limits struct {
	addresses *buckets[netip.Prefix] // all requests of the back channel; nil: no limit
	browsers  *buckets[netip.Prefix] // all at /authorize, likewise: a portal may be behind the address of those it serves
	clients   map[string]*rate.Limiter
	now       func() time.Time

	failedFrom *buckets[netip.Prefix]
	failedAs   *buckets[string] // by the digest of the claimed client_id, whether or not there is one
}

// newLimits makes the limits of addresses, addressRate requests a second each, and
// of clients, each as many as it says. 0: no limit.
func newLimits(now func() time.Time, addressRate int, clients map[string]*Client) *limits {
	l := &limits{
		clients: make(map[string]*rate.Limiter), now: now,
		failedFrom: newBuckets[netip.Prefix](now, failureRate, failureBurst),
		failedAs:   newBuckets[string](now, failureRate, failureBurst),
	}
	if addressRate > 0 {
		l.addresses = newBuckets[netip.Prefix](now, rate.Limit(addressRate), addressRate)
		l.browsers = newBuckets[netip.Prefix](now, rate.Limit(addressRate), addressRate)
	}
	for id, c := range clients {
		if c.Rate > 0 {
			l.clients[id] = rate.NewLimiter(rate.Limit(c.Rate), c.Rate)
		}
	}
	return l
}

// address takes one request of an address.
func (l *limits) address(from netip.Prefix) error { return within(l.addresses, from) }

// browser takes one request of an address at /authorize.
func (l *limits) browser(from netip.Prefix) error { return within(l.browsers, from) }

func within(table *buckets[netip.Prefix], from netip.Prefix) error {
	if table == nil {
		return nil
	}
	if wait := table.take(from); wait > 0 {
		return tooMany(wait)
	}
	return nil
}

// client takes one request of a client that has authenticated.
func (l *limits) client(id string) error {
	bucket := l.clients[id]
	if bucket == nil {
		return nil
	}
	if wait := take(bucket, l.now()); wait > 0 {
		return tooMany(wait)
	}
	return nil
}

// failure takes one failed authentication; nil if it is to be told as one.
func (l *limits) failure(from netip.Prefix, claimed string) *protocolError {
	if wait := max(l.failedFrom.take(from), l.failedAs.take(digest(claimed))); wait > 0 {
		return tooMany(wait)
	}
	return nil
}

// tooMany asks a client to wait (RFC 6585 §4).
func tooMany(wait time.Duration) *protocolError {
	return &protocolError{
		status: http.StatusTooManyRequests, code: temporarilyDown,
		description: "too many requests", retryAfter: wait,
	}
}

// sourceOf is the address that r comes from: of IPv6 the /64 that one machine
// chooses from.
func sourceOf(r *http.Request) netip.Prefix {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil { // not from TCP; such have one bucket
		return netip.Prefix{}
	}
	address, bits := at.Addr().Unmap().WithZone(""), 64
	if address.Is4() {
		bits = 32
	}
	source, _ := address.Prefix(bits) // fails only for other sizes
	return source
}

// buckets are token buckets by key, of which all that are full are forgotten. Safe
// for concurrent use.
type buckets[K comparable] struct {
	now   func() time.Time
	limit rate.Limit
	burst int

	mu     sync.Mutex // guards the rest
	byKey  map[K]*bucket[K]
	oldest *list.List // of *bucket[K], by last use
}

type bucket[K comparable] struct {
	key    K
	tokens *rate.Limiter
	used   time.Time
	place  *list.Element // in oldest
}

func newBuckets[K comparable](now func() time.Time, limit rate.Limit, burst int) *buckets[K] {
	return &buckets[K]{now: now, limit: limit, burst: burst, byKey: make(map[K]*bucket[K]), oldest: list.New()}
}

// take takes a token of key; if there is none it says when there will be one.
func (b *buckets[K]) take(key K) (wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	b.expire(now)
	one := b.byKey[key]
	if one == nil {
		if len(b.byKey) >= maxBuckets {
			b.remove(b.oldest.Front().Value.(*bucket[K]))
		}
		one = &bucket[K]{key: key, tokens: rate.NewLimiter(b.limit, b.burst)}
		one.place = b.oldest.PushBack(one)
		b.byKey[key] = one
	}
	one.used = now
	b.oldest.MoveToBack(one.place)
	return take(one.tokens, now)
}

// expire removes the buckets that are full again. The caller holds b.mu.
func (b *buckets[K]) expire(now time.Time) {
	refill := time.Duration(float64(b.burst) / float64(b.limit) * float64(time.Second))
	for place := b.oldest.Front(); place != nil; place = b.oldest.Front() {
		one := place.Value.(*bucket[K])
		if now.Sub(one.used) < refill {
			return
		}
		b.remove(one)
	}
}

// remove takes one out. The caller holds b.mu.
func (b *buckets[K]) remove(one *bucket[K]) {
	delete(b.byKey, one.key)
	b.oldest.Remove(one.place)
}

// take takes a token at now; if there is none it says when there will be one.
func take(tokens *rate.Limiter, now time.Time) (wait time.Duration) {
	r := tokens.ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// seconds is wait for a Retry-After header, rounded up (RFC 9110 §10.2.3).
func seconds(wait time.Duration) string {
	return fmt.Sprint(int64((wait + time.Second - 1) / time.Second))
}

package radius

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"sync"
	"time"
)

const (
	// replyHold is how long a reply can be had again: the most that RFC 5080
	// §2.2.2 allows (5 to 30 s), since ocserv resends after 10 and 20 s.
	replyHold = 30 * time.Second
	// maxExchanges bounds the entries, at some 400 octets each to 50 MiB: 4,000
	// requests a second are held for the whole time, 26,000 for 5 s.
	maxExchanges = 1 << 17
	// maxReplyOctets bounds the replies that they hold to 32 MiB: 250 octets for
	// each of maxExchanges, an Accept with a dozen attributes. A reply has up to
	// 4,096, by what gateway.yaml puts in and the Proxy-State that comes back.
	maxReplyOctets = 32 << 20
)

// replyCache makes an exchange resend-proof (RFC 5080 §2.2.2). An entry is in
// flight until it has a reply; it then leaves after replyHold, or when the
// client uses the identifier anew, or when the cache is full and it is the
// oldest. An entry in flight is never evicted; there are no more of them than
// workers. A packet that comes again when its entry is gone, or as another
// exchange, is a replay.
//
// Over TLS a client whose connection broke sends what had no answer over a new
// one (RFC 6613 §2.6.1). If it is the same packet, it gets the same reply: its
// code is used up, and to evaluate it again would refuse what was accepted.
// RADIUS/1.1 can't have that: each connection has Tokens of its own, and what
// comes over another one is another request (RFC 9765 §4.2.2). There, as where
// the Identifier changes, the gate decides anew: see verifier's FailoverGrace.
type replyCache struct {
	now func() time.Time

	mu        sync.Mutex // guards the rest
	entries   map[exchange]*cached
	overTLS   map[fingerprint]*cached // those of entries that came in the format overTLS
	answered  *list.List              // of *cached that have a reply, oldest first
	octets    int                     // of their replies
	evaluated memory
}

// exchange is what tells requests apart until the client reuses an identifier.
type exchange struct {
	via  way
	from netip.AddrPort
	id   uint32 // the Identifier, or RADIUS/1.1's Token
}

// cached is one entry. The cache's mutex guards what is set after begin.
type cached struct {
	key           exchange
	client        string // its name
	format        format
	authenticator [16]byte
	digest        [sha256.Size]byte // of the whole request
	fingerprint   fingerprint       // zero for version11
	decided       bool
	reply         []byte // nil while in flight
	expires       time.Time
	place         *list.Element // in answered; nil while in flight
}

func newReplyCache(now func() time.Time) *replyCache {
	return &replyCache{now: now, entries: make(map[exchange]*cached), overTLS: make(map[fingerprint]*cached), answered: list.New(), evaluated: newMemory()}
}

func newCached(req *request) *cached {
	e := &cached{
		key: exchange{req.via, req.from, uint32(req.packet.Identifier)}, client: req.client.Name, format: req.format,
		authenticator: req.packet.Authenticator, digest: sha256.Sum256(req.raw),
	}
	if req.format == version11 {
		// RFC 9765 §4.2: the Token alone identifies, within the connection, and
		// may be used again for another request. Nothing else in a packet is
		// unique, nor need it be: TLS has no replays.
		e.key.id = binary.BigEndian.Uint32(req.packet.Authenticator[:])
		e.authenticator = [16]byte(e.digest[:])
		return e
	}
	e.fingerprint = req.fingerprint()
	return e
}

// tracked reports whether e is in evaluated, so that a replay of it is known.
func (e *cached) tracked() bool { return e.format != version11 }

// begin returns a new entry in flight, for the caller to finish or abandon; or
// the reply, if the request had one; or the reason to drop it.
func (c *replyCache) begin(req *request) (*cached, []byte, error) {
	fresh := newCached(req)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire()
	e := c.entries[fresh.key]
	same := e
	if e == nil || e.authenticator != fresh.authenticator {
		same = c.overTLS[fresh.fingerprint] // nil for other formats
	}
	switch {
	case same == nil:
	case same.digest != fresh.digest:
		return nil, nil, duplicateAltered
	case same.reply == nil:
		return nil, nil, duplicate
	default:
		return nil, same.reply, nil
	}
	switch {
	case fresh.tracked() && c.evaluated.has(fresh.fingerprint): // before it could purge a younger one
		return nil, nil, replayed
	case e != nil && e.reply == nil && e.format == version11:
		return nil, nil, tokenReused // RFC 9765 §4.2.2
	}
	if e != nil {
		c.remove(e)
	}
	if len(c.entries) >= maxExchanges {
		c.remove(c.answered.Front().Value.(*cached))
	}
	c.add(fresh)
	return fresh, nil, nil
}

// add puts e in, in flight. The caller holds c.mu.
func (c *replyCache) add(e *cached) {
	c.entries[e.key] = e
	if e.format == overTLS {
		c.overTLS[e.fingerprint] = e
	}
	if e.tracked() {
		c.evaluated.begin(e.fingerprint)
	}
}

// finish stores the reply. It reports false if the entry has been purged.
func (c *replyCache) finish(e *cached, reply []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.decided = true
	if e.tracked() {
		c.evaluated.keep(e.client, e.fingerprint)
	}
	if c.entries[e.key] != e {
		return false
	}
	for c.octets+len(reply) > maxReplyOctets {
		c.remove(c.answered.Front().Value.(*cached))
	}
	c.octets += len(reply)
	e.reply = reply
	e.expires = c.now().Add(replyHold)
	e.place = c.answered.PushBack(e)
	return true
}

// abandon removes an entry on which nothing was decided: it may come again.
func (c *replyCache) abandon(e *cached) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.decided {
		return
	}
	if e.tracked() {
		c.evaluated.forget(e.fingerprint)
	}
	if c.entries[e.key] == e {
		c.remove(e)
	}
}

// expire removes what was held long enough. The caller holds c.mu.
func (c *replyCache) expire() {
	now := c.now()
	for place := c.answered.Front(); place != nil; place = c.answered.Front() {
		e := place.Value.(*cached)
		if now.Before(e.expires) {
			return
		}
		c.remove(e)
	}
}

// remove takes e out. The caller holds c.mu.
func (c *replyCache) remove(e *cached) {
	delete(c.entries, e.key)
	if c.overTLS[e.fingerprint] == e {
		delete(c.overTLS, e.fingerprint)
	}
	if e.place != nil {
		c.answered.Remove(e.place)
		c.octets -= len(e.reply)
	}
}

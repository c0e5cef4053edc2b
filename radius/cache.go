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
	// maxExchanges bounds the cache, at some 400 octets each to 50 MiB: 4,000
	// requests a second are held for the whole time, 26,000 for 5 s. A client
	// without Message-Authenticator, whose requests anyone can forge, gets no
	// Proxy-State back, so no one from outside can make entries large.
	maxExchanges = 1 << 17
)

// replyCache makes an exchange resend-proof (RFC 5080 §2.2.2). An entry is in
// flight until it has a reply; it then leaves after replyHold, or when the
// client uses the identifier anew, or when the cache is full and it is the
// oldest. An entry in flight is never evicted; there are no more of them than
// workers. A packet that comes again when its entry is gone, or as another
// exchange, is a replay.
type replyCache struct {
	now func() time.Time

	mu        sync.Mutex // guards the rest
	entries   map[exchange]*cached
	answered  *list.List // of *cached that have a reply, oldest first
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
	authenticator [16]byte
	digest        [sha256.Size]byte // of the whole request
	fingerprint   fingerprint
	tracked       bool // in evaluated
	decided       bool
	reply         []byte // nil while in flight
	expires       time.Time
	place         *list.Element // in answered; nil while in flight
}

func newReplyCache(now func() time.Time) *replyCache {
	return &replyCache{now: now, entries: make(map[exchange]*cached), answered: list.New(), evaluated: newMemory()}
}

func newCached(req *request) *cached {
	e := &cached{
		key: exchange{req.via, req.from, uint32(req.packet.Identifier)}, client: req.client.Name,
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
	e.fingerprint, e.tracked = req.fingerprint(), true
	return e
}

// begin returns a new entry in flight, for the caller to finish or abandon; or
// the reply, if the request had one; or the reason to drop it.
func (c *replyCache) begin(req *request) (*cached, []byte, error) {
	fresh := newCached(req)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire()
	e := c.entries[fresh.key]
	if e != nil && e.authenticator == fresh.authenticator {
		switch {
		case e.digest != fresh.digest:
			return nil, nil, duplicateAltered
		case e.reply == nil:
			return nil, nil, duplicate
		default:
			return nil, e.reply, nil
		}
	}
	if fresh.tracked && c.evaluated.has(fresh.fingerprint) { // before it could purge a younger one
		return nil, nil, replayed
	}
	if e != nil {
		c.remove(e)
	}
	if len(c.entries) >= maxExchanges {
		c.remove(c.answered.Front().Value.(*cached))
	}
	c.entries[fresh.key] = fresh
	if fresh.tracked {
		c.evaluated.begin(fresh.fingerprint)
	}
	return fresh, nil, nil
}

// finish stores the reply. It reports false if the entry has been purged.
func (c *replyCache) finish(e *cached, reply []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.decided = true
	if e.tracked {
		c.evaluated.keep(e.client, e.fingerprint)
	}
	if c.entries[e.key] != e {
		return false
	}
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
	if e.tracked {
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
	if e.place != nil {
		c.answered.Remove(e.place)
	}
}

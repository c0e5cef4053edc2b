package radius

import (
	"container/list"
	"sync"
	"time"
)

const (
	// burstHold is how long the methods of one log-in may take: FortiGate goes
	// on to the next one when it has the Reject of the last, and waits for that
	// 5 s by default.
	burstHold = 10 * time.Second
	// maxBursts bounds what is held, at some 500 octets each to 8 MiB: 1,600
	// wrong codes a second. The oldest goes first, and its other methods count.
	maxBursts = 1 << 14
)

// bursts lets the methods that gear tries one after the other with what was
// typed once count as one wrong code. A request goes no further than here if
// the gate has just refused the very code by another method, at the same client
// and for the same user and station; that is told by computing the response
// from the password that came by PAP, before or after. So it gives a guesser
// nothing: each code that isn't known to be the last one is counted. CHAP and
// MS-CHAPv2 one after the other are two codes, as nothing shows that they are
// one.
//
// What was typed is kept in clear, since a response is computed from nothing
// less. It is a code that was refused, in memory only, until something is asked
// after burstHold.
type bursts struct {
	now func() time.Time

	mu      sync.Mutex // guards the rest, and the proofs
	byLogin map[loginKey]*burst
	oldest  *list.List // of *burst
}

// loginKey is where a burst comes from.
type loginKey struct{ client, realm, user, station string }

type burst struct {
	key     loginKey
	proof   *proof // of the code that was refused: the one that was typed, if there is one
	tried   method // a set
	expires time.Time
	place   *list.Element // in oldest
}

func newBursts(now func() time.Time) *bursts {
	return &bursts{now: now, byLogin: make(map[loginKey]*burst), oldest: list.New()}
}

// continues reports whether p is one more method for the code that was refused
// last. A method that was tried already is a new try: somebody typed again.
func (b *bursts) continues(key loginKey, p *proof) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire()
	e := b.byLogin[key]
	if e == nil || e.tried&p.method != 0 || !e.proof.sameCode(p) {
		return false
	}
	e.tried |= p.method
	if p.typed != "" {
		e.proof = p
	}
	return true
}

// refused notes that the gate has refused p.
func (b *bursts) refused(key loginKey, p *proof) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expire()
	if e := b.byLogin[key]; e != nil {
		b.remove(e)
	}
	if len(b.byLogin) >= maxBursts {
		b.remove(b.oldest.Front().Value.(*burst))
	}
	e := &burst{key: key, proof: p, tried: p.method, expires: b.now().Add(burstHold)}
	e.place = b.oldest.PushBack(e)
	b.byLogin[key] = e
}

// expire removes what was held long enough. The caller holds b.mu.
func (b *bursts) expire() {
	now := b.now()
	for place := b.oldest.Front(); place != nil; place = b.oldest.Front() {
		e := place.Value.(*burst)
		if now.Before(e.expires) {
			return
		}
		b.remove(e)
	}
}

// remove takes e out. The caller holds b.mu.
func (b *bursts) remove(e *burst) {
	delete(b.byLogin, e.key)
	b.oldest.Remove(e.place)
}

package oidc

import (
	"maps"
	"net/http"
	"net/url"
	"sync"
	"time"

	"otpgate/internal/store"
)

// ClientBytes is what one client may have in the passing store at one time, so
// that a client that pushes without end shuts out nobody but itself. A store
// with room for this much of each client is never full.
//
// It is enough for a bank at its busiest: 100 log-ins a second of which a tenth
// is abandoned are 100/s × 30 s + 10/s × 12.5 min = 10,500 at a time, at 3.4 KiB
// 35 MiB; their assertions, two of a third of a KiB each, are 5 MiB if they live
// for a minute, and 20 MiB if for five. Three DPoP proofs for each, of the same
// size, are 12 MiB, and the access tokens, at 1.3 KiB, 8 MiB.
const ClientBytes = 80 << 20

const (
	// finishingShare of an account, one in so many, is for /token and after it
	// alone: what customers have begun must come to its end, however much more
	// the client would like to begin.
	finishingShare = 8
	// unprovenShare, likewise, is all that strangers can take, who may begin as many
	// log-ins as they like in their browsers: the portal's own go on.
	unprovenShare = 2
	// entryBytes is what an entry takes beside its value: its key, and what an
	// engine adds. roundingDivisor: an engine may round up.
	entryBytes      = 320
	roundingDivisor = 7
)

// account is what one client has in the passing store. Reservations come before the
// entries that they are for, and end no earlier. Safe for concurrent use.
type account struct {
	limit int       // bytes
	start time.Time // with its monotonic reading: a clock that is set moves no reservation

	mu    sync.Mutex    // guards the rest
	taken int           // sum of ends
	ends  map[int64]int // bytes, by the second since start in which they are free
	swept int64         // the second at which ends was looked through
}

func newAccount(now time.Time) *account {
	return &account{limit: ClientBytes, start: now, ends: make(map[int64]int)}
}

func newAccounts(clients map[string]*Client, now time.Time) map[string]*account {
	accounts := make(map[string]*account, len(clients))
	for id := range clients {
		accounts[id] = newAccount(now)
	}
	return accounts
}

// purpose is what a part of an account is for.
type purpose int

const (
	beginning purpose = iota // a log-in: what is asked at /par and /status, or signed
	unproven                 // one that a browser begins with nothing to show that it is new
	finishing                // one at /token, and what is done with its access token
)

// reservation is a part of an account that is taken until a time. It is kept with
// what it was taken for.
type reservation struct {
	Bytes int   `json:"bytes"`
	End   int64 `json:"end"` // seconds since the account's start
}

// reserve takes bytes for life, if the account has as much left for the purpose.
func (a *account) reserve(now time.Time, why purpose, bytes int, life time.Duration) (reservation, bool) {
	limit := a.limit
	switch why {
	case beginning:
		limit -= limit / finishingShare
	case unproven:
		limit /= unprovenShare
	case finishing:
	}
	second := int64(now.Sub(a.start) / time.Second)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sweep(second)
	if a.taken+bytes > limit {
		return reservation{}, false
	}
	return a.take(second, bytes, life), true
}

// exchange gives r back for a part of it that is taken for another life. So what
// comes next can't be refused for want of room.
func (a *account) exchange(now time.Time, r reservation, bytes int, life time.Duration) {
	second := int64(now.Sub(a.start) / time.Second)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sweep(second)
	a.giveBack(r)
	a.take(second, min(bytes, r.Bytes), life)
}

// release gives back what was reserved, once; nothing if its time is over.
func (a *account) release(r reservation) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.giveBack(r)
}

// take takes bytes from second on. The caller holds a.mu.
func (a *account) take(second int64, bytes int, life time.Duration) reservation {
	r := reservation{Bytes: bytes, End: second + int64(life/time.Second) + 2} // both were rounded down
	a.taken += r.Bytes
	a.ends[r.End] += r.Bytes
	return r
}

// giveBack is release. The caller holds a.mu.
func (a *account) giveBack(r reservation) {
	if a.ends[r.End] >= r.Bytes {
		a.ends[r.End] -= r.Bytes
		a.taken -= r.Bytes
	}
}

// sweep frees what has ended. No reservation is longer than that of the uses of a hint,
// some 73 minutes, so ends has at most 4400 members. The caller holds a.mu.
func (a *account) sweep(second int64) {
	if second == a.swept {
		return
	}
	a.swept = second
	maps.DeleteFunc(a.ends, func(end int64, bytes int) bool {
		if end > second {
			return false
		}
		a.taken -= bytes
		return true
	})
}

// errAccountFull is what a client is told that has too much under way.
func errAccountFull() error {
	return (&protocolError{
		status: http.StatusServiceUnavailable, code: temporarilyDown,
		description: "too many log-ins of this client are under way; try again in a minute",
	}).because(store.ErrFull)
}

// entrySize bounds what an entry takes whose value has that many bytes.
func entrySize(value int) int { return value + value/roundingDivisor + entryBytes }

// size bounds what req comes to take: first itself and its loads, then, when
// those are gone, its code, the note of its use and the answer to a second press. The
// access token, which comes after the code, is smaller.
func (p *Provider) size(req *request) int {
	const fixed = 768 // names of members, digests, times, locales
	// JSON may put a backslash before a character, and no more: see encode.
	values := len(req.Details) + 2*(len(req.Client)+len(req.RedirectURI)+len(req.Customer)+len(req.Subject)+len(req.State)+len(req.Nonce)+len(req.ACR)+len(req.Key))
	open := entrySize(values+fixed) + entrySize(maxLoads*loadBytes)
	ended := entrySize(values+fixed+maxACR) + entrySize(len(accessKey(""))) + p.answerSize(req)
	return max(open, ended)
}

// answerSize bounds what the answer to req takes while it is kept.
func (p *Provider) answerSize(req *request) int {
	const (
		fixed       = 640 // as of size; of the claims of an ID token; an error
		signature   = 700 // by an RSA key of 4096 bits, in base64
		base64Three = 4   // bytes for each three
	)
	token := 0
	if req.IDToken {
		claims := len(p.issuer) + 2*(len(req.Client)+len(req.subject())+len(req.Nonce)+len(req.ACR)) + len(req.Details) + fixed
		token = claims*base64Three/3 + signature
	}
	location := p.answer(&req.replyTo, url.Values{"code": {digest("")}}) // as long as a code is
	return entrySize(fixed + len(req.Client) + 2*(len(location.Location)+len(req.State)+len(p.issuer)) + token)
}

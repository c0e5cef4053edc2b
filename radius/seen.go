package radius

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	codec "layeh.com/radius"
)

// maxUnknown is how many addresses of no client are remembered, the one heard
// of longest ago going first: enough to find the gear that was set up wrong.
const maxUnknown = 20

// Seen is what came since the start.
type Seen struct {
	Since   time.Time
	Clients []SeenClient  // by name
	Unknown []SeenUnknown // the latest first
	Refused []SeenRefused // TLS connections, by reason
}

// SeenClient is what came from one client. A packet is in Requests when it
// arrives, and in one of the others when it has been dealt with.
type SeenClient struct {
	Name string
	Last time.Time  // of the last packet; zero: there was none
	From netip.Addr // of the last packet

	Requests   int
	Accepts    int // resent answers too, as below
	Rejects    int
	Challenges int
	Statuses   int            // answers to Status-Server
	Accounts   int            // answers to Accounting-Request
	Dropped    map[string]int // by reason
	Refused    map[string]int // of Rejects those that were not the gate's, by reason

	Unsigned int            // Access-Requests without Message-Authenticator
	Methods  map[string]int // Access-Requests by how the code was shown
}

// SeenUnknown is an address that no client has.
type SeenUnknown struct {
	Address netip.Addr
	Packets int
	Last    time.Time
}

// SeenRefused is what TLS connections were refused for, or ended by.
type SeenRefused struct {
	Reason      string
	Connections int
	From        netip.Addr // of the last; the zero value if it isn't known
	Last        time.Time
}

// Seen returns what came since the first Serve.
func (s *Server) Seen() Seen {
	out := Seen{Since: s.unknown.since()}
	for c := range s.Clients.all {
		out.Clients = append(out.Clients, c.tally.snapshot(c.Name))
	}
	slices.SortFunc(out.Clients, func(a, b SeenClient) int { return cmp.Compare(a.Name, b.Name) })
	out.Unknown = s.unknown.latest()
	out.Refused = s.turnedAway.snapshot()
	return out
}

// received counts a packet of a known client, as it comes in.
func (s *Server) received(d *datagram) {
	d.client.tally.received(d.from.Addr(), d.at)
	s.Metrics.received(d.client.Name, d.buf[:d.n])
}

// tally counts what came from one client.
type tally struct {
	mu   sync.Mutex // guards seen
	seen SeenClient
}

func (t *tally) snapshot(name string) SeenClient {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.seen
	out.Name = name
	out.Dropped, out.Refused, out.Methods = maps.Clone(out.Dropped), maps.Clone(out.Refused), maps.Clone(out.Methods)
	return out
}

func (t *tally) received(from netip.Addr, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen.Requests++
	t.seen.From, t.seen.Last = from.Unmap(), at
}

func (t *tally) unsigned() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen.Unsigned++
}

func (t *tally) method(name string) { t.count(&t.seen.Methods, name) }

func (t *tally) dropped(why reason) { t.count(&t.seen.Dropped, string(why)) }

func (t *tally) refused(why refusal) { t.count(&t.seen.Refused, string(why)) }

// count adds one to a map of t.seen, and makes that for the first.
func (t *tally) count(counts *map[string]int, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if *counts == nil {
		*counts = make(map[string]int)
	}
	(*counts)[name]++
}

// replied counts an answer. That to a Status-Server looks like an Accept.
func (t *tally) replied(request, reply codec.Code) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case request == codec.CodeStatusServer:
		t.seen.Statuses++
	case reply == codec.CodeAccessAccept:
		t.seen.Accepts++
	case reply == codec.CodeAccessReject:
		t.seen.Rejects++
	case reply == codec.CodeAccessChallenge:
		t.seen.Challenges++
	case reply == codec.CodeAccountingResponse:
		t.seen.Accounts++
	}
}

// turnedAway counts the TLS connections that were refused. Its zero value is ready
// to use.
type turnedAway struct {
	mu       sync.Mutex // guards byReason
	byReason map[rejection]SeenRefused
}

func (t *turnedAway) seen(why rejection, from netip.Addr, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byReason == nil {
		t.byReason = make(map[rejection]SeenRefused)
	}
	n := t.byReason[why].Connections + 1
	t.byReason[why] = SeenRefused{Reason: string(why), Connections: n, From: from.Unmap(), Last: at}
}

func (t *turnedAway) snapshot() []SeenRefused {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.SortedFunc(maps.Values(t.byReason), func(a, b SeenRefused) int { return cmp.Compare(a.Reason, b.Reason) })
}

// strangers remembers the addresses that no client has.
type strangers struct {
	mu     sync.Mutex // guards the rest
	start  time.Time
	recent []SeenUnknown // at most maxUnknown, the latest last
}

func (u *strangers) begin(at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.start = at
}

func (u *strangers) since() time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.start
}

func (u *strangers) seen(from netip.Addr, at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := SeenUnknown{Address: from.Unmap()}
	i := slices.IndexFunc(u.recent, func(o SeenUnknown) bool { return o.Address == s.Address })
	if i >= 0 {
		s = u.recent[i]
	} else if len(u.recent) == maxUnknown {
		i = 0
	}
	if i >= 0 {
		u.recent = slices.Delete(u.recent, i, i+1)
	}
	s.Packets++
	s.Last = at
	u.recent = append(u.recent, s)
}

func (u *strangers) latest() []SeenUnknown {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := slices.Clone(u.recent)
	slices.Reverse(out)
	return out
}

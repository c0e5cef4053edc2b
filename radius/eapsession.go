package radius

import (
	"container/list"
	"crypto/rand"
	"sync"
	"time"

	"otpgate/radius/eap"
)

const (
	// eapHold is how long a session may take, from its first packet to its last:
	// the handshake, and a person who waits for the next code of 30 s.
	eapHold = time.Minute
	// maxEAPSessions bounds the sessions that are open, at some 60 KiB each, what
	// TLS takes, to 120 MiB. A session takes a second, or ten where somebody types
	// during it: 200 log-ins a second, or a flood.
	maxEAPSessions = 2048
	// maxClientEAPSessions bounds those of one client, so that a flood through one
	// leaves three quarters to the others.
	maxClientEAPSessions = maxEAPSessions / 4
	// maxStationEAPSessions bounds those of one station, where the client tells it: a
	// device that begins anew every 4 s leaves as many behind, and a few people may
	// be behind one address.
	maxStationEAPSessions = 16
	// maxNameEAPSessions bounds those of one User-Name. In a tunnel all people may be
	// called anonymous, so they get half of what their client has.
	maxNameEAPSessions = maxClientEAPSessions / 2

	// eapStateLength is the octets of a State: what nobody can guess.
	eapStateLength = 16
)

// result is how a session ended: a label in otpgate_radius_eap_sessions_ended_total.
type result string

// The results.
const (
	eapAccepted  result = "accepted"
	eapRejected  result = "rejected" // what was shown
	eapEndedBad  result = "failed"   // without anything shown, or after it was accepted
	eapExpired   result = "expired"
	eapPushedOut result = "pushed_out" // by the client's own newer ones
	eapStopped   result = "stopped"    // by Shutdown
	eapFault     result = "fault"
)

// ending is how a session ended, and by which method. Its zero value: it has not.
type ending struct {
	result result
	method string
}

// eapSessions holds the EAP sessions that are open, each under a random State of
// its own, in this process alone: TLS can't be sealed into a State. A session
// leaves when it has ended, after eapHold, or when its client has begun too many
// after it; no client pushes out another's. Those in which nothing but a name has
// come go first: they cost nothing to begin. One station or one name that has begun
// its share is refused, so that nobody pushes out the others alone.
type eapSessions struct {
	now     func() time.Time
	metrics *Metrics

	mu       sync.Mutex // guards the rest, and where it says so the sessions
	byState  map[[eapStateLength]byte]*eapSession
	oldest   *list.List                 // of *eapSession
	byClient map[string]*clientSessions // by name
	closed   bool
}

// clientSessions are those of one client.
type clientSessions struct {
	named    *list.List     // of *eapSession, oldest first: nothing but a name has come
	underWay *list.List     // of *eapSession, oldest first
	stations map[string]int // how many each has
	names    map[digest]int // how many each folded User-Name has
}

func newClientSessions() *clientSessions {
	return &clientSessions{named: list.New(), underWay: list.New(), stations: make(map[string]int), names: make(map[digest]int)}
}

func (c *clientSessions) count() int { return c.named.Len() + c.underWay.Len() }

// first is which goes first; there must be one.
func (c *clientSessions) first() *eapSession {
	if place := c.named.Front(); place != nil {
		return place.Value.(*eapSession)
	}
	return c.underWay.Front().Value.(*eapSession)
}

// eapSession is one of them. Who has taken it owns what isn't guarded.
type eapSession struct {
	state  [eapStateLength]byte
	client *client
	eap    *eap.Session

	user     string // the User-Name of all its requests; "": none has come
	begun    bool   // it has had an answer
	at       *progress
	verdict  verdict // of who was accepted
	rejected bool

	// Guarded by eapSessions.mu:
	expires time.Time
	taken   bool
	removed bool
	place   *list.Element // in oldest
	list    *list.List    // of clientSessions
	own     *list.Element // in list
	station string        // "": the client doesn't tell
	name    digest        // of the folded User-Name; zero: none has come
}

func newEAPSessions(now func() time.Time, metrics *Metrics) *eapSessions {
	return &eapSessions{
		now: now, metrics: metrics, byState: make(map[[eapStateLength]byte]*eapSession),
		oldest: list.New(), byClient: make(map[string]*clientSessions),
	}
}

// begin adds a session of a station and a User-Name, if they are known, which the
// caller has taken.
func (t *eapSessions) begin(c *client, station, user string, session *eap.Session) (*eapSession, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire()
	own := t.byClient[c.Name]
	if own == nil {
		own = newClientSessions()
		t.byClient[c.Name] = own
	}
	name := eapName(user)
	if station != "" && own.stations[station] >= maxStationEAPSessions || user != "" && own.names[name] >= maxNameEAPSessions {
		session.Close()
		return nil, eapCrowded
	}
	if n := own.count(); n >= maxClientEAPSessions || len(t.byState) >= maxEAPSessions && n > 0 {
		t.remove(own.first(), ending{result: eapPushedOut})
	}
	if t.closed || len(t.byState) >= maxEAPSessions {
		session.Close()
		return nil, eapBusy
	}
	e := &eapSession{client: c, eap: session, user: user, expires: t.now().Add(eapHold), taken: true, list: own.named, station: station}
	_, _ = rand.Read(e.state[:]) // never fails
	t.byState[e.state] = e
	e.place, e.own = t.oldest.PushBack(e), e.list.PushBack(e)
	own.stations[station]++
	e.countName(own, name)
	t.metrics.eapOpen.Inc()
	return e, nil
}

// eapName is the key of a User-Name, however it is written. Zero: none.
func eapName(user string) digest {
	if user == "" {
		return digest{}
	}
	return digestOf(nil, folded(user))
}

// countName counts the session under its User-Name, once it has one. The caller
// holds t.mu.
func (e *eapSession) countName(own *clientSessions, name digest) {
	if e.name == (digest{}) && name != (digest{}) {
		e.name = name
		own.names[name]++
	}
}

// take returns the session of a State, if it is this client's and user's. One
// that is taken is answering another packet, and this one isn't the next.
func (t *eapSessions) take(state []byte, c *client, user string) (*eapSession, error) {
	if len(state) != eapStateLength {
		return nil, eapSessionUnknown
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire()
	e := t.byState[[eapStateLength]byte(state)]
	switch {
	case e == nil:
		return nil, eapSessionUnknown
	case e.client != c:
		return nil, eapSessionForeign
	case e.taken:
		return nil, eapIgnored
	case e.user != "" && e.user != user: // RFC 3579 §2.1: it is the same in each
		return nil, eapSessionForeign
	}
	e.user, e.taken = user, true
	e.countName(t.byClient[c.Name], eapName(user))
	return e, nil
}

// release gives a session back, or ends it.
func (t *eapSessions) release(e *eapSession, how ending) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.taken = false
	switch {
	case e.removed:
		e.eap.Close()
	case how.result != "":
		t.remove(e, how)
	case e.eap.Committed():
		e.moveTo(t.byClient[e.client.Name].underWay)
	}
}

// moveTo puts e behind the others of a list. The caller holds t.mu.
func (e *eapSession) moveTo(l *list.List) {
	if e.list != l {
		e.list.Remove(e.own)
		e.list, e.own = l, l.PushBack(e)
	}
}

// close ends all. Those that are taken are closed by who releases them.
func (t *eapSessions) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for place := t.oldest.Front(); place != nil; place = t.oldest.Front() {
		t.remove(place.Value.(*eapSession), ending{result: eapStopped})
	}
}

// expire removes what has taken too long. The caller holds t.mu.
func (t *eapSessions) expire() {
	now := t.now()
	for place := t.oldest.Front(); place != nil; place = t.oldest.Front() {
		e := place.Value.(*eapSession)
		if now.Before(e.expires) {
			return
		}
		t.remove(e, ending{result: eapExpired})
	}
}

// remove takes e out. The caller holds t.mu.
func (t *eapSessions) remove(e *eapSession, how ending) {
	delete(t.byState, e.state)
	t.oldest.Remove(e.place)
	e.list.Remove(e.own)
	own := t.byClient[e.client.Name]
	decrement(own.stations, e.station)
	decrement(own.names, e.name)
	e.removed = true
	if !e.taken {
		e.eap.Close()
	}
	t.metrics.eapOpen.Dec()
	t.metrics.eapEnded.WithLabelValues(e.client.Name, string(how.result), how.method).Inc()
}

// decrement takes one from a count, which goes when it is none.
func decrement[K comparable](counts map[K]int, key K) {
	if counts[key]--; counts[key] <= 0 {
		delete(counts, key)
	}
}

// ending is how a session ended by its last step.
func (e *eapSession) ending(step eap.Step) ending {
	switch {
	case step.Status == eap.Continue:
		return ending{}
	case step.Status == eap.Success:
		return ending{eapAccepted, step.Method}
	case e.rejected:
		return ending{eapRejected, step.Method}
	}
	return ending{eapEndedBad, step.Method}
}

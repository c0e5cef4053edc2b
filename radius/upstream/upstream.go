// Package upstream asks another RADIUS server, over UDP and by PAP, whether a
// password is right: a first factor that lives elsewhere, such as the server of
// the tokens that people had before.
//
//		question ─► encode ──► server 1 ─ resend ─ resend … ─┐
//		            request.go    └ silent: server 2 ─ …     ├─► first good reply ─► answer
//		                             └ silent: server 3 …    ┘   reply.go
//		                        exchange.go, servers.go
//
//	  - A question has one datagram, which all servers get: the first, after a third
//	    of the time-out the next as well, and so on. Whoever answers first is heard,
//	    servers that were turned away from included.
//	  - The answer to a challenge goes to the server that has challenged, and to no
//	    other: the State means nothing elsewhere (servers.go).
//	  - Each server that is asked has a connected socket of its own until the question
//	    is answered. So the kernel drops what comes from another address, every
//	    question has all identifiers and a port that nobody can guess, and a late
//	    reply finds nobody. What that costs is bounded by maxInFlight.
//	  - A reply counts if it has the question's identifier, a right Response
//	    Authenticator and a right Message-Authenticator. Every other one is dropped,
//	    and counted by its reason (reason.go); a good one may still come.
//	  - Nobody answered: that is an error, never a Reject.
//
// What it doesn't own: what an answer is worth (the radius door and the gate), and
// who may wait for one. It tries nothing that isn't asked: there is no Status-Server.
package upstream

import (
	"context"
	"crypto/fips140"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

const (
	// MaxServers is how many servers one name may stand for. Within a time-out
	// three are asked, or more of those that refuse at once.
	MaxServers = 8
	// maxInFlight is how many questions may be under way: half of what the door lets
	// wait in all (package radius), so that servers that are silent leave the rest
	// to others. With three sockets each they take 384 file descriptors then. Of
	// servers that answer within 10 ms it is 12,800 questions a second.
	maxInFlight = 128
)

var (
	errNoAnswer = errors.New("no RADIUS server has answered")
	errBusy     = fmt.Errorf("%w: %d questions are waiting already", errNoAnswer, maxInFlight)
)

// Question is one Access-Request. It doesn't print its password.
type Question struct {
	User, Password string
	// State is that of the Answer which Password answers; nil at the beginning.
	State []byte
	// NASIdentifier is the gear's that asks; empty: it has none.
	NASIdentifier    string
	CallingStationID string // may be empty
}

// Format implements fmt.Formatter, for every verb.
func (q Question) Format(f fmt.State, _ rune) { _, _ = fmt.Fprintf(f, "question about %q", q.User) }

// LogValue implements slog.LogValuer.
func (q Question) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(q)) }

// Kind is what the other server has said.
type Kind int

// The kinds of answers.
const (
	Reject Kind = iota // the zero value: what isn't an Accept lets nobody pass
	Accept
	Challenge
)

func (k Kind) String() string {
	switch k {
	case Accept:
		return "accept"
	case Challenge:
		return "challenge"
	default:
		return "reject"
	}
}

// Answer is what the other server has said. Nothing that is hidden under the
// secret shared with it (MPPE keys) is among it.
type Answer struct {
	Kind Kind
	// Message is what a challenge has people read: one printable line of at most
	// MaxMessage octets.
	Message string
	Echo    bool // what is typed in answer to a challenge may be seen
	// State goes into the Question that answers a challenge. It is at most 254
	// octets, and says which server has challenged besides what that has sent.
	State []byte
	Class [][]byte // of an accept, at most maxClasses
}

// Secret is the secret shared with the servers. It doesn't print itself.
type Secret []byte

const hidden = "[hidden]"

// Format implements fmt.Formatter, for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hidden)) }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText implements encoding.TextMarshaler, for JSON and YAML.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Config is what a Client needs. All fields are required.
type Config struct {
	Name    string           // for the metrics
	Servers []netip.AddrPort // 1 to MaxServers, the preferred first; the same on every node
	Secret  Secret
	// Timeout bounds a question. Gear waits 3 s and more for our own answer.
	Timeout time.Duration
	// RequireMessageAuthenticator drops a reply without that attribute. Without
	// it, whoever can alter packets on the way can turn a Reject into an Accept
	// (CVE-2024-3596).
	RequireMessageAuthenticator bool
	// Dial opens a connected UDP socket, as net.Dialer's DialContext does.
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
	Now     func() time.Time // of the clock that the sockets' deadlines go by
	Metrics *Metrics
}

// Client asks. It is safe for concurrent use.
type Client struct {
	Config
	servers  *servers
	inFlight chan struct{} // holds one for each question under way
}

var errFIPS = errors.New("asking a RADIUS server over UDP needs MD5, which GODEBUG=fips140=only forbids: run with fips140=on, or without such a first factor")

// New returns a Client, or says why c can't be used.
func New(c Config) (*Client, error) {
	switch {
	case fips140.Enforced():
		return nil, errFIPS
	case len(c.Servers) == 0 || len(c.Servers) > MaxServers:
		return nil, fmt.Errorf("%d RADIUS servers to ask, want 1 to %d", len(c.Servers), MaxServers)
	case len(c.Secret) == 0: // RFC 2865 §3: MUST NOT be empty
		return nil, errors.New("the secret shared with the RADIUS servers to ask is empty")
	case c.Timeout <= 0:
		return nil, fmt.Errorf("a time-out of %s for the RADIUS servers to ask", c.Timeout)
	}
	return &Client{Config: c, servers: newServers(c.Servers, c.Now), inFlight: make(chan struct{}, maxInFlight)}, nil
}

// Ask returns what the servers say. An error says that none has answered within
// the time-out, and about each why, or that too many questions wait already; it
// also wraps ctx's cause if ctx has ended before. What doesn't fit into an
// Access-Request is nobody's password: a Reject.
func (c *Client) Ask(ctx context.Context, q Question) (Answer, error) {
	select {
	case c.inFlight <- struct{}{}:
		defer func() { <-c.inFlight }()
	default:
		c.Metrics.unanswered.WithLabelValues(c.Name).Inc()
		return Answer{}, errBusy
	}
	order, state, ok := c.servers.route(q.State)
	if !ok {
		return Answer{}, nil
	}
	q.State = state
	request, ok, err := encode(q, c.Secret)
	if err != nil || !ok {
		return Answer{}, err
	}
	answer, err := c.exchange(ctx, request, order)
	if err != nil {
		c.Metrics.unanswered.WithLabelValues(c.Name).Inc()
		return Answer{}, err
	}
	c.Metrics.answers.WithLabelValues(c.Name, answer.Kind.String()).Inc()
	return answer, nil
}

// Package eap is the authenticator's side of EAP (RFC 3748): it leads the
// conversation with a peer up to the proof of a code, has that judged, and says
// whether the peer is in and with which key.
//
//	Session ─► conversation ─► method
//	eap.go     conversation.go   ├ gtc.go       GTC (RFC 3748 §5.6): a text that somebody typed
//	                             ├ mschapv2.go  MSCHAPv2 (draft-kamath-pppext-eap-mschapv2)
//	                             └ tunnel.go    TLS: fragment.go (its messages), tls.go (its records)
//	                                 ├ ttls.go  TTLS (RFC 5281): avp.go; PAP, MS-CHAP-V2, or EAP again
//	                                 └ peap.go  PEAP version 0 (MS-PEAP): EAP again, then a result
//
// A session is in one of these states:
//
//	new ─► identity known ─► method proposed ⇄ Nak ─► method under way ⇄ asked again ─► Success or Failure
//
// and each packet moves it one step, or is not an answer to what was asked last:
// then it is discarded (RFC 3748 §4.1), and the state stays. A conversation in a
// tunnel goes the same way, under the same rules.
//
//   - The proof is judged once, by the function that Next is given. After it has
//     failed to judge, the session stays where it is, and gives the same error
//     to whatever comes.
//   - What a peer sends has bounds: the rounds, each message, the names, the
//     texts. Who goes over one fails.
//   - TLS is crypto/tls, 1.2 and 1.3, on a connection in memory. It resumes
//     nothing, since a code is for one log-in. A key that isn't bound to both
//     sides (RFC 7627) can't be had, so such a peer fails before its code is
//     used up.
//
// What it does not own: RADIUS; who somebody is and whether a code is right;
// when a session is forgotten. It keeps no time and starts no goroutine that
// outlives Close.
package eap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"

	"otpgate/radius/mschap"
)

// maxRounds is how many packets a session may take, discarded ones too. At the
// smallest fragments that gear asks for a chain of three certificates needs some
// 60, and a person who is asked for a code, a PIN and the next code three.
const maxRounds = 120

// Method is an EAP method type (RFC 3748 §6.2).
type Method byte

// The methods that can be offered.
const (
	GTC      Method = 6
	TTLS     Method = 21
	PEAP     Method = 25
	MSCHAPv2 Method = 26
)

func (m Method) String() string {
	switch m {
	case GTC:
		return "GTC"
	case TTLS:
		return "TTLS"
	case PEAP:
		return "PEAP"
	case MSCHAPv2:
		return "MSCHAPv2"
	default:
		return "other"
	}
}

// Errors of Next that leave the session as it was, or for good.
var (
	// ErrDiscarded is of a packet that RFC 3748 §4.1 says to discard silently.
	ErrDiscarded = errors.New("eap: not an answer to what was asked last")
	// ErrEnded is of a session that has had its Success or Failure.
	ErrEnded = errors.New("eap: the session has ended")

	errBroken = errors.New("eap: a fault in the session, which ended it")
)

// Proof is what a peer shows that it knows the code. It has either a text or a
// response.
type Proof struct {
	Identity string // in the tunnel, if there is one
	Tunnel   string // "TTLS", "PEAP"; empty: there is none
	Method   string // within the tunnel, or alone
	Typed    string
	MSCHAPv2 *mschap.Response // nil: Typed
	CanAsk   bool             // the peer can be asked for something more
}

// Name is the method's, with its tunnel.
func (p *Proof) Name() string {
	if p.Tunnel == "" {
		return "EAP-" + p.Method
	}
	return p.Tunnel + "/" + p.Method
}

// Verdict is what became of a proof.
type Verdict struct {
	Kind   VerdictKind
	Prompt string // with Ask: what the person reads
}

// VerdictKind is one of the verdicts.
type VerdictKind int

// The verdicts. Ask is for a Proof that CanAsk.
const (
	Reject VerdictKind = iota
	Accept
	Ask
)

// Decide judges a proof; an error means that nobody could.
type Decide func(ctx context.Context, p *Proof) (Verdict, error)

// Config is what sessions have in common.
type Config struct {
	methods     []Method
	certificate tls.Certificate
}

// NewConfig returns the sessions that offer methods, in this order. The tunnels
// need the certificate.
func NewConfig(methods []Method, certificate tls.Certificate) (*Config, error) {
	if len(methods) == 0 {
		return nil, errors.New("eap: there is no method to offer")
	}
	for i, m := range methods {
		switch {
		case m.String() == "other":
			return nil, fmt.Errorf("eap: type %d is no method that can be offered", m)
		case slices.Contains(methods[:i], m):
			return nil, fmt.Errorf("eap: %s is there twice", m)
		case (m == TTLS || m == PEAP) && len(certificate.Certificate) == 0:
			return nil, fmt.Errorf("eap: %s needs a certificate", m)
		}
	}
	return &Config{slices.Clone(methods), certificate}, nil
}

// Status is how a session stands.
type Status int

// Where a session can stand.
const (
	Continue Status = iota
	Success
	Failure
)

// Step is what the peer is sent.
type Step struct {
	Packet []byte
	Status Status
	// MSK is the key of a method that has one, with Success: its first half is
	// what the authenticator receives with, its second what it sends with.
	MSK []byte
	// Method is by which method it ended, as in Proof.Name; empty: none had begun.
	Method string
	// Cause is why it ended with Failure, where more is known than that it did.
	Cause Cause
}

// Cause is what a peer didn't want.
type Cause int

// The causes. Unknown is every other, a Reject too.
const (
	Unknown            Cause = iota
	MethodUnwanted           // none of those that are offered
	CertificateRefused       // by a TLS alert
)

// Session is one conversation. One goroutine uses it at a time.
type Session struct {
	talk     *conversation
	rounds   int
	fragment int
	err      error // why it can't go on
	shown    string
}

// NewSession returns a session, for the caller to Close, in which prompt is what
// somebody who types reads first.
func (c *Config) NewSession(prompt string) *Session {
	s := &Session{}
	s.talk = newConversation(c.methods, func(m Method) method {
		switch m {
		case TTLS:
			return newTunnel(c.certificate, &s.fragment, func(r *records) inside { return newTTLS(r, prompt) })
		case PEAP:
			return newTunnel(c.certificate, &s.fragment, func(*records) inside { return newPEAP(prompt) })
		default:
			return leaf(m, prompt)
		}
	})
	return s
}

// inTunnel begins the conversation in a tunnel. GTC comes first, since it can ask
// anything; a peer that has only MSCHAPv2 says so.
func inTunnel(prompt string) *conversation {
	return newConversation([]Method{GTC, MSCHAPv2}, func(m Method) method { return leaf(m, prompt) })
}

// leaf returns a method that goes in a tunnel as well as alone.
func leaf(m Method, prompt string) method {
	if m == MSCHAPv2 {
		return newMSCHAPv2()
	}
	return &gtc{prompt: prompt}
}

// Start returns the request that asks the peer who it is. A peer that has said
// so of its own accord is not asked.
func (s *Session) Start() Step { return Step{Packet: s.talk.askIdentity().encode()} }

// Next takes a packet from the peer and returns what to send it, in packets of
// at most fragment octets while there is a choice.
func (s *Session) Next(ctx context.Context, b []byte, fragment int, decide Decide) (Step, error) {
	if s.err != nil {
		return Step{}, s.err
	}
	if s.rounds++; s.rounds > maxRounds {
		return s.end(lastIdentifier(b), turn{status: Failure}), nil
	}
	p, err := parse(b)
	if err != nil {
		return Step{}, err
	}
	s.fragment = max(fragment, minFragment)
	s.err = errBroken // a panic leaves it so
	t, err := s.talk.next(ctx, p, s.remember(decide))
	switch {
	case errors.Is(err, ErrDiscarded):
		s.err = nil
		return Step{}, err
	case err != nil:
		s.err = err
		return Step{}, err
	case t.status != Continue:
		return s.end(p.identifier, t), nil
	}
	s.err = nil
	return Step{Packet: t.request.encode()}, nil
}

// Failed is the Failure to a packet of which there is no session.
func Failed(b []byte) []byte {
	return packet{code: codeFailure, identifier: lastIdentifier(b)}.encode()
}

// Committed reports whether the peer has gone further than to say who it is: a
// method is under way.
func (s *Session) Committed() bool { return s.talk.committed }

// Close frees what the session holds.
func (s *Session) Close() { s.talk.close() }

// remember notes by which method a proof came.
func (s *Session) remember(decide Decide) Decide {
	return func(ctx context.Context, p *Proof) (Verdict, error) {
		s.shown = p.Name()
		return decide(ctx, p)
	}
}

// end is the last step. RFC 3748 §4.2: its identifier is that of the response.
func (s *Session) end(identifier byte, t turn) Step {
	s.err = ErrEnded
	last := packet{code: codeFailure, identifier: identifier}
	if t.status == Success {
		last.code = codeSuccess
	}
	name := s.shown
	if name == "" && s.talk.proposed != 0 {
		name = s.talk.proposed.String()
	}
	return Step{Packet: last.encode(), Status: t.status, MSK: t.msk, Method: name, Cause: t.cause}
}

package radius

import (
	"context"
	"fmt"

	"otpgate/verifier"
)

// Mode is what a client's people type, and when.
type Mode int

// The modes.
const (
	// ModeOTP takes the code alone.
	ModeOTP Mode = iota
	// ModePasswordOTP takes the first factor and the code in one field.
	ModePasswordOTP
	// ModeChallenge takes the first factor, and then asks for the code.
	ModeChallenge
)

// stage is what a log-in waits for.
type stage byte

// The stages. Each but the first is entered by asking the person.
const (
	stageFirst    stage = iota // what the client's mode has people type first
	stageUpstream              // the answer to the other server's challenge
	stageCode
	stageNextCode
	stagePIN      // a new PIN
	stagePINAgain // the same once more
)

// maxMistakes is how often a new PIN may be mistyped or be one that isn't
// allowed. Each dialogue costs a code, so people should get it right in one.
const maxMistakes = 3

// progress is how far one log-in has come. Between two requests it is sealed in a
// State (state.go), or lives in an EAP session.
//
//	              ┌────────────┐ the other server asks
//	              ▼            │
//	first ──► (factor) ──► upstream
//	  │           │            │
//	  │           ▼            ▼
//	  │         code ◄─────────┘       the same, whether the factor was right or wrong
//	  │           │
//	  └────────► (gate) ──► next code ──► (gate)
//	              │
//	              ▼ accepted, but the PIN is yet to be chosen
//	             PIN ◄──► PIN again ──► accepted
type progress struct {
	who    subject
	stage  stage
	factor verifier.FirstFactor // as far as it is known
	// upstream is the other server's State, at stageUpstream.
	upstream []byte
	class    [][]byte           // of the Accept of a server that vouches, for ours; never at another step
	ticket   verifier.PINTicket // from stagePIN on: lets the person choose a PIN
	pin      Secret             // at stagePINAgain
	mistakes int                // in choosing a PIN
}

// verdict is what became of one step. Its zero value is a rejection.
type verdict struct {
	kind   verdictKind
	groups []string // of the person who was accepted
	prompt prompt   // what the person is asked
}

type verdictKind int

const (
	rejected verdictKind = iota
	accepted
	asked // and the progress tells what comes next
)

// begin is a log-in that has just begun.
func begin(who subject) *progress { return &progress{who: who} }

// proceed takes a log-in one step on with what the person showed: the one way for
// every method. The error is a refusal, for which the door rejects, or wraps a
// reason, for which the packet is dropped; at is then as before.
func (s *Server) proceed(ctx context.Context, r *request, at *progress, p *proof) (verdict, error) {
	atOnce := at.stage == stageFirst && r.client.takesCodeAtOnce(p)
	key := loginKey{r.client.Name, at.who.realm, at.who.user, r.station()}
	if atOnce && s.bursts.continues(key, p) {
		return verdict{}, sameCode
	}
	if !s.users.allow(r.client.Name, at.who.realm, at.who.user) {
		return verdict{}, userTooFast
	}
	next := *at
	v, err := s.step(ctx, r, &next, p)
	if err != nil {
		return verdict{}, err
	}
	*at = next
	if atOnce && v.kind == rejected {
		s.bursts.refused(key, p)
	}
	return v, nil
}

func (s *Server) step(ctx context.Context, r *request, at *progress, p *proof) (verdict, error) {
	switch at.stage {
	case stageFirst:
		return s.first(ctx, r, at, p)
	case stageUpstream:
		return s.askUpstream(ctx, r, at, p, p.typed, nil)
	case stageCode, stageNextCode:
		return s.askGate(ctx, r, at, p, p.match)
	default:
		return s.newPIN(ctx, r, at, p)
	}
}

// takesCodeAtOnce reports whether what is shown first is the code alone. With
// nothing to ask for before it, a method that can't ask needn't.
func (c *client) takesCodeAtOnce(p *proof) bool {
	return c.Mode == ModeOTP || c.Mode == ModeChallenge && c.FirstFactor.none() && !p.canAsk
}

// first takes what the client's mode has people type first.
func (s *Server) first(ctx context.Context, r *request, at *progress, p *proof) (verdict, error) {
	c := r.client
	if c.FirstFactor.Migrating && p.isTyped {
		may, err := s.Gate.MayBeVouchedFor(ctx, at.who.realm, at.who.user)
		if err != nil {
			return verdict{}, fmt.Errorf("%w: %w", noDecision, err)
		}
		if may {
			at.factor.Vouches = true
			return s.askUpstream(ctx, r, at, p, p.typed, nil)
		}
	}
	switch {
	case c.takesCodeAtOnce(p):
		return s.askGate(ctx, r, at, p, p.match)
	case !p.isTyped, c.Mode == ModeChallenge && !p.canAsk:
		return verdict{}, p.impossible()
	case c.Mode == ModeChallenge && c.FirstFactor.none():
		return at.ask(stageCode, promptCode), nil
	case c.Mode == ModeChallenge:
		return s.checkFactor(ctx, r, at, p, p.typed, nil)
	}
	return s.passwordAndCode(ctx, r, at, p)
}

// ask puts a question, and what comes next is its answer. A code may be seen while
// it is typed: it is used up by the time that somebody who looks over a shoulder
// could try it.
func (at *progress) ask(next stage, q message) verdict {
	at.stage = next
	return verdict{kind: asked, prompt: prompt{message: q, echo: next == stageCode || next == stageNextCode}}
}

// attempt is what the gate is asked. A first factor that was wrong reaches no
// code, whatever the gate compares.
func (r *request) attempt(at *progress, match verifier.Match) verifier.Attempt {
	if at.factor.Kind != "" && (at.factor.Verdict == verifier.FactorWrong || at.factor.Vouches) {
		match = verifier.Typed("")
	}
	factor := at.factor
	if factor.Kind != "" {
		factor.Name = r.client.FirstFactor.Name
	}
	return verifier.Attempt{
		Realm:       at.who.realm,
		User:        at.who.user,
		Match:       match,
		FirstFactor: factor,
		FactorNoted: at.stage == stageCode && at.factor.Kind != "",
		Door:        door,
		Client:      r.client.Name,
		From:        r.station(),
		Resends:     true,
	}
}

// askGate asks the gate for its decision. The groups are fetched before, since
// whoever is accepted has to get in, and for a wrong first factor too, since the
// time must not tell.
func (s *Server) askGate(ctx context.Context, r *request, at *progress, p *proof, match verifier.Match) (verdict, error) {
	groups, err := s.directoryGroups(ctx, r.client, at.who)
	if err != nil {
		return verdict{}, err
	}
	result, err := s.Gate.Verify(ctx, r.attempt(at, match))
	if err != nil {
		return verdict{}, fmt.Errorf("%w: %w", noDecision, err)
	}
	switch result.Outcome {
	case verifier.Accepted:
		if result.PINWanted {
			return at.offerPIN(result.PINTicket, p)
		}
		return verdict{kind: accepted, groups: s.Realms[at.who.realm].join(result.Groups, groups)}, nil
	case verifier.NextCode:
		// Without a right first factor it would tell a guesser that he has a code.
		if at.factor.Verdict == verifier.FactorRight && p.canAsk && at.stage != stageNextCode {
			return at.ask(stageNextCode, promptNextCode), nil
		}
	default:
	}
	return verdict{}, nil
}

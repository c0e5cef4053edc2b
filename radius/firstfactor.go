package radius

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"layeh.com/radius/rfc2865"

	"otpgate/radius/upstream"
	"otpgate/verifier"
)

// maxWaiting is how many requests may wait for a directory or another server at
// once: half of the workers, so that one that hangs leaves the others to people
// who need only their code.
const maxWaiting = workers / 2

// FirstFactor is what a client's people show besides the code. At most one of its
// kinds is set; none: nothing.
type FirstFactor struct {
	Name      string // in gateway.yaml, for the audit log; empty: its kind says it
	PIN       bool
	Directory Directory
	Upstream  Upstream
	// Migrating, with Upstream, lets people who have never had a token in service
	// here pass by the other server's answer alone.
	Migrating bool
}

// Directory knows people by a password.
type Directory interface {
	// Check says whether it is the user's password. An empty one never is. An
	// error means that nobody could say.
	Check(ctx context.Context, user, password string) (right bool, err error)
	// Groups returns the groups of the user, none if there is no such user.
	Groups(ctx context.Context, user string) ([]string, error)
}

// Upstream is another RADIUS server.
type Upstream interface {
	// Ask returns its answer. An error means that there is none.
	Ask(ctx context.Context, q upstream.Question) (upstream.Answer, error)
}

func (f FirstFactor) none() bool { return !f.PIN && f.Directory == nil && f.Upstream == nil }

// check returns what is wrong with a client's mode and first factor.
func (c Client) checkMode() error {
	f, kinds := c.FirstFactor, 0
	for _, set := range []bool{f.PIN, f.Directory != nil, f.Upstream != nil} {
		if set {
			kinds++
		}
	}
	switch {
	case kinds > 1:
		return fmt.Errorf("RADIUS client %q has more than one first factor", c.Name)
	case f.Migrating && f.Upstream == nil:
		return fmt.Errorf("RADIUS client %q migrates from no other server", c.Name)
	case c.Mode == ModeOTP && kinds > 0 && !f.Migrating:
		return fmt.Errorf("RADIUS client %q has a first factor, but takes the code alone", c.Name)
	case c.Mode == ModePasswordOTP && kinds == 0:
		return fmt.Errorf("RADIUS client %q takes a password with the code, but has no first factor", c.Name)
	}
	return nil
}

// passwordAndCode takes both from one field. What can't have a code in it is a
// wrong first factor: nobody is asked about it, so that a password that was typed
// alone doesn't count as a wrong one where it is checked.
func (s *Server) passwordAndCode(ctx context.Context, r *request, at *progress, p *proof) (verdict, error) {
	digits, err := s.Gate.CodeDigits(ctx, at.who.realm, at.who.user)
	if err != nil {
		return verdict{}, fmt.Errorf("%w: %w", noDecision, err)
	}
	password, code, ok := split(p.typed, digits, r.client.CodeFirst)
	if !ok {
		at.factor = verifier.FirstFactor{Kind: r.client.FirstFactor.kind(), Verdict: verifier.FactorWrong}
		return s.askGate(ctx, r, at, p, verifier.Typed(""))
	}
	return s.checkFactor(ctx, r, at, p, password, verifier.Typed(code))
}

// split takes a code of so many digits off what was typed, at its end or at its
// beginning. Digits may be full-width, as Japanese keyboards have them; those of
// the password stay as they are.
func split(typed string, digits int, codeFirst bool) (password, code string, ok bool) {
	at := 0
	for range digits {
		var size int
		var c rune
		if codeFirst {
			c, size = utf8.DecodeRuneInString(typed[at:])
		} else {
			c, size = utf8.DecodeLastRuneInString(typed[:len(typed)-at])
		}
		if !isDigit(c) {
			return "", "", false
		}
		at += size
	}
	if codeFirst {
		return typed[at:], typed[:at], true
	}
	return typed[:len(typed)-at], typed[len(typed)-at:], true
}

func isDigit(c rune) bool { return '0' <= c && c <= '9' || '\uff10' <= c && c <= '\uff19' }

func (f FirstFactor) kind() verifier.FactorKind {
	switch {
	case f.PIN:
		return verifier.FactorPIN
	case f.Directory != nil:
		return verifier.FactorLDAP
	case f.Upstream != nil:
		return verifier.FactorRADIUS
	}
	return ""
}

// checkFactor checks the first factor, and goes on with the code; nil: that is
// asked for next.
func (s *Server) checkFactor(ctx context.Context, r *request, at *progress, p *proof, password string, code verifier.Match) (verdict, error) {
	at.factor.Kind = r.client.FirstFactor.kind()
	switch f := r.client.FirstFactor; {
	case !isText([]byte(password)), password == "" && f.Directory != nil:
		// Nobody's password, and nothing to send on: to a directory an empty one
		// means anybody (RFC 4513 §5.1.2).
		at.factor.Verdict = verifier.FactorWrong
	case f.PIN:
		given, err := s.Gate.CheckPIN(ctx, at.who.realm, at.who.user, verifier.Normalise(password))
		if err != nil {
			return verdict{}, fmt.Errorf("%w: %w", noDecision, err)
		}
		if at.factor.Verdict = given; given == verifier.FactorUnset && code != nil && password != "" {
			at.factor.Verdict = verifier.FactorWrong // there is nothing that it could be
		}
	case f.Directory != nil:
		right, err := s.checkPassword(ctx, f.Directory, at.who, password)
		if err != nil {
			return verdict{}, err
		}
		at.factor.Verdict = verdictOf(right)
	default:
		return s.askUpstream(ctx, r, at, p, password, code)
	}
	return s.goOn(ctx, r, at, p, code)
}

// goOn follows the first factor, however it was.
func (s *Server) goOn(ctx context.Context, r *request, at *progress, p *proof, code verifier.Match) (verdict, error) {
	if code == nil {
		return at.ask(stageCode, promptCode), nil
	}
	return s.askGate(ctx, r, at, p, code)
}

func verdictOf(right bool) verifier.FactorVerdict {
	if right {
		return verifier.FactorRight
	}
	return verifier.FactorWrong
}

func (s *Server) checkPassword(ctx context.Context, d Directory, who subject, password string) (right bool, err error) {
	err = s.waitFor(func() error {
		right, err = d.Check(ctx, who.user, password)
		return err
	})
	return right, err
}

// waitFor lets ask wait for somebody else, if there is room. What it returns
// wraps firstFactorUnavailable.
func (s *Server) waitFor(ask func() error) error {
	select {
	case s.waiting <- struct{}{}:
		defer func() { <-s.waiting }()
	default:
		return fmt.Errorf("%w: %d others are waiting for an answer", firstFactorUnavailable, maxWaiting)
	}
	if err := ask(); err != nil {
		return fmt.Errorf("%w: %w", firstFactorUnavailable, err)
	}
	return nil
}

// askUpstream asks the other server. If it asks back, the person is; a code
// that was typed with the password is then asked for anew.
func (s *Server) askUpstream(ctx context.Context, r *request, at *progress, p *proof, password string, code verifier.Match) (verdict, error) {
	at.factor.Kind = verifier.FactorRADIUS
	q := upstream.Question{
		User: at.who.user, Password: password, State: at.upstream,
		NASIdentifier: textOf(r.packet.Get(rfc2865.NASIdentifier_Type)), CallingStationID: r.station(),
	}
	var answer upstream.Answer
	err := s.waitFor(func() (err error) {
		answer, err = r.client.FirstFactor.Upstream.Ask(ctx, q)
		return err
	})
	if err != nil {
		return verdict{}, err
	}
	at.upstream = nil
	if answer.Kind == upstream.Challenge {
		if !p.canAsk {
			return verdict{}, p.impossible()
		}
		at.stage, at.upstream = stageUpstream, answer.State
		return verdict{kind: asked, prompt: prompt{passed: answer.Message, echo: answer.Echo}}, at.fitsState()
	}
	at.factor.Verdict, at.class = verdictOf(answer.Kind == upstream.Accept), answer.Class
	if err := at.fitsState(); err != nil {
		return verdict{}, err
	}
	return s.afterUpstream(ctx, r, at, p, code)
}

// afterUpstream goes on to our code; but whoever has no token here is through, or
// rejected. Where others are asked for a code they are asked too when they are
// rejected, so that nobody learns who has none.
func (s *Server) afterUpstream(ctx context.Context, r *request, at *progress, p *proof, code verifier.Match) (verdict, error) {
	if !at.factor.Vouches {
		return s.goOn(ctx, r, at, p, code)
	}
	at.factor.Vouches = at.factor.Verdict == verifier.FactorRight
	if !at.factor.Vouches && r.client.Mode == ModeChallenge {
		return at.ask(stageCode, promptCode), nil
	}
	return s.askGate(ctx, r, at, p, verifier.Typed(""))
}

// directoryGroups is the groups that the client's directory has of the user.
func (s *Server) directoryGroups(ctx context.Context, c *client, who subject) (groups []string, err error) {
	d := c.FirstFactor.Directory
	if d == nil {
		return nil, nil
	}
	err = s.waitFor(func() error {
		groups, err = d.Groups(ctx, who.user)
		return err
	})
	return groups, err
}

// join adds a directory's groups to those of the user's record, within the bounds
// that answers are sized for. Where not all fit, those that the realm has answers
// for come before the others: a directory may have a person in hundreds.
func (r Realm) join(record, directory []string) []string {
	joined := slices.Clone(record)
	octets := len(strings.Join(record, ","))
	take := func(wanted func(string) bool) {
		for _, g := range directory {
			if len(joined) == verifier.MaxGroups {
				return
			}
			if !wanted(g) || !canBeGroup(g) || slices.Contains(joined, g) || octets+1+len(g) > verifier.MaxGroupsBytes {
				continue
			}
			joined, octets = append(joined, g), octets+1+len(g)
		}
	}
	named := func(g string) bool { _, ok := r.groups[g]; return ok }
	take(named)
	take(func(g string) bool { return !named(g) })
	return joined
}

// canBeGroup reports whether an answer can carry the name, alone and among others
// with commas between.
func canBeGroup(g string) bool {
	return g != "" && len(g) <= verifier.MaxGroup && isText([]byte(g)) && !strings.Contains(g, ",")
}

// mayBeEmpty reports whether what comes first may be: who has no PIN yet has
// nothing to type, and it may not be looked at, or be another server's to judge.
func (c *client) mayBeEmpty() bool { return c.Mode == ModeChallenge || c.FirstFactor.Migrating }

// textOf is value, or nothing if it is no text.
func textOf(value []byte) string {
	if !isText(value) {
		return ""
	}
	return string(value)
}

package radius

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"layeh.com/radius/rfc2865"

	"otpgate/radius/upstream"
	"otpgate/verifier"
)

// FirstFactor is what a client's people show besides the code. At most one of its
// kinds is set; none: nothing.
type FirstFactor struct {
	Name      string // in gateway.yaml, also for the audit log; empty: its kind says it
	PIN       bool
	Directory Directory
	Upstream  Upstream
	// Migrating, with Upstream, lets people who are known here, and have never had a
	// token in service, pass by the other server's answer alone.
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
// wrong first factor: nobody is asked about the person, so that a password that was
// typed alone doesn't count as a wrong one where it is checked.
func (s *Server) passwordAndCode(ctx context.Context, r *request, at *progress, p *proof) (verdict, error) {
	digits, err := s.Gate.CodeDigits(ctx, at.who.realm, at.who.user)
	if err != nil {
		return verdict{}, fmt.Errorf("%w: %w", noDecision, err)
	}
	password, code, ok := split(p.typed, digits, r.client.CodeFirst)
	if !ok {
		return s.failFactor(ctx, r, at, p, verifier.Typed(""))
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
	switch f := r.client.FirstFactor; {
	case !isText([]byte(password)), password == "" && f.Directory != nil:
		// Nobody's password, and nothing to send on: to a directory an empty one
		// means anybody (RFC 4513 §5.1.2).
		return s.failFactor(ctx, r, at, p, code)
	case f.PIN:
		given, err := s.checkPIN(ctx, r.client, at.who, verifier.Normalise(password))
		if err != nil {
			return verdict{}, err
		}
		if at.factor = given; given.Verdict == verifier.FactorUnset && code != nil && password != "" {
			at.factor.Verdict = verifier.FactorWrong // there is nothing that it could be
		}
	case f.Directory != nil:
		right, err := s.checkPassword(ctx, r.client, at.who, at.who.user, password)
		if err != nil {
			return verdict{}, err
		}
		at.factor = verifier.FirstFactor{Kind: verifier.FactorLDAP, Verdict: verdictOf(right)}
	default:
		return s.askUpstream(ctx, r, at, p, password, code)
	}
	return s.goOn(ctx, r, at, p, code)
}

// goOn follows the first factor, however it was.
func (s *Server) goOn(ctx context.Context, r *request, at *progress, p *proof, code verifier.Match) (verdict, error) {
	if code == nil {
		return s.askCode(ctx, r, at)
	}
	return s.askGate(ctx, r, at, p, code)
}

// askCode notes what became of the first factor, and asks for the code.
func (s *Server) askCode(ctx context.Context, r *request, at *progress) (verdict, error) {
	if err := s.Gate.NoteFirstFactor(ctx, r.attempt(at, nil)); err != nil {
		return verdict{}, fmt.Errorf("%w: %w", noDecision, err)
	}
	return at.ask(stageCode, promptCode), nil
}

// failFactor goes on with a first factor that is wrong without a look at it, after
// the work that a look costs: what has room for a code depends on the user's token,
// and the time would tell. Nobody is asked about the person, of whom a wrong password
// might be counted.
func (s *Server) failFactor(ctx context.Context, r *request, at *progress, p *proof, code verifier.Match) (verdict, error) {
	var err error
	nobody, nothing := rand.Text(), rand.Text()
	switch f := r.client.FirstFactor; {
	case f.PIN:
		_, err = s.checkPIN(ctx, r.client, at.who, "") // counts nothing
	case f.Directory != nil:
		_, err = s.checkPassword(ctx, r.client, at.who, nobody, nothing)
	default:
		_, err = s.askOther(ctx, r, at, nobody, nothing)
	}
	if err != nil {
		return verdict{}, err
	}
	at.factor = verifier.FirstFactor{Kind: r.client.FirstFactor.kind(), Verdict: verifier.FactorWrong}
	return s.goOn(ctx, r, at, p, code)
}

func verdictOf(right bool) verifier.FactorVerdict {
	if right {
		return verifier.FactorRight
	}
	return verifier.FactorWrong
}

func (s *Server) checkPIN(ctx context.Context, c *client, who subject, pin string) (given verifier.FirstFactor, err error) {
	err = s.hashing.use(c.Name, func() error {
		if given, err = s.Gate.CheckPIN(ctx, who.realm, who.user, pin); err != nil {
			return fmt.Errorf("%w: %w", noDecision, err)
		}
		return nil
	})
	return given, err
}

// checkPassword asks the client's directory about a name, in the turn of who.
func (s *Server) checkPassword(ctx context.Context, c *client, who subject, name, password string) (right bool, err error) {
	if !s.checks.allow(c.Name, who.realm, who.user) {
		return false, userTooFast
	}
	err = s.waitFor(c, func() error {
		right, err = c.FirstFactor.Directory.Check(ctx, name, password)
		return err
	})
	return right, err
}

// waitFor lets ask wait for somebody else, if there is room. What it returns
// wraps firstFactorUnavailable.
func (s *Server) waitFor(c *client, ask func() error) error {
	return s.waiting.use(c.Name, func() error {
		if err := ask(); err != nil {
			return fmt.Errorf("%w: %w", firstFactorUnavailable, err)
		}
		return nil
	})
}

// askUpstream asks the other server. If it asks back, the person is; a code
// that was typed with the password is then asked for anew.
func (s *Server) askUpstream(ctx context.Context, r *request, at *progress, p *proof, password string, code verifier.Match) (verdict, error) {
	answer, err := s.askOther(ctx, r, at, at.who.user, password)
	if err != nil {
		return verdict{}, err
	}
	at.factor.Kind, at.upstream = verifier.FactorRADIUS, nil
	if answer.Kind == upstream.Challenge {
		if !p.canAsk {
			return verdict{}, p.impossible()
		}
		at.stage, at.upstream = stageUpstream, answer.State
		return verdict{kind: asked, prompt: prompt{passed: answer.Message, echo: answer.Echo}}, at.fitsState()
	}
	at.factor.Verdict = verdictOf(answer.Kind == upstream.Accept)
	if at.factor.Vouches {
		at.class = s.passable(r.client, answer.Class)
	}
	return s.afterUpstream(ctx, r, at, p, code)
}

// askOther puts one question to the other server about a name, in the turn of whom
// the log-in is about. Answers to what it has asked back don't take another turn.
func (s *Server) askOther(ctx context.Context, r *request, at *progress, name, password string) (answer upstream.Answer, err error) {
	if at.upstream == nil && !s.checks.allow(r.client.Name, at.who.realm, at.who.user) {
		return answer, userTooFast
	}
	q := upstream.Question{
		User: name, Password: password, State: at.upstream,
		NASIdentifier: textOf(r.packet.Get(rfc2865.NASIdentifier_Type)), CallingStationID: r.station(),
	}
	err = s.waitFor(r.client, func() error {
		answer, err = r.client.FirstFactor.Upstream.Ask(ctx, q)
		return err
	})
	return answer, err
}

// passable is as many of another server's Class attributes as an answer has room
// for. The rest is dropped: the person was let in, and mustn't be kept out for what
// only accounting reads.
func (s *Server) passable(c *client, classes [][]byte) [][]byte {
	octets := 0
	for i, class := range classes {
		if octets += 2 + len(class); octets > maxPassedThrough {
			if suppressed, ok := s.notices.allow(c.Name, "class_dropped"); ok {
				s.Log.Warn("RADIUS: the Class attributes of the other RADIUS server are too long to be passed on; some are left out",
					"client", c.Name, "octets", maxPassedThrough, "suppressed", suppressed)
			}
			return classes[:i]
		}
	}
	return classes
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
		return s.askCode(ctx, r, at)
	}
	return s.askGate(ctx, r, at, p, verifier.Typed(""))
}

// directoryGroups is the groups that the client's directory has of the user.
func (s *Server) directoryGroups(ctx context.Context, c *client, who subject) (groups []string, err error) {
	d := c.FirstFactor.Directory
	if d == nil {
		return nil, nil
	}
	err = s.waitFor(c, func() error {
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

package verifier

import (
	"crypto/rand"
	"fmt"
	"time"

	"otpgate/verifier/otp"
)

const (
	// lookAhead is how many counts a HOTP token may be ahead of ours: codes
	// that were shown and not used. RFC 4226 §7.4.
	lookAhead = 10
	// resyncAhead is how far it is looked for if two codes in a row are right.
	resyncAhead = 100
	// pairSteps is how many periods, and pairTime how long with a HOTP token,
	// the second code of a pair is waited for.
	pairSteps = 3
	pairTime  = 3 * time.Minute
)

// hits says which candidates of one token match what was typed.
type hits struct {
	accept []int64 // steps in the window, rising
	pair   int64   // the step that a wanted next code completes, or noStep
	far    int64   // the step of a clock that has run off, or noStep
	used   bool    // the last accepted step, wherever it lies
	last   int64   // which step that was when it was compared
	hint   string  // for the audit log: what would have made a wrong code right
}

// noHits is of a token that nothing was compared with.
func noHits() hits { return hits{pair: noStep, far: noStep} }

// compare notes what the attempt's Match matches. If the first factor keeps it
// from the code, none of the user's candidates is shown to it, and made-up ones
// make the same work.
func (v *Verifier) compare(realm Realm, seen *sight, a Attempt, now time.Time) error {
	switch a.FirstFactor.course() {
	case toCode:
		return v.match(realm, seen, a.Match, now)
	case toRefusal:
		pretend(realm, seen, a.Match, now)
	case toVouchedIn: // its Match is of another server's password
	}
	return nil
}

// pretend makes the work of match, for the same user, with keys that nobody has.
func pretend(realm Realm, seen *sight, match Match, now time.Time) {
	tried := false
	for i := range seen.tokens {
		if t := &seen.tokens[i]; t.eligible || t.watched {
			t.find(madeUpKey(), match, now.Unix())
			tried = tried || t.eligible
		}
	}
	if !tried {
		matchNobody(realm, match, now)
	}
}

// match computes the candidate codes of every token that matters and notes
// which of them match. Without an eligible token it does the same for a made-up
// one, so that the time tells nothing.
func (v *Verifier) match(realm Realm, seen *sight, match Match, now time.Time) error {
	tried := false
	for i := range seen.tokens {
		t := &seen.tokens[i]
		if !t.eligible && !t.watched {
			continue
		}
		key, err := v.openKey(&t.Token)
		if err != nil && !t.eligible {
			v.Log.Error("a token that is watched can't be", "serial", t.Serial, "err", err)
			continue
		}
		if err != nil {
			return err
		}
		t.hits = t.find(key, match, now.Unix())
		clear(key)
		tried = tried || t.eligible
	}
	if !tried {
		matchNobody(realm, match, now)
	}
	return nil
}

// matchNobody compares with the candidates of a made-up token.
func matchNobody(realm Realm, match Match, now time.Time) {
	nobody := seenToken{Token: Token{Params: realm.OTP}, eligible: true}
	nobody.state = tokenState{Last: noStep, UsedAt: now.Unix(), Clock: newClock(nobody.Params, 0, now.Unix())}
	nobody.find(madeUpKey(), match, now.Unix())
}

// madeUpKey is another one each time: who knew it could show its code, and tell
// by the time that it matched.
func madeUpKey() []byte {
	key := make([]byte, otp.MinKey)
	_, _ = rand.Read(key) // never fails
	return key
}

// find tries every candidate of the token, without an early exit.
func (t *seenToken) find(key []byte, match Match, now int64) hits {
	g := otp.NewGenerator(key, t.Params)
	h := noHits()
	h.last = t.state.Last
	h.used = match(g.Code(t.state.Last)) && t.state.Last != noStep

	first, last := t.window(now)
	for s := first; s <= last; s++ {
		if match(g.Code(s)) {
			h.accept = append(h.accept, s)
		}
	}
	// The first code of a pair that was begun before a restore doesn't count: the
	// second may have been used since.
	if w := t.state.Wanted; now <= w.Until && w.Login == t.login && w.Until-int64(t.pairTime()/time.Second) >= t.floor {
		for s := w.Step + 1; s <= w.Step+t.nextSteps(); s++ {
			if match(g.Code(s)) {
				h.pair = s
			}
		}
	}
	if len(h.accept) > 0 || h.used || h.pair != noStep || !t.eligible || t.barred {
		return h
	}
	from, to := t.search(now)
	for s := from; s <= to; s++ {
		if s > t.lowest() && match(g.Code(s)) && (h.far == noStep || abs(s-(first+last)/2) < abs(h.far-(first+last)/2)) {
			h.far = s
		}
	}
	if h.far == noStep {
		h.hint = t.misconfigured(key, match, now)
	}
	return h
}

// window returns the first and last step that is accepted at once, if it is
// above lowest.
func (t *seenToken) window(now int64) (first, last int64) {
	if t.hotp() {
		if t.restored() {
			return 0, -1
		}
		return t.state.Last + 1, t.state.Last + lookAhead
	}
	return t.clock().window(t.Params, now)
}

// search returns the first and last step at which a token that has run off is
// looked for.
func (t *seenToken) search(now int64) (first, last int64) {
	if t.hotp() {
		if t.restored() {
			return 0, -1
		}
		return t.state.Last + 1, t.state.Last + resyncAhead
	}
	// A phone's clock doesn't lie in a drawer for a year.
	return t.clock().search(t.Params, now, t.state.UsedAt != 0 || t.Carrier == Software)
}

// nextSteps is how many steps after the first code of a pair the second one may
// be: people miss a minute, but a counter goes by one.
func (t *seenToken) nextSteps() int64 {
	if t.hotp() {
		return 1
	}
	return 2
}

// pairTime is how long the second code of a pair is waited for.
func (t *seenToken) pairTime() time.Duration {
	if t.hotp() {
		return pairTime
	}
	return time.Duration(pairSteps*t.Params.Period) * time.Second
}

// expected is the step that a token in step with us would show.
func (t *seenToken) expected(now time.Time) int64 {
	if t.hotp() {
		return t.state.Last + 1
	}
	return t.Params.Step(now)
}

func (t *seenToken) hotp() bool { return t.Params.Type == otp.HOTP }

// lowest is the highest step that can't be accepted any more: it was used, or
// might have been between a backup and its restore.
func (t *seenToken) lowest() int64 {
	if t.hotp() || t.floor == 0 {
		return t.state.Last
	}
	_, hi := t.clock().predict(t.floor)
	return max(t.state.Last, stepAt(t.Params, float64(t.floor)+hi))
}

// restored says that this is a counter from a backup, not used since. How far it
// went between the two, nobody knows, so a code of it may be one that was used:
// only a clerk finds it again (Resync).
func (t *seenToken) restored() bool {
	return t.hotp() && t.floor != 0 && max(t.state.UsedAt, t.Created.Unix()) < t.floor
}

// clock is what is known of the token's clock: what was learnt, else that it
// was right when it was made.
func (t *seenToken) clock() clock {
	if t.state.Clock.At != 0 {
		return t.state.Clock
	}
	since := t.Created
	if !t.Made.IsZero() {
		since = t.Made
	}
	return newClock(t.Params, 0, max(since.Unix(), t.state.UsedAt))
}

// misconfigured says what other settings would have made the code right: what
// an operator has to know who set a token up with the wrong ones.
func (t *seenToken) misconfigured(key []byte, match Match, now int64) string {
	const around = 2 // steps
	if t.restored() {
		return "; a counter from before a restore: otpgate token resync finds it again"
	}
	middle := float64(now) + t.clock().middle()
	for _, algorithm := range []otp.Algorithm{otp.SHA1, otp.SHA256, otp.SHA512} {
		for _, period := range t.periods() {
			p := t.Params
			p.Algorithm, p.Period = algorithm, period
			if p == t.Params {
				continue
			}
			g, from, to := otp.NewGenerator(key, p), t.state.Last+1, t.state.Last+lookAhead
			if !t.hotp() {
				from, to = stepAt(p, middle)-around, stepAt(p, middle)+around
			}
			for s := from; s <= to; s++ {
				if match(g.Code(s)) {
					return fmt.Sprintf("; it would be right for %s, and the token is set to %s", settings(p), settings(t.Params))
				}
			}
		}
	}
	return ""
}

// periods are those that tokens are set to, in seconds.
func (t *seenToken) periods() []int {
	if t.hotp() {
		return []int{t.Params.Period}
	}
	return []int{30, 60}
}

// settings are p in words.
func settings(p otp.Params) string {
	if p.Type == otp.HOTP {
		return string(p.Algorithm)
	}
	return fmt.Sprintf("%s and %d s", p.Algorithm, p.Period)
}

func abs(n int64) int64 { return max(n, -n) }

package verifier

import (
	"context"
	"fmt"
	"time"

	"otpgate/internal/audit"
	"otpgate/internal/store"
	"otpgate/verifier/otp"
)

// How far a clerk can find a token again, with two codes in a row that its
// holder reads out: a clock that is a week off, a counter that a child has
// played with.
const (
	clerkReach = 7 * day
	clerkAhead = 5000
)

// Resync finds a token in service again by two codes in a row. It opens no lock
// and lets nobody pass; the two codes are used up. The error is a *Refusal if
// the token isn't found.
func (v *Verifier) Resync(ctx context.Context, by By, serial, first, second string) (Token, Receipt, error) {
	if err := by.because(stepResync); err != nil {
		return Token{}, Receipt{}, err
	}
	seen, err := v.Token(ctx, serial)
	if err != nil {
		return Token{}, Receipt{}, err
	}
	if err := checkStep(stepResync, seen.Token); err != nil {
		return Token{}, Receipt{}, err
	}
	key, err := v.openKey(&seen.Token)
	if err != nil {
		return Token{}, Receipt{}, err
	}
	var t seenToken
	receipt, err := v.do(ctx, by, func(tx store.Txn, now time.Time) (audit.Entry, error) {
		if err := tick(tx, now); err != nil {
			return audit.Entry{}, err
		}
		if t, err = seeToken(tx, serial, Attempt{Realm: seen.Realm, User: seen.User}, login(), now); err != nil {
			return audit.Entry{}, err
		}
		if err := checkStep(stepResync, t.Token); err != nil {
			return audit.Entry{}, err
		}
		step, ok := t.findPair(key, Typed(first), Typed(second), now.Unix())
		if !ok {
			return audit.Entry{}, refuse("let its holder read out two codes that follow each other, the earlier one first",
				"the two codes are none of token %s", serial)
		}
		d := deciding{tx: tx, now: now}
		off := step - t.expected(now)
		d.use(&t, step)
		return stepResync.on(t.Token, by.andWhy(fmt.Sprintf("found %+d off", off))), d.putToken(t)
	})
	return t.Token, receipt, err
}

// findPair looks for two steps in a row that first and second are right for,
// and returns the second of them.
func (t *seenToken) findPair(key []byte, first, second Match, now int64) (step int64, ok bool) {
	g := otp.NewGenerator(key, t.Params)
	from, to := t.lowest()+1, t.lowest()+clerkAhead
	if !t.hotp() {
		from, to = max(from, stepAt(t.Params, float64(now-clerkReach))), stepAt(t.Params, float64(now+clerkReach))
	}
	for s := from; s <= to; s++ {
		if first(g.Code(s)) && second(g.Code(s+1)) {
			return s + 1, true
		}
	}
	return 0, false
}

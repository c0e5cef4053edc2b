package verifier

import (
	"bytes"
	"context"
	"errors"
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
// the token isn't found; that stands in the audit log as well.
func (v *Verifier) Resync(ctx context.Context, by By, serial, first, second string) (Token, Receipt, error) {
	if err := by.because(stepResync); err != nil {
		return Token{}, Receipt{}, err
	}
	seen, step, err := v.findAgain(ctx, serial, Typed(first), Typed(second))
	if err != nil {
		return Token{}, Receipt{}, err
	}
	if step == noStep {
		return Token{}, Receipt{}, v.notFound(ctx, by, seen.Token)
	}
	receipt, err := v.do(ctx, by, func(tx store.Txn, now time.Time) (audit.Entry, error) {
		if err := tick(tx, now); err != nil {
			return audit.Entry{}, err
		}
		raw, err := tx.Get(tokenKey(serial))
		if err != nil {
			return audit.Entry{}, err
		}
		if seen.state, err = readTokenState(tx, serial); err != nil {
			return audit.Entry{}, err
		}
		if !bytes.Equal(raw, seen.raw) || step <= seen.lowest() {
			return audit.Entry{}, refuse("look at it and try again", "token %s was used or changed meanwhile", serial)
		}
		d := deciding{tx: tx, now: now}
		off := step - seen.expected(now)
		d.use(&seen, step)
		return stepResync.on(seen.Token, by.andWhy(fmt.Sprintf("found %+d off", off))), d.putToken(seen)
	})
	return seen.Token, receipt, err
}

// findAgain looks for the token outside any transaction. step is noStep if it
// isn't found.
func (v *Verifier) findAgain(ctx context.Context, serial string, first, second Match) (seen seenToken, step int64, err error) {
	now := v.Now()
	err = v.Records.View(ctx, func(r store.Reader) error {
		if _, err := highestTime(r, now); err != nil {
			return err
		}
		t, err := readToken(r, serial)
		if err != nil {
			return err
		}
		if seen, err = seeToken(r, serial, Attempt{Realm: t.Realm, User: t.User}, login(), now); err != nil {
			return err
		}
		return checkStep(stepResync, seen.Token)
	})
	if err != nil {
		return seen, noStep, err
	}
	key, err := v.openKey(&seen.Token)
	if err != nil {
		return seen, noStep, err
	}
	defer clear(key)
	return seen, seen.findPair(key, first, second, now.Unix()), nil
}

// findPair looks for two steps in a row that first and second are right for,
// and returns the second of them, or noStep.
func (t *seenToken) findPair(key []byte, first, second Match, now int64) int64 {
	g := otp.NewGenerator(key, t.Params)
	from, to := t.lowest()+1, t.lowest()+clerkAhead
	if !t.hotp() {
		from, to = max(from, stepAt(t.Params, float64(now-clerkReach))), stepAt(t.Params, float64(now+clerkReach))
	}
	for s := from; s <= to; s++ {
		if first(g.Code(s)) && second(g.Code(s+1)) {
			return s + 1
		}
	}
	return noStep
}

func (v *Verifier) notFound(ctx context.Context, by By, t Token) error {
	e := stepResync.on(t, by.andWhy("the two codes are none of the token"))
	e.Time, e.Outcome, e.Door, e.Client, e.Form = v.Now(), "refused", "admin", by.Who, by.Form
	return errors.Join(
		v.Audit.Append(context.WithoutCancel(ctx), e),
		refuse("let its holder read out two codes that follow each other, the earlier one first",
			"the two codes are none of token %s", t.Serial),
	)
}

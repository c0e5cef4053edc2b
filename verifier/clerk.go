package verifier

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"otpgate/internal/store"
)

// The steps of a clerk with a token that somebody has. How one gets a token is
// in issue.go; which step is allowed when, in life.go.

// Bounds on what clerks type, in bytes: the audit log takes a detail of 1 KiB
// and other fields of 256 bytes without cutting them.
const (
	MaxReason = 900 // leaves room for what the step adds
	MaxForm   = 64
)

// check returns a *Refusal unless the reason and the form's number can be
// printed and kept whole.
func (by By) check() error {
	for _, field := range []struct {
		name, value string
		most        int
	}{{"reason", by.Reason, MaxReason}, {"form's number", by.Form, MaxForm}} {
		switch {
		case len(field.value) > field.most:
			return refuse("shorten it", "the %s has %d bytes; %d are allowed", field.name, len(field.value), field.most)
		case !utf8.ValidString(field.value) || strings.ContainsFunc(field.value, unicode.IsControl):
			return refuse("type it anew", "the %s has characters that can't be printed", field.name)
		}
	}
	return nil
}

// because returns a *Refusal unless there is a reason for s.
func (by By) because(s step) error {
	if strings.TrimSpace(by.Reason) == "" {
		_, name, _ := strings.Cut(string(s), ".")
		return refuse("give --reason", "to %s needs a reason", strings.ReplaceAll(name, "_", " "))
	}
	return nil
}

// andWhy is what a step did, with the clerk's reason; either may be "".
func (by By) andWhy(did string) string {
	if did == "" || by.Reason == "" {
		return did + by.Reason
	}
	return did + "; " + by.Reason
}

// Start puts an issued or assigned token in service: its holder has shown a
// code. A wrong code counts like any other; the result has a receipt only if it
// was accepted. The error is a *Refusal if the token can't be started, else an
// ErrNoDecision.
func (v *Verifier) Start(ctx context.Context, by By, serial string, code Match) (Result, error) {
	if err := by.check(); err != nil {
		return Result{}, err
	}
	t, err := v.Token(ctx, serial)
	if err != nil {
		return Result{}, err
	}
	if err := checkStep(stepStart, t.Token); err != nil {
		return Result{}, err
	}
	return v.pass(ctx, Attempt{Realm: t.Realm, User: t.User, Match: code, Door: "admin", Client: by.Who}, passage{
		event:    string(stepStart),
		by:       by,
		eligible: func(t Token) bool { return t.Serial == serial && checkStep(stepStart, t) == nil },
		granted: func(tx store.Txn, t Token, now time.Time) error {
			if err := t.move(stepStart, InService, now); err != nil {
				return err
			}
			return putToken(tx, t)
		},
	})
}

// Suspend takes a token out of use until it is resumed.
func (v *Verifier) Suspend(ctx context.Context, by By, serial string) (Token, Receipt, error) {
	if err := by.because(stepSuspend); err != nil {
		return Token{}, Receipt{}, err
	}
	return v.change(ctx, stepSuspend, by, serial, "", func(store.Txn, Token) (TokenState, error) { return TokenSuspended, nil })
}

// Resume takes a suspended token back to where it was, and opens a lock that
// wrong codes have set on it and its user: suspend and resume by a clerk is
// the way out of a lock.
func (v *Verifier) Resume(ctx context.Context, by By, serial string) (Token, Receipt, error) {
	if err := by.because(stepResume); err != nil {
		return Token{}, Receipt{}, err
	}
	return v.change(ctx, stepResume, by, serial, "", func(tx store.Txn, t Token) (TokenState, error) {
		return t.Before, openLocks(tx, t.Realm, t.User)
	})
}

// Cause says why a token can't or mustn't be used again.
type Cause string

// The causes. The last three are the states that they lead to.
const (
	CauseLost        Cause = "lost"
	CauseStolen      Cause = "stolen"
	CauseBroken      Cause = "broken"
	CauseBatteryFlat Cause = "battery_flat"
	CauseExpired     Cause = "expired"
)

// leadsTo is the state of a token with that cause.
func (c Cause) leadsTo() (TokenState, error) {
	if c == CauseLost || c == CauseStolen {
		return Lost, nil
	}
	if !slices.Contains(unusable, TokenState(c)) {
		return "", refuse("say lost, stolen, broken, battery_flat or expired", "%.70q is no cause", string(c))
	}
	return TokenState(c), nil
}

// MarkUnusable takes a token out of use for good. Its key is kept: if it was lost
// or stolen, who tries it is to be seen.
func (v *Verifier) MarkUnusable(ctx context.Context, by By, serial string, why Cause) (Token, Receipt, error) {
	state, err := why.leadsTo()
	if err != nil {
		return Token{}, Receipt{}, err
	}
	cause := strings.ReplaceAll(string(why), "_", " ")
	return v.change(ctx, stepUnusable, by, serial, cause, func(store.Txn, Token) (TokenState, error) { return state, nil })
}

// Release ends a token for good and destroys its key.
func (v *Verifier) Release(ctx context.Context, by By, serial string) (Token, Receipt, error) {
	if err := by.because(stepRelease); err != nil {
		return Token{}, Receipt{}, err
	}
	return v.change(ctx, stepRelease, by, serial, "", func(store.Txn, Token) (TokenState, error) { return Released, nil })
}

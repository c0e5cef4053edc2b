package verifier

import (
	"context"
	"errors"
	"fmt"
	"time"

	"otpgate/internal/store"
)

// FirstFactor is what became of what a door asked for besides the code. The
// zero value: nothing was asked for. One that isn't right never reaches the
// code: the gate does the same work, counts nothing against the token, and
// answers WrongFirstFactor.
type FirstFactor struct {
	Kind    FactorKind
	Name    string // in gateway.yaml, for the audit log; empty: the kind says it
	Verdict FactorVerdict
	// Vouches says that another RADIUS server, which is being migrated from,
	// accepted the person by its own means: who MayBeVouchedFor passes by that
	// alone, and Attempt.Match isn't called. Kind must be FactorRADIUS.
	Vouches bool
	// PIN tells which PIN was right; see CheckPIN. Zero for all else.
	PIN PINMark
}

// FactorKind is what a first factor was checked against. Its value stands in the
// audit log.
type FactorKind string

// The kinds of first factors.
const (
	FactorPIN    FactorKind = "pin"    // of the user's record here; see CheckPIN
	FactorLDAP   FactorKind = "ldap"   // the password of a directory
	FactorRADIUS FactorKind = "radius" // another RADIUS server
)

// FactorVerdict is whether a first factor was right. With a Kind, the zero
// value counts as wrong.
type FactorVerdict uint8

// The verdicts.
const (
	FactorWrong FactorVerdict = iota + 1
	FactorRight
	FactorUnset // there is no PIN yet: it is chosen after the code was accepted
)

// course is how a try goes on after its first factor.
type course int

const (
	toRefusal   course = iota // WrongFirstFactor
	toCode                    // the code decides
	toVouchedIn               // the other server's word decides
)

// course returns toRefusal for whatever no door should ever say.
func (f FirstFactor) course() course {
	known := f.Kind == FactorPIN || f.Kind == FactorLDAP || f.Kind == FactorRADIUS
	switch {
	case f == FirstFactor{}:
		return toCode
	case f.Vouches && f.Kind == FactorRADIUS && f.Verdict == FactorRight:
		return toVouchedIn
	case f.Vouches:
		return toRefusal
	case f.Verdict == FactorRight && known, f.Verdict == FactorUnset && f.Kind == FactorPIN:
		return toCode
	}
	return toRefusal
}

// words is what it was checked against, for the audit log.
func (f FirstFactor) words() string {
	if f.Name == "" {
		return string(f.Kind)
	}
	return fmt.Sprintf("%s (%s)", f.Name, f.Kind)
}

// unset says that the person has yet to choose a PIN.
func (f FirstFactor) unset() bool { return f.Kind == FactorPIN && f.Verdict == FactorUnset }

// judgeFactor decides a try that doesn't come to its code; done is false if the
// code decides.
func (d *deciding) judgeFactor() (out decision, done bool, err error) {
	f := d.attempt.FirstFactor
	if f.Kind == FactorPIN {
		if d.pin, err = readPIN(d.tx, d.realm, d.attempt.User, d.now); err != nil {
			return out, true, err
		}
	}
	switch f.course() {
	case toVouchedIn:
		out, err = d.vouchIn()
		return out, true, err
	case toCode:
		obstacle := d.pinObstacle()
		if obstacle == "" {
			return out, false, nil
		}
		out, err = d.refuseFactor(obstacle)
		return out, true, err
	case toRefusal:
	}
	reason := "wrong first factor: " + f.words()
	if f.Kind == FactorPIN {
		counted, err := d.countPIN()
		if err != nil {
			return out, true, err
		}
		reason += counted
	}
	out, err = d.refuseFactor(reason)
	return out, true, err
}

// pinObstacle says why a PIN that was right, or not yet set, when CheckPIN looked
// isn't any more; "" if it still is. Parallel guesses were all looked at before
// the first of them was counted.
func (d *deciding) pinObstacle() string {
	f := d.attempt.FirstFactor
	switch {
	case f.Kind != FactorPIN:
		return ""
	case f.unset() && d.pin.found:
		return "a PIN was set meanwhile"
	case f.unset():
		return ""
	case !d.pin.found:
		return "the PIN was cleared meanwhile"
	case d.pin.record.mark() != f.PIN:
		return "another PIN was set meanwhile"
	case d.pin.state.lockedAt() != 0:
		return "the PIN was right, but it is locked since " + stamp(d.pin.state.lockedAt())
	}
	return ""
}

// countPIN counts a wrong PIN, and says in words how many there were. Where
// there is no PIN, nothing can be guessed, and where it is locked, nothing is
// learnt.
func (d *deciding) countPIN() (reason string, err error) {
	state := &d.pin.state
	switch {
	case !d.pin.found && d.seen.userExists:
		return "; the user has no PIN yet: the first time the code is typed alone, and a PIN is asked for after it", nil
	case !d.pin.found:
		return "", nil
	case state.lockedAt() != 0:
		return "; the PIN is locked since " + stamp(state.lockedAt()), nil
	}
	state.Row = state.Row.fail(d.realm.Lockout, d.now)
	state.LongRun = state.LongRun.fail(d.realm.Lockout.LongRun, d.now)
	reason = fmt.Sprintf(", %d of %d in a row", state.Row.Failures, d.realm.Lockout.Consecutive)
	switch {
	case state.LongRun.LockedAt != 0:
		reason += fmt.Sprintf("; %d wrong PINs within %d weeks: the PIN is locked now, and only a clerk opens it", d.realm.Lockout.LongRun, longRunWeeks)
	case state.Row.locked():
		reason += "; the PIN is locked now"
	}
	return reason, d.putPINState(*state)
}

// refuseFactor is the refusal of a try that doesn't come to its code. What else
// would have been in its way, only the audit log is told.
func (d *deciding) refuseFactor(reason string) (decision, error) {
	outcome, why := d.standing()
	switch {
	case outcome != "":
		reason += "; " + why
	case len(d.open) == 0:
		reason += "; every token of the user is locked"
	}
	out := decision{Result: Result{Outcome: WrongFirstFactor, At: d.now}, reason: reason}
	var err error
	if d.attempt.FactorNoted { // and counted: see NoteFirstFactor
		return out, d.countUnchanged()
	}
	out.alarm, err = d.countInRealm()
	return out, err
}

// vouchIn accepts, by another server's word, who has no token here that could
// show a code.
func (d *deciding) vouchIn() (decision, error) {
	obstacle, err := vouchObstacle(d.tx, d.realm, d.attempt.User, d.now)
	if err != nil {
		return decision{}, err
	}
	if obstacle != "" {
		return d.refuseFactor(fmt.Sprintf("another RADIUS server (%s) vouches for the user, but %s", d.attempt.FirstFactor.words(), obstacle))
	}
	out := decision{
		Result:  Result{Outcome: Accepted, At: d.now},
		vouched: true,
		reason: fmt.Sprintf("without a code: another RADIUS server (%s) vouches for the user, who has never had a token in service here",
			d.attempt.FirstFactor.words()),
	}
	return out, d.countUnchanged()
}

// MayBeVouchedFor says whether another server's word could let the user in without
// a code: who is known here, has never had a token in service, nor a card in its
// stead, and isn't locked. Verify decides again.
func (v *Verifier) MayBeVouchedFor(ctx context.Context, realm, user string) (bool, error) {
	rl, err := v.realm(realm)
	if err != nil {
		return false, err
	}
	var obstacle string
	err = v.Records.View(ctx, func(r store.Reader) (err error) {
		obstacle, err = vouchObstacle(r, rl, user, v.Now())
		return err
	})
	return err == nil && obstacle == "", err
}

// vouchObstacle says why nobody can vouch for the user; "" if somebody can. Who
// moves here is known here first: other servers take one person by many names, and
// by one of them everybody who has a token here would pass without it. The user's
// service state alone would not do: a new token that is on its way hides a lost one,
// and who has left has the state of who never began.
func vouchObstacle(r store.Reader, realm Realm, user string, now time.Time) (string, error) {
	if CheckUserName(user) != nil {
		return "nobody can have this name", nil //nolint:nilerr // the door's word for it, not ours
	}
	a, err := readAccount(r, realm, user, now)
	if refusal := (*Refusal)(nil); errors.As(err, &refusal) {
		return "who moves here must be added here first (otpgate user add)", nil
	}
	if err != nil {
		return "", err
	}
	for _, t := range a.Tokens {
		waits := t.State == Assigned || t.State == Issued
		switch served := t.Served || !t.UsedAt.IsZero(); {
		case t.State == Released && served:
			return fmt.Sprintf("token %s, which was in service here, is released", t.Serial), nil
		case !waits && t.State != Released:
			return fmt.Sprintf("token %s is %s here", t.Serial, t.State.words()), nil
		}
	}
	switch {
	case !a.LockedAt.IsZero():
		return "the user is locked here", nil
	case a.Service != ServiceNone && a.Service != ServiceApplied && a.Service != ServiceIssued && a.Service != ServiceReleased:
		return fmt.Sprintf("the user's state here is %s", a.Service), nil
	}
	return "", nil
}

// passFactor is what follows for the first factor from an accepted code: a row
// of wrong PINs ends, and whoever has no PIN may choose one.
func (d *deciding) passFactor(out decision) (decision, error) {
	f := d.attempt.FirstFactor
	if f == (FirstFactor{}) {
		return out, nil
	}
	if f.Kind != FactorPIN {
		out.reason += "; first factor: " + f.words()
		return out, nil
	}
	state := pinState{LongRun: d.pin.state.LongRun} // which success doesn't reset
	if f.unset() {
		state.allow(d.ticket, d.now)
		out.PINWanted, out.PINTicket = true, d.ticket
		out.reason += "; a PIN is to be chosen"
	} else {
		out.reason += "; first factor: pin"
	}
	if state == d.pin.state {
		return out, nil
	}
	return out, d.putPINState(state)
}

func (d *deciding) putPINState(state pinState) error {
	return state.put(d.tx, d.attempt.Realm, d.attempt.User)
}

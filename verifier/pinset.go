package verifier

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"time"

	"otpgate/internal/audit"
	"otpgate/internal/store"
)

// The steps with a PIN. stepChoosePIN is the user's own, at a door.
const (
	stepSetPIN    step = "user.set_pin"
	stepClearPIN  step = "user.clear_pin"
	stepChoosePIN step = "user.choose_pin"
)

const (
	// pinTicketBytes makes a ticket that nobody guesses.
	pinTicketBytes  = 16
	pinTicketDigest = sha256.Size
	// pinTicketTime is how long an accepted code lets its user choose a PIN:
	// three times to type it twice, a minute each.
	pinTicketTime = 3 * time.Minute
)

// PINTicket is what an accepted code earns who has no PIN yet: it lets that user,
// and nobody else, choose one, once, within three minutes. Its digest is in the
// store, so that any node takes it. The zero value is none.
type PINTicket [pinTicketBytes]byte

// String keeps the ticket out of logs.
func (PINTicket) String() string { return "PIN ticket" }

func newPINTicket() (t PINTicket) {
	_, _ = rand.Read(t[:]) // never fails
	return t
}

// allow notes that t lets the user choose a PIN, in place of any earlier ticket.
func (s *pinState) allow(t PINTicket, now time.Time) {
	s.Ticket, s.TicketUntil = sha256.Sum256(t[:]), now.Add(pinTicketTime).Unix()
}

// takes says whether t is the user's ticket at now. One from before a restore
// may have been used since the backup.
func (s *pinState) takes(t PINTicket, now, floor time.Time) bool {
	digest := sha256.Sum256(t[:])
	issued := time.Unix(s.TicketUntil, 0).Add(-pinTicketTime)
	return t != PINTicket{} && subtle.ConstantTimeCompare(digest[:], s.Ticket[:]) == 1 &&
		now.Unix() < s.TicketUntil && issued.After(floor)
}

// ChoosePIN sets the first PIN of a user who has just shown a code: ticket is
// Result.PINTicket of the attempt that was accepted, a says again who, where and
// through what door. Accepted lets the person in; WrongFirstFactor means that the
// ticket is used, over or not theirs, that there is a PIN meanwhile, or that the
// user couldn't log in any more. The error is a *Refusal if the PIN isn't allowed
// (AllowedPIN), which leaves the ticket as it is, else an ErrNoDecision.
func (v *Verifier) ChoosePIN(ctx context.Context, a Attempt, ticket PINTicket, pin string) (Result, error) {
	if err := AllowedPIN(pin); err != nil {
		return Result{}, err
	}
	realm, ok := v.Realms[a.Realm]
	if !ok {
		return Result{}, fmt.Errorf("%w: no realm %q", ErrNoDecision, a.Realm)
	}
	if CheckUserName(a.User) != nil {
		return Result{Outcome: WrongFirstFactor, At: v.Now()}, nil //nolint:nilerr // nobody can have this name, nor a ticket
	}
	hash, err := v.newPINHash(ctx, a.Realm, a.User, pin)
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrNoDecision, err)
	}
	now := v.Now()
	var d decision
	err = v.Records.Update(ctx, func(tx store.Txn) (err error) {
		d, err = choosePIN(tx, realm, a.User, ticket, hash, now)
		return err
	})
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrNoDecision, err)
	}
	v.Metrics.tries.WithLabelValues(realm.ID, a.Door, string(d.Outcome)).Inc()
	if err := v.publish(ctx, realm, a, passage{event: string(stepChoosePIN)}, d, now); err != nil {
		return Result{}, fmt.Errorf("%w: %w: %w", ErrNoDecision, ErrNotLogged, err)
	}
	return d.Result, nil
}

// choosePIN uses the ticket up in the write that sets the PIN.
func choosePIN(tx store.Txn, realm Realm, name string, ticket PINTicket, hash pinHash, now time.Time) (decision, error) {
	no := func(reason string) (decision, error) {
		return decision{Result: Result{Outcome: WrongFirstFactor, At: now}, reason: reason}, nil
	}
	if err := tick(tx, now); err != nil {
		return decision{}, err
	}
	p, err := readPIN(tx, realm, name, now)
	if err != nil {
		return decision{}, err
	}
	floor, err := readFloor(tx)
	if err != nil {
		return decision{}, err
	}
	switch {
	case p.found:
		return no("the user has a PIN meanwhile")
	case !p.state.takes(ticket, now, floor):
		return no("no accepted code lets the user choose a PIN now")
	}
	a, err := readAccount(tx, realm, name, now)
	if err != nil {
		return decision{}, err
	}
	if a.Service != ServiceInService {
		return no(fmt.Sprintf("the user's state is %s meanwhile", a.Service))
	}
	out := decision{
		Result: Result{Outcome: Accepted, Groups: a.Groups, At: now},
		reason: "the user has chosen a PIN, after a code was accepted",
	}
	return out, putPIN(tx, realm.ID, name, hash, now)
}

// SetPIN gives a user a PIN, in place of any before, and opens its lock. A
// *Refusal if there is no such user, or the PIN isn't allowed (AllowedPIN).
func (v *Verifier) SetPIN(ctx context.Context, by By, realm, name, pin string) (Receipt, error) {
	if err := v.checkUser(realm, name); err != nil {
		return Receipt{}, err
	}
	if err := AllowedPIN(pin); err != nil {
		return Receipt{}, err
	}
	hash, err := v.newPINHash(ctx, realm, name, pin)
	if err != nil {
		return Receipt{}, err
	}
	return v.changePIN(ctx, stepSetPIN, by, realm, name, func(tx store.Txn, p userPIN, now time.Time) (string, error) {
		did := "the first one"
		if p.found {
			did = "in place of another one"
		}
		return did, putPIN(tx, realm, name, hash, now)
	})
}

// ClearPIN takes a user's PIN away: whoever shows the next right code chooses a
// new one. A *Refusal if there is none.
func (v *Verifier) ClearPIN(ctx context.Context, by By, realm, name string) (Receipt, error) {
	if err := v.checkUser(realm, name); err != nil {
		return Receipt{}, err
	}
	return v.changePIN(ctx, stepClearPIN, by, realm, name, func(tx store.Txn, p userPIN, _ time.Time) (string, error) {
		if !p.found {
			return "", refuse("there is nothing to clear", "%s@%s has no PIN", name, realm)
		}
		return "", forgetPIN(tx, realm, name)
	})
}

// changePIN makes a clerk's step with the PIN of a user who exists. change says
// what it did, if the step alone doesn't.
func (v *Verifier) changePIN(ctx context.Context, s step, by By, realm, name string,
	change func(store.Txn, userPIN, time.Time) (did string, err error),
) (Receipt, error) {
	return v.do(ctx, by, func(tx store.Txn, now time.Time) (entry audit.Entry, err error) {
		u, err := readUser(tx, realm, name)
		if err != nil {
			return entry, err
		}
		p, err := readPIN(tx, v.Realms[realm], name, now)
		if err != nil {
			return entry, err
		}
		did, err := change(tx, p, now)
		return s.onUser(u, by.andWhy(did)), err
	})
}

// putPIN writes a PIN that nothing was counted against yet, and for which no
// ticket is out.
func putPIN(tx store.Txn, realm, name string, hash pinHash, now time.Time) error {
	if err := tx.Delete(pinStateKey(realm, name)); err != nil {
		return err
	}
	return putJSON(tx, pinKey(realm, name), pinRecord{V: pinVersion, Set: now.UTC().Truncate(time.Second), Hash: hash})
}

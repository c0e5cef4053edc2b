package verifier

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"time"

	"otpgate/internal/store"
)

// A PIN has MinPIN to MaxPIN digits: what people remember, and a keypad types.
const (
	MinPIN = 4
	MaxPIN = 12
)

// AllowedPIN returns a *Refusal unless pin can be somebody's: MinPIN to MaxPIN
// digits after Normalise, which neither are all the same nor follow each other
// up or down (1234, 4321, 7890).
func AllowedPIN(pin string) error {
	pin = Normalise(pin)
	switch {
	case len(pin) < MinPIN || len(pin) > MaxPIN || !isDigits(pin):
		return refuse("choose another one", "a PIN has %d to %d digits and nothing else", MinPIN, MaxPIN)
	case isRun(pin, 0):
		return refuse("choose another one", "this PIN is one digit again and again: the first to be guessed")
	case isRun(pin, 1) || isRun(pin, 9):
		return refuse("choose another one", "the digits of this PIN follow each other: it is among the first to be guessed")
	}
	return nil
}

// isRun says whether each digit is by further than the one before, 0 after 9.
func isRun(digits string, by int) bool {
	for i := 1; i < len(digits); i++ {
		if (int(digits[i-1]-'0')+by)%10 != int(digits[i]-'0') {
			return false
		}
	}
	return true
}

// CheckPIN compares pin with the user's, and writes nothing: a wrong one is
// counted when Verify is told of it. A user who doesn't exist, or whose PIN is
// locked, has FactorWrong; the work is the same for everybody. The error is
// always an ErrNoDecision. A right one has a mark, by which Verify sees whether it
// is the user's still.
func (v *Verifier) CheckPIN(ctx context.Context, realm, user, pin string) (FirstFactor, error) {
	wrong := FirstFactor{Kind: FactorPIN, Verdict: FactorWrong}
	r, ok := v.Realms[realm]
	if !ok {
		return wrong, fmt.Errorf("%w: no realm %q", ErrNoDecision, realm)
	}
	p, verdict, err := v.checkPIN(ctx, r, user, pin)
	switch {
	case err != nil:
		return wrong, fmt.Errorf("%w: %w", ErrNoDecision, err)
	case verdict == FactorRight:
		return FirstFactor{Kind: FactorPIN, Verdict: FactorRight, PIN: p.record.mark()}, nil
	}
	return FirstFactor{Kind: FactorPIN, Verdict: verdict}, nil
}

func (v *Verifier) checkPIN(ctx context.Context, realm Realm, user, typed string) (p userPIN, verdict FactorVerdict, err error) {
	exists := false
	err = v.Records.View(ctx, func(r store.Reader) error {
		if CheckUserName(user) != nil {
			return nil //nolint:nilerr // nobody can have this name: a user who doesn't exist
		}
		u, err := r.Get(userKey(realm.ID, user))
		if err != nil {
			return err
		}
		exists = u != nil
		p, err = readPIN(r, realm, user, v.Now())
		return err
	})
	if err != nil {
		return p, FactorWrong, err
	}
	against, want := pinHash{Cost: newHashCost()}, make([]byte, pinHashBytes) // which no PIN has
	if p.found {
		against = p.record.Hash
		if want, err = v.Seal.Open(pinKey(realm.ID, user), purposePIN, against.Sum); err != nil {
			return p, FactorWrong, fmt.Errorf("PIN of %s@%s: %w", user, realm.ID, err)
		}
	}
	if typed = Normalise(typed); len(typed) > MaxPIN { // as wrong as none, and not worth the work
		typed = ""
	}
	sum, err := v.hashPIN(ctx, typed, against)
	if err != nil {
		return p, FactorWrong, err
	}
	right := subtle.ConstantTimeCompare(sum, want) == 1
	switch {
	case exists && !p.found:
		return p, FactorUnset, nil
	case !exists, !right, p.state.lockedAt() != 0:
		return p, FactorWrong, nil
	}
	return p, FactorRight, nil
}

// PINMark tells one PIN of a user from another, and nothing of either. It is a
// digest of the salt.
type PINMark [8]byte

func (p pinRecord) mark() PINMark {
	sum := sha256.Sum256(p.Hash.Salt)
	return PINMark(sum[:len(PINMark{})])
}

// PINInfo is what is known of a user's PIN.
type PINInfo struct {
	Set      time.Time // zero: there is none
	Failures int       // wrong ones in a row
	LockedAt time.Time // zero: not locked
	OpensAt  time.Time // when the lock opens by itself; zero: not locked, or a clerk opens it
}

// pinVersion is the layout of pinRecord, pinStateVersion that of pinState.
const (
	pinVersion      = 1
	pinStateVersion = 2
)

// pinRecord is a user's PIN.
type pinRecord struct {
	V    int       `json:"v"`
	Set  time.Time `json:"set"`
	Hash pinHash   `json:"hash"`
}

// pinState is the hot record of a user's PIN: fixed, small and big-endian, a
// version byte first. An absent one is its zero value.
type pinState struct {
	Row counter // of wrong PINs
	// Ticket is the digest of the PINTicket that an accepted code has earned;
	// zero: none.
	Ticket      [pinTicketDigest]byte
	TicketUntil int64 // unix seconds: not at this time any more
	// LongRun is of wrong PINs too, and what success does not reset. Whoever has
	// somebody's token, and waits out every lock, would find the PIN in the end.
	LongRun longRun
}

// pinStateV1 is the first layout, which older databases hold.
type pinStateV1 struct {
	Row         counter
	Ticket      [pinTicketDigest]byte
	TicketUntil int64
}

// lockedAt is since when the PIN is locked, in unix seconds; 0: it isn't.
func (s pinState) lockedAt() int64 {
	if s.LongRun.LockedAt != 0 {
		return s.LongRun.LockedAt
	}
	return s.Row.LockedAt
}

// userPIN is all that is stored of a user's PIN.
type userPIN struct {
	found  bool
	record pinRecord
	state  pinState
}

func pinKey(realm, name string) string      { return store.Key("pin", realm, name) }
func pinStateKey(realm, name string) string { return store.Key("pinstate", realm, name) }

// readPIN reads a user's PIN, and its state as it stands at now.
func readPIN(r store.Reader, realm Realm, name string, now time.Time) (p userPIN, err error) {
	if p.found, err = getJSON(r, pinKey(realm.ID, name), &p.record); err != nil {
		return p, err
	}
	b, err := r.Get(pinStateKey(realm.ID, name))
	if err != nil || b == nil {
		return p, err
	}
	var ok bool
	if p.state, ok = decodePINState(b); !ok {
		return p, fmt.Errorf("%w %q: %d bytes", errHotRecord, pinStateKey(realm.ID, name), len(b))
	}
	p.state.Row = p.state.Row.afterTime(realm.Lockout, now)
	return p, nil
}

func (s pinState) put(tx store.Txn, realm, name string) error {
	return tx.Put(pinStateKey(realm, name), s.encode())
}

func (s pinState) encode() []byte {
	b, err := binary.Append([]byte{pinStateVersion}, binary.BigEndian, s)
	if err != nil {
		panic(err) // a field without a fixed size
	}
	return b
}

// decodePINState is the inverse of encode, and reads the first layout too.
func decodePINState(b []byte) (s pinState, ok bool) {
	if len(b) > 0 && b[0] == 1 {
		var first pinStateV1
		ok = decodeExactly(b[1:], &first)
		return pinState{Row: first.Row, Ticket: first.Ticket, TicketUntil: first.TicketUntil}, ok
	}
	ok = len(b) > 0 && b[0] == pinStateVersion && decodeExactly(b[1:], &s)
	return s, ok
}

// info is p for people.
func (p userPIN) info(l Lockout) PINInfo {
	info := PINInfo{Set: p.record.Set}
	info.Failures, info.LockedAt = p.state.Row.shown()
	switch {
	case p.state.LongRun.LockedAt != 0:
		info.LockedAt = unixTime(p.state.LongRun.LockedAt)
	case !info.LockedAt.IsZero() && l.UnlockAfter > 0:
		info.OpensAt = info.LockedAt.Add(l.UnlockAfter)
	}
	return info
}

// forgetPIN removes all that is stored of a user's PIN.
func forgetPIN(tx store.Txn, realm, name string) error {
	if err := tx.Delete(pinKey(realm, name)); err != nil {
		return err
	}
	return tx.Delete(pinStateKey(realm, name))
}

// unlockPIN opens the lock that wrong PINs have set, and begins their count anew.
func unlockPIN(tx store.Txn, realm Realm, name string, now time.Time) error {
	p, err := readPIN(tx, realm, name, now)
	if err != nil || p.state.Row == (counter{}) && p.state.LongRun == (longRun{}) {
		return err
	}
	p.state.Row, p.state.LongRun = counter{}, longRun{}
	return p.state.put(tx, realm.ID, name)
}

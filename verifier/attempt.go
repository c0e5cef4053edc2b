package verifier

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"time"

	"otpgate/internal/store"
)

// Attempt is one try of one person to show a one-time code, as a door hands it
// to the gate.
type Attempt struct {
	Realm string // the realm's id
	User  string // exact name within the realm
	Match Match  // what was typed, or the response computed from it
	// FirstFactor is what became of a PIN or password that the door asked for
	// besides; zero if it asked for none.
	FirstFactor FirstFactor
	// FactorNoted says that NoteFirstFactor was told of it.
	FactorNoted bool

	Door   string // "radius", "oidc": for the audit log
	Client string // the NAS or relying party, by its name in gateway.yaml
	From   string // where the person is, as far as the door knows; may be empty
	// Login names this log-in among those of the client, where the door can
	// tell (a browser's transaction): if a next code is wanted, only the same
	// log-in may bring it. Empty where it can't.
	Login string
	// Resends says that whoever asks shows the same code again by itself when
	// an answer is lost, as network gear does; see Realm.FailoverGrace.
	Resends bool
}

// login is a digest of which log-in the attempt belongs to.
func (a Attempt) login() uint64 {
	sum := sha256.Sum256([]byte(store.Key(a.Door, a.Client, a.Login)))
	return binary.BigEndian.Uint64(sum[:])
}

// Match reports whether code is what the person's answer was made from. It
// must compare in constant time and have no effect that anybody but its maker
// sees: the gate may call it for any number of candidate codes, and calls it for
// a made-up code when the user doesn't exist. The gate doesn't call it any more
// when it has answered; what its maker does with it then is the maker's own.
type Match func(code string) bool

// Typed is the Match of a code typed by a person. What people's keyboards do
// to digits (full width, spaces, hyphens) is undone first; see Normalise.
func Typed(input string) Match {
	typed := []byte(Normalise(input))
	return func(code string) bool { return len(typed) > 0 && subtle.ConstantTimeCompare(typed, []byte(code)) == 1 }
}

// Outcome is what the gate decided. The set is closed; its exact value is for
// the audit log. A door tells a person no more than accepted, not accepted, or
// locked.
type Outcome string

// The outcomes of Verify.
const (
	Accepted     Outcome = "accepted"
	Wrong        Outcome = "wrong"          // no candidate step matches; counted
	NextCode     Outcome = "next_code"      // right but far off: the next code is wanted too; counted as wrong until it comes
	Replayed     Outcome = "replayed"       // the step was accepted before; neither passes nor counts
	Locked       Outcome = "locked"         // too many wrong in a row before this one; nothing was compared
	Suspended    Outcome = "suspended"      // a token exists but is suspended
	NotInService Outcome = "not_in_service" // a token exists but its holder hasn't started it
	NoToken      Outcome = "no_token"       // the user has none
	NoUser       Outcome = "no_user"        // the realm has no such user

	// WrongFirstFactor: the code wasn't looked at; see FirstFactor. What else
	// was in the way, the audit log alone is told.
	WrongFirstFactor Outcome = "wrong_first_factor"
)

// What Accepted is called in the audit log and the metrics, where it wasn't a code
// alone that let somebody in, or nobody is in yet.
const (
	vouched   Outcome = "vouched"    // by another server's word, without a code
	pinWanted Outcome = "pin_wanted" // the code was right; see Result.PINWanted
)

// Result is the gate's answer to one Attempt. It is on disk when the door gets
// it.
type Result struct {
	Outcome Outcome
	// Locked says that the user is locked now: either the outcome is Locked,
	// or this wrong code was the last one allowed.
	Locked bool
	// TriesLeft is how many wrong codes in a row are still allowed after a
	// Wrong, NextCode or Replayed; 0 otherwise.
	TriesLeft int
	Serial    string    // of the token that was accepted
	Receipt   Receipt   // of the step that the code granted; zero for a log-in
	Carrier   Carrier   // of the token that was accepted
	Groups    []string  // of the user who was accepted, in the record's order
	At        time.Time // when it was decided
	// PINWanted says that the code was right and is used up, but that nobody
	// passes yet: the door must not let the person in before ChoosePIN, with
	// PINTicket, has accepted a PIN. If it can't ask for one, it refuses.
	PINWanted bool
	PINTicket PINTicket
}

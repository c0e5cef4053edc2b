package verifier

import (
	"crypto/subtle"
	"time"
)

// Attempt is one try of one person to show a one-time code, as a door hands it
// to the gate.
type Attempt struct {
	Realm string // the realm's id
	User  string // exact name within the realm
	Match Match  // what was typed, or the response computed from it

	Door   string // "radius", "oidc": for the audit log
	Client string // the NAS or relying party, by its name in gateway.yaml
	From   string // where the person is, as far as the door knows; may be empty
}

// Match reports whether code is what the person's answer was made from. It
// must compare in constant time and have no side effect: the gate may call it
// for any number of candidate codes, and calls it for a made-up code when the
// user doesn't exist.
type Match func(code string) bool

// Typed is the Match of a code typed by a person. What people's keyboards do
// to digits (full width, spaces, hyphens) is undone first; see Normalise.
func Typed(input string) Match {
	typed := []byte(Normalise(input))
	return func(code string) bool { return subtle.ConstantTimeCompare(typed, []byte(code)) == 1 }
}

// Outcome is what the gate decided. The set is closed; its exact value is for
// the audit log. A door tells a person no more than accepted, not accepted, or
// locked.
type Outcome string

// The outcomes of Verify.
const (
	Accepted     Outcome = "accepted"
	Wrong        Outcome = "wrong"          // no candidate step matches; counted
	Replayed     Outcome = "replayed"       // the step was accepted before; neither passes nor counts
	Locked       Outcome = "locked"         // too many wrong in a row before this one; nothing was compared
	Suspended    Outcome = "suspended"      // a token exists but is suspended
	NotInService Outcome = "not_in_service" // a token exists but its holder hasn't started it
	NoToken      Outcome = "no_token"       // the user has none
	NoUser       Outcome = "no_user"        // the realm has no such user
)

// Result is the gate's answer to one Attempt. It is on disk when the door gets
// it.
type Result struct {
	Outcome Outcome
	// Locked says that the user is locked now: either the outcome is Locked,
	// or this wrong code was the last one allowed.
	Locked bool
	// TriesLeft is how many wrong codes in a row are still allowed after a
	// Wrong; 0 otherwise.
	TriesLeft int
	Serial    string    // of the token that was accepted
	Carrier   Carrier   // of the token that was accepted
	At        time.Time // when it was decided
}

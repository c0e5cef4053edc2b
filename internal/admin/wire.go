package admin

import (
	"net/http"
	"time"

	"otpgate/internal/audit"
	"otpgate/verifier"
	"otpgate/verifier/otp"
)

// User is one line of a list of users.
type User struct {
	Realm   string    `json:"realm"`
	Name    string    `json:"name"`
	Created time.Time `json:"created,omitzero"`
	Applied time.Time `json:"applied,omitzero"` // absent: no application waits
	Form    string    `json:"form,omitempty"`   // of the application
	Groups  []string  `json:"groups,omitempty"`
}

// NewUser asks for a user.
type NewUser struct {
	Realm  string `json:"realm"`
	Name   string `json:"name"`
	Reason string `json:"reason,omitempty"`
	Form   string `json:"form,omitempty"`
}

// SteppedUser is a user after a step, with its receipt.
type SteppedUser struct {
	User
	Service verifier.ServiceState `json:"service,omitempty"`
	// WasLocked says whether there was a lock to unlock.
	WasLocked bool `json:"was_locked,omitempty"`
	verifier.Receipt
}

// Token is a token as operators see it: all but the key.
type Token struct {
	Serial   string              `json:"serial"`
	Realm    string              `json:"realm"`
	User     string              `json:"user"`
	State    verifier.TokenState `json:"state"`
	Reason   string              `json:"reason,omitempty"`
	Carrier  verifier.Carrier    `json:"carrier,omitempty"`
	Batch    string              `json:"batch,omitempty"`
	Params   otp.Params          `json:"params"`
	Created  time.Time           `json:"created"`
	Changed  time.Time           `json:"changed"`
	Failures int                 `json:"failures,omitempty"` // wrong codes in a row
	LockedAt time.Time           `json:"locked_at,omitzero"` // absent: not locked
	UsedAt   time.Time           `json:"last_used,omitzero"` // last accepted code
	TriedAt  time.Time           `json:"tried_at,omitzero"`  // lost or suspended, its right code was shown
}

// Account is a user with everything the gate knows of them.
type Account struct {
	User
	Service  verifier.ServiceState `json:"service"`
	Failures int                   `json:"failures"`
	LockedAt time.Time             `json:"locked_at,omitzero"`
	// OpensAt is when the lock opens by itself; absent: a clerk opens it.
	OpensAt time.Time `json:"opens_at,omitzero"`
	// FallbackUntil is until when the card is to stand in for a code; absent: it isn't.
	FallbackUntil time.Time     `json:"fallback_until,omitzero"`
	PIN           *PIN          `json:"pin,omitempty"` // absent: the user has none
	Tokens        []Token       `json:"tokens"`
	Tries         []audit.Entry `json:"tries,omitempty"` // the latest, newest last
}

// PIN is what is known of a user's PIN.
type PIN struct {
	Set      time.Time `json:"set"`
	Failures int       `json:"failures,omitempty"` // wrong ones in a row
	LockedAt time.Time `json:"locked_at,omitzero"` // absent: not locked
	OpensAt  time.Time `json:"opens_at,omitzero"`  // when the lock opens by itself; absent: a clerk opens it
}

// NewToken asks for a token. Zero fields take the realm's values.
type NewToken struct {
	Realm     string           `json:"realm"`
	User      string           `json:"user"`
	Serial    string           `json:"serial,omitempty"`
	Type      otp.Type         `json:"type,omitempty"`
	Algorithm otp.Algorithm    `json:"algorithm,omitempty"`
	Digits    int              `json:"digits,omitempty"`
	Period    int              `json:"period,omitempty"` // seconds
	Key       []byte           `json:"key,omitempty"`    // empty: the gateway makes one
	Carrier   verifier.Carrier `json:"carrier,omitempty"`
	InService bool             `json:"in_service,omitempty"`
	Reason    string           `json:"reason,omitempty"`
	Form      string           `json:"form,omitempty"`
}

// SteppedToken is a token after a step, with its receipt. URI is there only if
// the step shows a key that the gateway has made: create, reissue, uri.
type SteppedToken struct {
	Token
	URI string `json:"uri,omitempty"` // otpauth://
	verifier.Receipt
}

// Step asks for a step in the life of a token or user.
type Step struct {
	Reason string         `json:"reason,omitempty"`
	Form   string         `json:"form,omitempty"`   // the paper form's number
	Groups []string       `json:"groups,omitempty"` // groups: all of them
	PIN    string         `json:"pin,omitempty"`    // set_pin
	Code   string         `json:"code,omitempty"`   // start, resync
	Next   string         `json:"next,omitempty"`   // resync: the code after it
	Realm  string         `json:"realm,omitempty"`  // assign
	User   string         `json:"user,omitempty"`   // assign
	Why    verifier.Cause `json:"why,omitempty"`    // unusable
	To     string         `json:"to,omitempty"`     // reissue: a serial in stock; else a software token is made
}

// by says who asks for the step, by the kernel's word, and why, by theirs.
func (s Step) by(r *http.Request) verifier.By {
	return verifier.By{Who: peer(r), Reason: s.Reason, Form: s.Form}
}

// Problem is the body of every answer that isn't a success.
type Problem struct {
	Problem string `json:"problem"`
	Hint    string `json:"hint,omitempty"`
	cause   error  // on the client's side, if it isn't the gateway's answer
}

func (p *Problem) Unwrap() error { return p.cause }

func (p *Problem) Error() string {
	if p.Hint == "" {
		return p.Problem
	}
	return p.Problem + ": " + p.Hint
}

package admin

import (
	"otpgate/internal/audit"
	"otpgate/verifier"
	"otpgate/verifier/otp"
	"time"
)

// User is one line of a list of users.
type User struct {
	Realm   string    `json:"realm"`
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
}

// Token is a token as operators see it: all but the key.
type Token struct {
	Serial   string              `json:"serial"`
	Realm    string              `json:"realm"`
	User     string              `json:"user"`
	State    verifier.TokenState `json:"state"`
	Reason   string              `json:"reason,omitempty"`
	Carrier  verifier.Carrier    `json:"carrier,omitempty"`
	Params   otp.Params          `json:"params"`
	Created  time.Time           `json:"created"`
	Changed  time.Time           `json:"changed"`
	Failures int                 `json:"failures,omitempty"` // wrong codes in a row
	LockedAt time.Time           `json:"locked_at,omitzero"` // absent: not locked
	UsedAt   time.Time           `json:"last_used,omitzero"` // last accepted code
}

// Account is a user with everything the gate knows of them.
type Account struct {
	User
	Service  verifier.ServiceState `json:"service"`
	Failures int                   `json:"failures"`
	LockedAt time.Time             `json:"locked_at,omitzero"`
	Tokens   []Token               `json:"tokens"`
	Tries    []audit.Entry         `json:"tries,omitempty"` // the latest, newest last
}

// NewToken asks for a token. Zero fields take the realm's values.
type NewToken struct {
	Realm     string           `json:"realm"`
	User      string           `json:"user"`
	Serial    string           `json:"serial,omitempty"`
	Algorithm otp.Algorithm    `json:"algorithm,omitempty"`
	Digits    int              `json:"digits,omitempty"`
	Period    int              `json:"period,omitempty"` // seconds
	Key       []byte           `json:"key,omitempty"`    // empty: the gateway makes one
	Carrier   verifier.Carrier `json:"carrier,omitempty"`
	InService bool             `json:"in_service,omitempty"`
}

// CreatedToken is the answer to NewToken. URI is there only if the gateway made
// the key, and never again after this answer.
type CreatedToken struct {
	Token
	URI string `json:"uri,omitempty"` // otpauth://
}

// Step asks for a step in the life of a token or user.
type Step struct {
	Reason string `json:"reason,omitempty"`
	Code   string `json:"code,omitempty"` // start only
}

// Problem is the body of every answer that isn't a success.
type Problem struct {
	Problem string `json:"problem"`
	Hint    string `json:"hint,omitempty"`
}

func (p *Problem) Error() string {
	if p.Hint == "" {
		return p.Problem
	}
	return p.Problem + ": " + p.Hint
}

func wireToken(t verifier.TokenInfo) Token {
	return Token{
		Serial: t.Serial, Realm: t.Realm, User: t.User, State: t.State, Reason: t.Reason, Carrier: t.Carrier,
		Params: t.Params, Created: t.Created, Changed: t.Changed,
		Failures: t.Failures, LockedAt: t.LockedAt, UsedAt: t.UsedAt,
	}
}

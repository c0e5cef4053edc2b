package verifier

import (
	"otpgate/verifier/otp"
	"time"
)

// Realm is one bank, or one group of internal systems, with its own policy.
type Realm struct {
	ID        string
	ServiceID string // サービスID, the number customers know the realm by
	OTP       otp.Params
	Lockout   Lockout
}

// Lockout says when wrong codes lock a user and what opens the lock.
type Lockout struct {
	// Consecutive wrong codes in a row lock the user and the tokens tried.
	Consecutive int
	// UnlockAfter opens the lock by itself after this time; 0: never.
	UnlockAfter time.Duration
}

// Carrier is what holds a token's key.
type Carrier string

// The carriers. Unknown is what an OIDC amr can't be honest about.
const (
	CarrierUnknown Carrier = ""
	Software       Carrier = "software"
	Hardware       Carrier = "hardware"
)

// TokenState is where a token is in its life. A lock is not a state of its own:
// it is set and opened by the gate, beside the state (see the hot records).
type TokenState string

// The states of a token that belongs to a user.
const (
	Issued         TokenState = "issued"     // 発行済: the key exists, its holder hasn't shown a code yet
	InService      TokenState = "in_service" // サービス利用中
	TokenSuspended TokenState = "suspended"  // 利用停止
	Released       TokenState = "released"   // 解除: the key is destroyed
)

// ServiceState is what a portal or a page may know of a user: whether a code
// can be asked for.
type ServiceState string

// The service states (design: /status).
const (
	ServiceNone      ServiceState = "none" // 未申込
	ServiceIssued    ServiceState = "issued"
	ServiceInService ServiceState = "in_service"
	ServiceSuspended ServiceState = "suspended"
	ServiceLocked    ServiceState = "locked"
	ServiceReleased  ServiceState = "released"
)

// User is the record of one person in one realm.
type User struct {
	V       int       `json:"v"` // layout version, 1
	Realm   string    `json:"realm"`
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
}

// Token is the record of one token. What changes at every try is not here but
// in the hot record beside it.
type Token struct {
	V       int        `json:"v"` // layout version, 1
	Serial  string     `json:"serial"`
	Realm   string     `json:"realm"`
	User    string     `json:"user"`
	State   TokenState `json:"state"`
	Before  TokenState `json:"before,omitempty"` // while suspended: the state to go back to
	Reason  string     `json:"reason,omitempty"` // why it was suspended or released
	Carrier Carrier    `json:"carrier,omitempty"`
	Params  otp.Params `json:"params"`
	Key     []byte     `json:"key,omitempty"` // sealed; empty once released
	Created time.Time  `json:"created"`
	Changed time.Time  `json:"changed"` // when State was last set
}

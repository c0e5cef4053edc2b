package verifier

import (
	"time"

	"otpgate/verifier/otp"
)

// Realm is one bank, or one group of internal systems, with its own policy.
type Realm struct {
	ID        string
	ServiceID string // サービスID, the number customers know the realm by
	OTP       otp.Params
	Lockout   Lockout
	// TokensPerUser is how many live tokens a user may have; 0: no limit.
	TokensPerUser int
	// LowerNames refuses a new user whose name isn't in lower case: a door that
	// takes names in lower case would never find them.
	LowerNames bool
	// ReissueCooldown is how long after the issue of a software token another
	// may be issued in its place.
	ReissueCooldown time.Duration
	// FailoverGrace is how long after an acceptance the same client may show the
	// same code again for the same user and station, once; 0: not at all.
	FailoverGrace time.Duration
	Card          *CardPolicy // nil: the realm has no confirmation cards
}

// Lockout says when wrong codes lock a user and what opens the lock. A clerk
// always can.
type Lockout struct {
	// Consecutive wrong codes in a row lock the user and the tokens tried.
	Consecutive int
	// UnlockAfter opens that lock by itself after this time; 0: never.
	UnlockAfter time.Duration
	// UnlockCodes right codes in a row open that lock; 0: they don't.
	UnlockCodes int
	// LongRun wrong codes within 13 weeks lock the user, right ones between or
	// not; 0: no limit. Only a clerk opens that lock.
	LongRun int
	// RealmAlarm wrong codes in the whole realm within ten minutes raise an
	// alarm; 0: never. They lock nobody.
	RealmAlarm int
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

// The states of a token.
const (
	InStock        TokenState = "in_stock"   // imported; nobody's
	Assigned       TokenState = "assigned"   // a customer's, on its way by post; not registered yet
	Issued         TokenState = "issued"     // 発行済: the key exists, its holder hasn't shown a code yet
	InService      TokenState = "in_service" // サービス利用中
	TokenSuspended TokenState = "suspended"  // 利用停止
	Lost           TokenState = "lost"       // or stolen; its use is watched for
	Broken         TokenState = "broken"
	BatteryFlat    TokenState = "battery_flat"
	Expired        TokenState = "expired"
	Released       TokenState = "released" // 解除: the key is destroyed
)

// ServiceState is what a portal or a page may know of a user: whether a code
// can be asked for.
type ServiceState string

// The service states (design: /status).
const (
	ServiceNone      ServiceState = "none"    // 未申込
	ServiceApplied   ServiceState = "applied" // 申込済: a clerk has registered the form
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
	Applied time.Time `json:"applied,omitzero"` // 申込済 since; zero once a token was issued for it
	Form    string    `json:"form,omitempty"`   // of the application
	// SoftwareIssued is when a software token was last issued, for the
	// cool-down.
	SoftwareIssued time.Time `json:"software_issued,omitzero"`
	Groups         []string  `json:"groups,omitempty"` // in the order that a clerk gave them
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
	Reason  string     `json:"reason,omitempty"` // of the last step that had one
	Carrier Carrier    `json:"carrier,omitempty"`
	Params  otp.Params `json:"params"`
	Key     []byte     `json:"key,omitempty"`   // sealed; empty once released
	Batch   string     `json:"batch,omitempty"` // it was imported in; see Batch
	Made    time.Time  `json:"made,omitzero"`   // manufactured, if known: its clock was right then
	// NotAfter is when its maker's word for it ends (PSKC ExpiryDate); zero:
	// never. See stateAt.
	NotAfter time.Time `json:"not_after,omitzero"`
	Created  time.Time `json:"created"`
	Changed  time.Time `json:"changed"` // when State was last set
	// Served says that it is, or was, in service: its user has moved here. Records
	// from before it was kept may lack it; they tell by their last accepted code.
	Served bool `json:"served,omitempty"`
}

// stateAt is the token's state at now: expired, once its maker's time for it is
// over, whatever was last written.
func (t *Token) stateAt(now time.Time) TokenState {
	if t.State.live() && !t.NotAfter.IsZero() && now.After(t.NotAfter) {
		return Expired
	}
	return t.State
}

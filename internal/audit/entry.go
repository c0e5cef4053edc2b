package audit

import "time"

// Entry is one line of the audit log: one try at a door, or one step of a
// token's or user's life. Fields that don't apply are left out of the line.
type Entry struct {
	// Seq and Prev are set by the log. Prev is the SHA-256 (hex) of the line
	// before, without its newline; empty in the first.
	Seq  uint64 `json:"seq"`
	Prev string `json:"prev"`

	Time    time.Time `json:"time"`  // UTC
	Event   string    `json:"event"` // "verify", "token.create", "user.unlock", …
	Outcome string    `json:"outcome,omitempty"`
	Realm   string    `json:"realm,omitempty"`
	User    string    `json:"user,omitempty"`
	Serial  string    `json:"serial,omitempty"`
	Door    string    `json:"door,omitempty"`   // "radius", "oidc", "admin"
	Client  string    `json:"client,omitempty"` // NAS, relying party, or who ran the command
	From    string    `json:"from,omitempty"`
	Receipt string    `json:"receipt,omitempty"` // the number that a step's page or print-out shows
	Form    string    `json:"form,omitempty"`    // the paper form's number, for a clerk's step
	Detail  string    `json:"detail,omitempty"`  // the exact reason, in words; never a code or key
}

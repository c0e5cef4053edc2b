// Package upstream asks another RADIUS server about a password.
package upstream

// Question is one Access-Request.
type Question struct {
	User, Password   string
	State            []byte // of the challenge that Password answers
	NASIdentifier    string
	CallingStationID string
}

// Kind is what the other server said.
type Kind int

// The kinds of answers.
const (
	Reject Kind = iota
	Accept
	Challenge
)

// Answer is what the other server said.
type Answer struct {
	Kind    Kind
	Message string // of a challenge
	Echo    bool
	State   []byte
	Class   [][]byte
}

// Package verifier is the domain: users, their tokens, and the one gate that
// accepts a code.
//
// Verify is the only way to accept anything, whichever door asks. It runs in
// three parts:
//
//	look    read the user's tokens; unseal their keys
//	match   compute the candidate codes and compare, outside any transaction
//	decide  in one transaction: read the counters, decide, write the outcome
//
// The answer leaves when the transaction and the audit entry are on disk. So
// the accepted step, the counters and the lock can't disagree, two parallel
// uses of a code give one Accepted, and a kill loses neither an accepted step
// nor a counted failure. If a token changed between look and decide, the try
// starts over.
//
// A user who doesn't exist costs the same work as one who does: a made-up key
// is tried, and a record is written.
//
// # Records
//
//	user       realm name          User, JSON
//	userstate  realm name          counters of the user, hot (hot.go)
//	token      serial              Token, JSON, its key sealed
//	tokenstate serial              last step and counters of the token, hot
//	usertoken  realm name serial   which tokens are a user's; empty but for a mark
//	realmstate realm               refusals in the realm, hot
//
// # The life of a token
//
// See steps in life.go: one table says which step is allowed in which state. A
// lock is no state: wrong codes set it in the hot records, and it is opened by
// time (if the realm says so), by unlocking the user or by resuming a token.
//
// The package doesn't own how a code arrives (the doors), how a key gets to a
// phone, or what the files look like (store).
package verifier

import (
	"context"
	"fmt"
	"otpgate/internal/audit"
	"otpgate/internal/store"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Sealer keeps secrets unreadable at rest. A sealed value opens only under the
// record key and purpose it was sealed for.
type Sealer interface {
	Seal(recordKey, purpose string, plaintext []byte) []byte
	// Open returns an error if the value was sealed under another key, for
	// another record or purpose, or was changed.
	Open(recordKey, purpose string, sealed []byte) ([]byte, error)
}

// Auditor writes what happened to the audit log.
type Auditor interface {
	// Append returns when the entry is on disk.
	Append(ctx context.Context, e audit.Entry) error
}

// Verifier holds what the gate needs. All fields but Tries must be set; none
// may change once it is in use.
type Verifier struct {
	Records store.Records
	Seal    Sealer
	Audit   Auditor
	Realms  map[string]Realm // by id
	Now     func() time.Time
	Tries   *prometheus.CounterVec // from NewTries; labels realm, door, outcome
}

// NewTries makes the counter of tries by realm, door and outcome.
func NewTries(reg prometheus.Registerer) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "otpgate_verifier_tries_total",
		Help: "Codes that people tried, by realm, door and exact outcome.",
	}, []string{"realm", "door", "outcome"})
	reg.MustRegister(c)
	return c
}

// Refusal says why a step on a user or token was refused and what to do. It is
// for the person who asked.
type Refusal struct {
	Problem string // what is in the way
	Hint    string // what to do next; may be empty
}

func (r *Refusal) Error() string {
	if r.Hint == "" {
		return r.Problem
	}
	return r.Problem + ": " + r.Hint
}

func refuse(hint, format string, args ...any) error {
	return &Refusal{Problem: fmt.Sprintf(format, args...), Hint: hint}
}

func (v *Verifier) realm(id string) (Realm, error) {
	r, ok := v.Realms[id]
	if !ok {
		return Realm{}, refuse("see realms in gateway.yaml", "there is no realm %q", id)
	}
	return r, nil
}

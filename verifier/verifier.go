// Package verifier is the domain: users, their tokens, and the one gate that
// accepts a code.
//
// Verify is the only way to accept anything, whichever door asks. It runs in
// three parts:
//
//	look    read the user's tokens; unseal their keys (gate.go)
//	match   compute the candidate codes and compare, outside any transaction (match.go)
//	decide  in one transaction: read the counters, decide, write the outcome (decide.go)
//
// The answer leaves when the transaction and the audit entry are on disk. So
// the accepted step, the counters and the lock can't disagree, two parallel
// uses of a code give one Accepted, and a kill loses neither an accepted step
// nor a counted failure. If a token changed between look and decide, the try
// starts over.
//
// Confirm is its like for the cells of a confirmation card (card.go): the same
// three parts, with counters of their own.
//
// What a door asks for besides the code, a PIN or a password, comes to the gate as
// a FirstFactor (firstfactor.go): one that is wrong never reaches the code. PINs are
// the gate's own (pin.go, pinset.go).
//
// A user who doesn't exist costs the same work as one who does: a made-up key
// is tried, and a record is written.
//
// Which codes are candidates is the token's own business (drift.go): its clock is
// known as an interval that each right code narrows and time widens. A right code
// far off that wants the next one too. What wrong codes lead to stands in
// counters.go and Lockout. Two codes read out to a clerk find a token that is
// further off (resync.go).
//
// Our own clock is trusted only as far as it goes forward (time.go).
//
// # Records
//
//	user       realm name          User, JSON
//	userstate  realm name          counters of the user, hot (hot.go)
//	token      serial              Token, JSON, its key sealed
//	tokenstate serial              last step and counters of the token, hot
//	usertoken  realm name serial   which tokens are a user's; empty but for a mark
//	realmstate realm               wrong codes in the realm, hot
//	clock                          the highest time at which anything was decided
//	card       realm name          Card, JSON, its digits sealed
//	cardstate  realm name          challenge and counters of the card, hot
//	cardid     realm number        whose card it is
//	cardfallback realm name        Fallback, JSON
//	pin        realm name          pinRecord, JSON, the PIN's hash sealed (pin.go)
//	pinstate   realm name          wrong PINs, and the ticket to choose one, hot
//	batch      number              Batch, JSON: what one file brought (batch.go)
//	staged     serial              a token that is being imported (import.go)
//	fingerprint key's              which token has or had a key (fingerprint.go)
//	fingerprintsecret              what fingerprints are made with, sealed
//	floor                          the time of the last restore
//	receipt                        the last receipt number
//
// # The life of a token
//
// See steps in life.go: one table says which step is allowed in which state, and
// docs/life.md shows it. How somebody gets a token is in issue.go, what a clerk
// does with it then in clerk.go, and with a user in users.go. Each such step
// leaves a receipt, whose number is in the audit log.
//
// A lock is no state: wrong codes set it in the hot records, and it is opened by
// what the realm's Lockout allows, by unlocking the user or by resuming a token.
//
// The package doesn't own how a code arrives (the doors), how a key gets to a
// phone, or what the files look like (store).
package verifier

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"otpgate/internal/audit"
	"otpgate/internal/store"
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

// Verifier holds what the gate needs. All exported fields must be set; none may
// change once it is in use.
type Verifier struct {
	Records store.Records
	Seal    Sealer
	Audit   Auditor
	Realms  map[string]Realm // by id
	Now     func() time.Time
	Log     *slog.Logger
	Metrics *Metrics

	hashes hashSlots
}

// Metrics counts what the gate does.
type Metrics struct {
	tries     *prometheus.CounterVec // realm, door, outcome
	cardTries *prometheus.CounterVec // realm, door, outcome
	alarms    *prometheus.CounterVec // realm
	pinHashes prometheus.Counter
}

// NewMetrics registers the gate's counters.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		tries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "otpgate_verifier_tries_total",
			Help: "Codes that people tried, by realm, door and exact outcome.",
		}, []string{"realm", "door", "outcome"}),
		cardTries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "otpgate_verifier_card_tries_total",
			Help: "Answers to a confirmation card's challenge, by realm, door and exact outcome.",
		}, []string{"realm", "door", "outcome"}),
		alarms: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "otpgate_verifier_alarms_total",
			Help: "How often the wrong codes of a whole realm, within ten minutes, reached its limit.",
		}, []string{"realm"}),
		pinHashes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "otpgate_verifier_pin_hashes_total",
			Help: "PINs that were hashed, to be checked or set. Each takes some tens of milliseconds of one core.",
		}),
	}
	reg.MustRegister(m.tries, m.cardTries, m.alarms, m.pinHashes)
	return m
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

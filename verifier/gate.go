package verifier

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"otpgate/internal/audit"
	"otpgate/internal/store"
)

// ErrNoDecision means that the gate could neither accept nor refuse (the store
// or the audit log failed, our clock is behind, the realm doesn't exist).
// Whoever gets it must let nobody pass.
var ErrNoDecision = errors.New("verifier: no decision")

// errMoved: a token changed between look and decide.
var errMoved = errors.New("verifier: the user's tokens changed meanwhile")

// errMismatch: a record doesn't belong where it stands.
var errMismatch = errors.New("mismatched token record")

// maxLooks bounds how often a try starts over because tokens changed. Tokens
// change at a clerk's pace; more than a few times is a fault of ours.
const maxLooks = 5

// passage is what an accepted code is for.
type passage struct {
	event    string // in the audit log
	by       By     // the clerk who asks for it; zero at a door
	eligible func(Token) bool
	retried  bool // its answer may be lost, and be asked for again: see Realm.FailoverGrace
	// granted writes what else follows from acceptance, in the same
	// transaction. May be nil.
	granted func(tx store.Txn, t Token, now time.Time) error
}

// login is the passage of every door.
func login() passage {
	return passage{event: "verify", retried: true, eligible: func(t Token) bool { return t.State == InService }}
}

// Verify decides one attempt. The answer is on disk, and in the audit log, when
// it returns. The error is always an ErrNoDecision.
func (v *Verifier) Verify(ctx context.Context, a Attempt) (Result, error) {
	return v.pass(ctx, a, login())
}

// Admit says whether a code can be asked for at all: ServiceInService. Whoever is
// turned away without having typed one stands in the audit log like a refused
// try, so that "why can't I log in?" has its answer there. Of a, Match isn't
// used.
func (v *Verifier) Admit(ctx context.Context, a Attempt) (ServiceState, error) {
	state, err := v.State(ctx, a.Realm, a.User)
	if err != nil || state == ServiceInService {
		return state, err
	}
	return state, v.Audit.Append(ctx, audit.Entry{
		Time: v.Now(), Event: "verify", Outcome: string(state), Realm: a.Realm, User: a.User,
		Door: a.Door, Client: a.Client, From: a.From, Detail: "turned away before a code was asked for",
	})
}

func (v *Verifier) pass(ctx context.Context, a Attempt, p passage) (Result, error) {
	realm, ok := v.Realms[a.Realm]
	if !ok {
		return Result{}, fmt.Errorf("%w: no realm %q", ErrNoDecision, a.Realm)
	}
	now := v.Now()
	d, err := settle(func() (decision, error) { return v.try(ctx, realm, a, p, now) })
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrNoDecision, err)
	}
	v.Metrics.tries.WithLabelValues(realm.ID, a.Door, string(d.recorded())).Inc()
	if err := v.publish(ctx, realm, a, p, d, now); err != nil {
		return Result{}, fmt.Errorf("%w: %w: %w", ErrNoDecision, ErrNotLogged, err)
	}
	return d.Result, nil
}

// settle decides, and starts over while what was looked at changes meanwhile.
func settle(try func() (decision, error)) (d decision, err error) {
	err = errMoved
	for look := 0; errors.Is(err, errMoved) && look < maxLooks; look++ {
		d, err = try()
	}
	return d, err
}

// publish writes the decision to the audit log, and raises the realm's alarm if
// that was decided. The outcome is committed: a caller who goes away can't keep
// it out of the log.
func (v *Verifier) publish(ctx context.Context, realm Realm, a Attempt, p passage, d decision, now time.Time) error {
	ctx = context.WithoutCancel(ctx)
	if d.alarm {
		if err := v.raiseAlarm(ctx, realm, now); err != nil {
			return err
		}
	}
	return v.Audit.Append(ctx, audit.Entry{
		Time: now, Event: p.event, Outcome: string(d.recorded()), Realm: realm.ID, User: a.User,
		Serial: d.Serial, Door: a.Door, Client: a.Client, From: a.From, Receipt: d.Receipt.Number, Form: p.by.Form,
		Detail: p.by.andWhy(d.reason),
	})
}

func (v *Verifier) try(ctx context.Context, realm Realm, a Attempt, p passage, now time.Time) (d decision, err error) {
	seen, err := v.look(ctx, a, p, now)
	if err != nil {
		return d, err
	}
	if err := v.compare(realm, seen, a, now); err != nil {
		return d, err
	}
	var ticket PINTicket
	if a.FirstFactor.unset() {
		ticket = newPINTicket()
	}
	err = v.Records.Update(ctx, func(tx store.Txn) (err error) {
		d, err = (&deciding{tx: tx, realm: realm, attempt: a, passage: p, seen: seen, now: now, ticket: ticket, realms: v.Realms}).decide()
		if err == nil && d.Outcome == Accepted {
			d.Groups, err = groupsOf(tx, a.Realm, a.User)
		}
		return err
	})
	return d, err
}

// sight is what look found of a user.
type sight struct {
	userExists bool
	tokens     []seenToken // all of the user's, by serial
}

type seenToken struct {
	Token
	raw      []byte // the record as it was read
	state    tokenState
	floor    int64  // unix seconds of the last restore; 0: never
	login    uint64 // of the attempt
	eligible bool
	barred   bool // its user is locked, and no code opens that
	watched  bool // lost or suspended: never accepted, but its use is noted
	hits     hits
}

func (v *Verifier) look(ctx context.Context, a Attempt, p passage, now time.Time) (*sight, error) {
	var seen sight
	err := v.Records.View(ctx, func(r store.Reader) error {
		seen = sight{}
		if CheckUserName(a.User) != nil {
			return nil //nolint:nilerr // nobody can have this name: a user who doesn't exist
		}
		u, err := r.Get(userKey(a.Realm, a.User))
		if err != nil {
			return err
		}
		seen.userExists = u != nil
		user, err := readUserState(r, a.Realm, a.User)
		if err != nil {
			return err
		}
		serials, err := serialsOf(r, a.Realm, a.User)
		if err != nil {
			return err
		}
		for _, serial := range serials {
			t, err := seeToken(r, serial, a, p, now)
			if err != nil {
				return err
			}
			t.login, t.barred = a.login(), user.barred(v.Realms[a.Realm].Lockout, now)
			seen.tokens = append(seen.tokens, t)
		}
		return nil
	})
	return &seen, err
}

func seeToken(r store.Reader, serial string, a Attempt, p passage, now time.Time) (t seenToken, err error) {
	raw, err := r.Get(tokenKey(serial))
	if err != nil {
		return t, err
	}
	if err := json.Unmarshal(raw, &t.Token); err != nil {
		return t, fmt.Errorf("token %s: %w", serial, err)
	}
	if err := t.Params.Check(); err != nil || t.Serial != serial || t.Realm != a.Realm || t.User != a.User {
		return t, fmt.Errorf("token %s: its record isn't this user's, or is damaged: %w", serial, errMismatch)
	}
	floor, err := readFloor(r)
	if err != nil {
		return t, err
	}
	if !floor.IsZero() {
		t.floor = floor.Unix()
	}
	t.raw, t.State = bytes.Clone(raw), t.stateAt(now)
	t.hits = noHits()
	t.eligible = p.eligible(t.Token)
	t.watched = !t.eligible && len(t.Key) > 0 && (t.State == Lost || t.State == TokenSuspended)
	t.state, err = readTokenState(r, serial)
	return t, err
}

package verifier

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"otpgate/internal/audit"
	"otpgate/internal/store"
	"otpgate/verifier/otp"
	"slices"
	"time"
)

// ErrNoDecision means that the gate could neither accept nor refuse (the store or the
// audit log failed, the realm doesn't exist). Whoever gets it must let nobody
// pass.
var ErrNoDecision = errors.New("verifier: no decision")

// errMoved: a token changed between look and decide.
var errMoved = errors.New("verifier: the user's tokens changed meanwhile")

// maxLooks bounds how often a try starts over because tokens changed. Tokens
// change at a clerk's pace; more than a few times is a fault of ours.
const maxLooks = 5

// passage is what an accepted code is for.
type passage struct {
	event    string // in the audit log
	eligible func(Token) bool
	// granted writes what else follows from acceptance, in the same
	// transaction. May be nil.
	granted func(tx store.Txn, t Token, now time.Time) error
}

// login is the passage of every door.
var login = passage{event: "verify", eligible: func(t Token) bool { return t.State == InService }}

// Verify decides one attempt. The answer is on disk, and in the audit log, when
// it returns. The error is always an ErrNoDecision.
func (v *Verifier) Verify(ctx context.Context, a Attempt) (Result, error) {
	return v.pass(ctx, a, login)
}

func (v *Verifier) pass(ctx context.Context, a Attempt, p passage) (Result, error) {
	realm, ok := v.Realms[a.Realm]
	if !ok {
		return Result{}, fmt.Errorf("%w: no realm %q", ErrNoDecision, a.Realm)
	}
	now := v.Now()
	var d decision
	err := errMoved
	for look := 0; errors.Is(err, errMoved) && look < maxLooks; look++ {
		d, err = v.try(ctx, realm, a, p, now)
	}
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrNoDecision, err)
	}
	v.Tries.WithLabelValues(realm.ID, a.Door, string(d.Outcome)).Inc()
	// The outcome is committed: a caller who goes away can't keep it out of
	// the log.
	err = v.Audit.Append(context.WithoutCancel(ctx), audit.Entry{
		Time: now, Event: p.event, Outcome: string(d.Outcome), Realm: realm.ID, User: a.User,
		Serial: d.Serial, Door: a.Door, Client: a.Client, From: a.From, Detail: d.reason,
	})
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrNoDecision, err)
	}
	return d.Result, nil
}

func (v *Verifier) try(ctx context.Context, realm Realm, a Attempt, p passage, now time.Time) (d decision, err error) {
	seen, err := v.look(ctx, a, p)
	if err != nil {
		return d, err
	}
	if err := v.match(seen, a.Match, now); err != nil {
		return d, err
	}
	err = v.Records.Update(ctx, func(tx store.Txn) (err error) {
		d, err = decide(tx, realm, a, p, seen, now)
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
	last     int64
	eligible bool
	hits     []int64 // candidate steps whose code matches, rising
}

func (v *Verifier) look(ctx context.Context, a Attempt, p passage) (*sight, error) {
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
		serials, err := serialsOf(r, a.Realm, a.User)
		if err != nil {
			return err
		}
		for _, serial := range serials {
			t, err := seeToken(r, serial, p)
			if err != nil {
				return err
			}
			seen.tokens = append(seen.tokens, t)
		}
		return nil
	})
	return &seen, err
}

func seeToken(r store.Reader, serial string, p passage) (t seenToken, err error) {
	raw, err := r.Get(tokenKey(serial))
	if err != nil {
		return t, err
	}
	if err := json.Unmarshal(raw, &t.Token); err != nil {
		return t, fmt.Errorf("token %s: %w", serial, err)
	}
	state, err := readTokenState(r, serial)
	t.raw, t.last, t.eligible = bytes.Clone(raw), state.last, p.eligible(t.Token)
	return t, err
}

// match computes the candidate codes of every eligible token and notes which
// of them match. Without such a token it does the same for a made-up one.
func (v *Verifier) match(seen *sight, match Match, now time.Time) error {
	tried := false
	for i := range seen.tokens {
		t := &seen.tokens[i]
		if !t.eligible {
			continue
		}
		key, err := v.Seal.Open(tokenKey(t.Serial), purposeTokenKey, t.Key)
		if err != nil {
			return fmt.Errorf("token %s: %w", t.Serial, err)
		}
		t.hits = hits(key, t.Params, t.last, match, now)
		clear(key)
		tried = true
	}
	if !tried {
		var key [otp.MinKey]byte
		hits(key[:], otp.Params{Type: otp.TOTP, Algorithm: otp.SHA1, Digits: otp.MinDigits, Period: 30}, noStep, match, now)
	}
	return nil
}

// hits lists the candidate steps that match, rising. The last accepted step is
// among the candidates wherever it lies, so that its code is known as used up
// however late it comes again. No early exit: the time tells nothing.
func hits(key []byte, p otp.Params, last int64, match Match, now time.Time) []int64 {
	g := otp.NewGenerator(key, p)
	var found []int64
	if match(g.Code(last)) && last != noStep {
		found = append(found, last)
	}
	first, end := window(p, now)
	for s := first; s <= end; s++ {
		if match(g.Code(s)) && s != last {
			found = append(found, s)
		}
	}
	slices.Sort(found)
	return found
}

// decision is a Result with what only the audit log may know.
type decision struct {
	Result
	reason string
}

// decide is the whole rule of who may pass. It runs inside the transaction and
// may run again.
func decide(tx store.Txn, realm Realm, a Attempt, p passage, seen *sight, now time.Time) (decision, error) {
	if err := unmoved(tx, a, seen); err != nil {
		return decision{}, err
	}
	user, err := readUserState(tx, a.Realm, a.User)
	if err != nil {
		return decision{}, err
	}
	user.counter = user.afterTime(realm.Lockout, now)

	if outcome, reason := standing(seen, user); outcome != "" {
		return refuseTry(tx, realm, now, outcome, outcome == Locked, reason)
	}
	open, err := openTokens(tx, realm, seen, now)
	if err != nil {
		return decision{}, err
	}
	if len(open) == 0 {
		return refuseTry(tx, realm, now, Locked, true, "every token of the user is locked")
	}
	used := int64(noStep)
	for _, t := range open {
		for _, step := range t.hits {
			if step > t.state.last {
				return accept(tx, a, p, t, step, now)
			}
			used = step
		}
	}
	if used != noStep {
		return refuseTry(tx, realm, now, Replayed, false, fmt.Sprintf("step %d was used before, or is older than the last one used", used))
	}
	return countWrong(tx, realm, a, user, open, now)
}

// unmoved returns errMoved unless the user and the tokens are as look saw them.
func unmoved(tx store.Txn, a Attempt, seen *sight) error {
	u, err := tx.Get(userKey(a.Realm, a.User))
	if err != nil {
		return err
	}
	serials, err := serialsOf(tx, a.Realm, a.User)
	if err != nil {
		return err
	}
	if (u != nil) != seen.userExists || len(serials) != len(seen.tokens) {
		return errMoved
	}
	for i, serial := range serials {
		raw, err := tx.Get(tokenKey(serial))
		if err != nil {
			return err
		}
		if serial != seen.tokens[i].Serial || !bytes.Equal(raw, seen.tokens[i].raw) {
			return errMoved
		}
	}
	return nil
}

// standing is the outcome that doesn't depend on what was typed; "" if it does.
func standing(seen *sight, user userState) (Outcome, string) {
	if !seen.userExists {
		return NoUser, "the realm has no such user"
	}
	if user.locked() {
		return Locked, "the user is locked since " + time.Unix(user.lockedAt, 0).UTC().Format(time.RFC3339)
	}
	has := map[TokenState]bool{}
	for _, t := range seen.tokens {
		if t.eligible {
			return "", ""
		}
		has[t.State] = true
	}
	switch {
	case has[TokenSuspended]:
		return Suspended, "the token is suspended"
	case has[Issued]:
		return NotInService, "the token was issued but never started"
	}
	return NoToken, "the user has no token"
}

// openToken is an eligible token that isn't locked, with its counters.
type openToken struct {
	seenToken
	state tokenState
}

func openTokens(tx store.Txn, realm Realm, seen *sight, now time.Time) ([]openToken, error) {
	var open []openToken
	for _, t := range seen.tokens {
		if !t.eligible {
			continue
		}
		state, err := readTokenState(tx, t.Serial)
		if err != nil {
			return nil, err
		}
		state.counter = state.afterTime(realm.Lockout, now)
		if !state.locked() {
			open = append(open, openToken{t, state})
		}
	}
	return open, nil
}

func accept(tx store.Txn, a Attempt, p passage, t openToken, step int64, now time.Time) (decision, error) {
	state := tokenState{last: step, usedAt: now.Unix()}
	if err := tx.Put(tokenStateKey(t.Serial), state.encode()); err != nil {
		return decision{}, err
	}
	if err := tx.Put(userStateKey(a.Realm, a.User), userState{}.encode()); err != nil {
		return decision{}, err
	}
	if p.granted != nil {
		if err := p.granted(tx, t.Token, now); err != nil {
			return decision{}, err
		}
	}
	return decision{
		Result: Result{Outcome: Accepted, Serial: t.Serial, Carrier: t.Carrier, At: now},
		reason: fmt.Sprintf("step %d, %+d from ours", step, step-t.Params.Step(now)),
	}, nil
}

func countWrong(tx store.Txn, realm Realm, a Attempt, user userState, open []openToken, now time.Time) (decision, error) {
	allLocked := true
	for _, t := range open {
		t.state.counter = t.state.fail(realm.Lockout, now)
		allLocked = allLocked && t.state.locked()
		if err := tx.Put(tokenStateKey(t.Serial), t.state.encode()); err != nil {
			return decision{}, err
		}
	}
	user.counter = user.fail(realm.Lockout, now)
	if err := tx.Put(userStateKey(a.Realm, a.User), user.encode()); err != nil {
		return decision{}, err
	}
	d := decision{
		Result: Result{Outcome: Wrong, Locked: user.locked() || allLocked, At: now},
		reason: fmt.Sprintf("wrong code, %d of %d in a row", user.failures, realm.Lockout.Consecutive),
	}
	if !d.Locked {
		d.TriesLeft = realm.Lockout.Consecutive - user.failures
	} else {
		d.reason += "; locked now"
	}
	if len(open) == 1 {
		d.Serial = open[0].Serial
	}
	return d, nil
}

// refuseTry is a refusal that counts against nobody.
func refuseTry(tx store.Txn, realm Realm, now time.Time, outcome Outcome, locked bool, reason string) (decision, error) {
	state, err := readRealmState(tx, realm.ID)
	if err != nil {
		return decision{}, err
	}
	state.refused++
	if err := tx.Put(realmStateKey(realm.ID), state.encode()); err != nil {
		return decision{}, err
	}
	return decision{Result: Result{Outcome: outcome, Locked: locked, At: now}, reason: reason}, nil
}

package verifier

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"otpgate/internal/store"
)

// decision is a Result with what only the audit log may know.
type decision struct {
	Result
	reason  string
	alarm   bool // the realm's count of wrong codes has reached its limit
	vouched bool // accepted by another server's word
}

// recorded is the outcome as the audit log and the metrics have it.
func (d decision) recorded() Outcome {
	switch {
	case d.Outcome == Accepted && d.vouched:
		return vouched
	case d.Outcome == Accepted && d.PINWanted:
		return pinWanted
	}
	return d.Outcome
}

// deciding is one run of the rules of who may pass, inside its transaction. It
// may run again, from the start.
type deciding struct {
	tx      store.Txn
	realm   Realm
	attempt Attempt
	passage passage
	seen    *sight
	now     time.Time
	ticket  PINTicket // to be given out if a PIN is to be chosen
	realms  map[string]Realm

	user userState
	open []seenToken // eligible and not locked, their state read anew
	pin  userPIN     // read only if the first factor is a PIN
}

func (d *deciding) decide() (decision, error) {
	if err := tick(d.tx, d.now); err != nil {
		return decision{}, err
	}
	if err := d.read(); err != nil {
		return decision{}, err
	}
	if out, done, err := d.judgeFactor(); done || err != nil {
		return out, err
	}
	out, err := d.judgeCode()
	if err != nil || out.Outcome != Accepted {
		return out, err
	}
	return d.passFactor(out)
}

// judgeCode decides by what was typed, and by where the user and the tokens
// stand.
func (d *deciding) judgeCode() (decision, error) {
	switch outcome, reason := d.standing(); {
	case outcome == Locked && d.mayUnlock():
		return d.tryUnlock(reason)
	case outcome != "":
		return d.refuse(outcome, reason)
	case len(d.open) == 0:
		return d.refuse(Locked, "every token of the user is locked")
	}
	for _, t := range d.open {
		if step, ok := t.usedUp(); ok {
			if out, ok, err := d.acceptAgain(&t); ok || err != nil {
				return out, err
			}
			return d.refuse(Replayed, fmt.Sprintf("already used: step %d of token %s, or a later one, was accepted before", step, t.Serial))
		}
	}
	for i, t := range d.open {
		if step, ok := t.right(); ok {
			return d.accept(i, step)
		}
	}
	return d.countWrong()
}

// read reads the counters, and returns errMoved unless the user and the tokens
// are as look saw them.
func (d *deciding) read() error {
	realm, name := d.attempt.Realm, d.attempt.User
	u, err := d.tx.Get(userKey(realm, name))
	if err != nil {
		return err
	}
	serials, err := serialsOf(d.tx, realm, name)
	if err != nil {
		return err
	}
	if (u != nil) != d.seen.userExists || len(serials) != len(d.seen.tokens) {
		return errMoved
	}
	if d.user, err = readUserState(d.tx, realm, name); err != nil {
		return err
	}
	d.user.Row = d.user.Row.afterTime(d.realm.Lockout, d.now)
	for i, serial := range serials {
		if err := d.readToken(serial, d.seen.tokens[i]); err != nil {
			return err
		}
	}
	return nil
}

func (d *deciding) readToken(serial string, t seenToken) error {
	raw, err := d.tx.Get(tokenKey(serial))
	if err != nil {
		return err
	}
	state, err := readTokenState(d.tx, serial)
	if err != nil {
		return err
	}
	// A next code that is wanted decides which steps were compared, so it must
	// be the one that look saw. The rest of the state only ever narrows.
	if serial != t.Serial || !bytes.Equal(raw, t.raw) || state.Wanted != t.state.Wanted {
		return errMoved
	}
	t.state = state
	t.state.Row = state.Row.afterTime(d.realm.Lockout, d.now)
	if t.eligible && (!t.state.Row.locked() || d.user.Row.locked()) {
		d.open = append(d.open, t)
	}
	return nil
}

// standing is the outcome that doesn't depend on what was typed; "" if it does.
func (d *deciding) standing() (Outcome, string) {
	if !d.seen.userExists {
		if strings.HasSuffix(d.attempt.User, "@"+d.realm.ID) {
			return NoUser, "the realm has no such user; the name has the realm in it, which the client's entry gives already"
		}
		if other := d.realmInName(); other != "" {
			return NoUser, fmt.Sprintf("the realm has no such user; the name has realm %s in it, which isn't among those of the client's entry", other)
		}
		return NoUser, "the realm has no such user"
	}
	if at := d.user.LongRun.LockedAt; at != 0 {
		return Locked, fmt.Sprintf("the user is locked since %s: %d wrong codes within %d weeks",
			stamp(at), d.realm.Lockout.LongRun, longRunWeeks)
	}
	if d.user.Row.locked() {
		return Locked, fmt.Sprintf("the user is locked since %s: %d wrong codes in a row", stamp(d.user.Row.LockedAt), d.user.Row.Failures)
	}
	has := map[TokenState]bool{}
	for _, t := range d.seen.tokens {
		if t.eligible {
			return "", ""
		}
		has[t.State] = true
	}
	switch {
	case has[TokenSuspended]:
		return Suspended, "the token is suspended"
	case has[Issued] || has[Assigned]:
		return NotInService, "the token was issued but never started"
	}
	if has[Expired] {
		return NoToken, "the token has expired"
	}
	return NoToken, "the user has no usable token"
}

// realmInName is another realm that the user's name has in it: NAME@REALM, or
// REALM\NAME; "" if it has none.
func (d *deciding) realmInName() string {
	name := d.attempt.User
	prefix, _, _ := strings.Cut(name, `\`)
	suffix := name[strings.LastIndexByte(name, '@')+1:]
	for id := range d.realms {
		if id != d.realm.ID && name != id && (strings.EqualFold(id, prefix) || strings.EqualFold(id, suffix)) {
			return id
		}
	}
	return ""
}

// right is the step to accept, if what was typed is right for the token.
func (t *seenToken) right() (step int64, ok bool) {
	for _, s := range t.hits.accept {
		if s > t.lowest() {
			return s, true
		}
	}
	if t.hits.pair > t.lowest() {
		return t.hits.pair, true
	}
	return 0, false
}

// usedUp is the step that what was typed was right for once, if it is right for
// no other.
func (t *seenToken) usedUp() (step int64, ok bool) {
	if _, ok := t.right(); ok {
		return 0, false
	}
	if t.hits.used {
		return t.state.Last, true
	}
	if len(t.hits.accept) > 0 { // all too low
		return t.hits.accept[0], true
	}
	return 0, false
}

// accept uses up the step of the i-th open token, and ends the row of wrong
// codes: the user's, and that of each open token.
func (d *deciding) accept(i int, step int64) (decision, error) {
	t := &d.open[i]
	out := decision{Result: Result{Outcome: Accepted, Serial: t.Serial, Carrier: t.Carrier, At: d.now}}
	out.reason = d.use(t, step)
	if err := d.noteUse(t); err != nil {
		return decision{}, err
	}
	for _, t := range d.open {
		t.state.Row = counter{}
		if err := d.putToken(t); err != nil {
			return decision{}, err
		}
	}
	d.user.Row, d.user.Unlocker = counter{}, 0
	if err := d.putUser(); err != nil {
		return decision{}, err
	}
	if d.passage.granted == nil {
		return out, nil
	}
	var err error
	if out.Receipt, err = nextReceipt(d.tx, d.now); err != nil {
		return decision{}, err
	}
	return out, d.passage.granted(d.tx, t.Token, d.now)
}

// use marks step as the token's last, learns from it, and says in words what
// was seen.
func (d *deciding) use(t *seenToken, step int64) (reason string) {
	reason = fmt.Sprintf("count %d, %d ahead", step, step-t.state.Last-1)
	resynchronised := step == t.hits.pair
	if !t.hotp() {
		var surprised bool
		t.state.Clock, surprised = t.clock().learn(t.Params, step, d.now.Unix())
		reason = fmt.Sprintf("step %d, %+d from ours", step, step-t.Params.Step(d.now))
		if surprised {
			reason += "; its clock was not where it was expected"
		}
	}
	if resynchronised {
		reason += "; resynchronised by two codes"
	}
	t.state.Last, t.state.UsedAt, t.state.Wanted = step, d.now.Unix(), wanted{}
	return reason
}

// countWrong counts a wrong code against the user and every open token, and
// asks for the next code if it is right but far off.
func (d *deciding) countWrong() (decision, error) {
	out := decision{Result: Result{Outcome: Wrong, At: d.now}}
	left := 0
	hint := ""
	for _, t := range d.open {
		t.state.Row = t.state.Row.fail(d.realm.Lockout, d.now)
		if t.hits.far > t.state.Last {
			out.Outcome = NextCode
			t.state.Wanted = wanted{Step: t.hits.far, Until: d.now.Add(t.pairTime()).Unix(), Login: d.attempt.login()}
			hint = fmt.Sprintf("; right for a clock or counter that is %+d off, the next one is wanted", t.hits.far-t.expected(d.now))
		} else {
			hint += t.hits.hint
		}
		if !t.state.Row.locked() {
			left = max(left, d.realm.Lockout.Consecutive-int(t.state.Row.Failures))
		}
		if err := d.putToken(t); err != nil {
			return decision{}, err
		}
	}
	d.user.Row, d.user.Unlocker = d.user.Row.fail(d.realm.Lockout, d.now), 0
	d.user.LongRun = d.user.LongRun.fail(d.realm.Lockout.LongRun, d.now)
	if err := d.putUser(); err != nil {
		return decision{}, err
	}
	watched, err := d.noteWatched()
	if err != nil {
		return decision{}, err
	}
	if out.alarm, err = d.countInRealm(); err != nil {
		return decision{}, err
	}
	out.Locked = left == 0 || d.user.Row.locked() || d.user.LongRun.LockedAt != 0
	out.reason = fmt.Sprintf("wrong code, %d of %d in a row%s%s", d.user.Row.Failures, d.realm.Lockout.Consecutive, hint, watched)
	if out.Locked {
		out.reason += "; locked now"
	} else {
		out.TriesLeft = min(left, d.user.triesLeft(d.realm.Lockout, d.now))
	}
	if len(d.open) == 1 {
		out.Serial = d.open[0].Serial
	}
	return out, nil
}

// refuse is a refusal that counts against nobody but the realm.
func (d *deciding) refuse(outcome Outcome, reason string) (decision, error) {
	watched, err := d.noteWatched()
	if err != nil {
		return decision{}, err
	}
	out := decision{Result: Result{Outcome: outcome, Locked: outcome == Locked, At: d.now}, reason: reason + watched}
	if outcome == Replayed { // as after a wrong one: a page must not tell the two apart
		out.TriesLeft = d.user.triesLeft(d.realm.Lockout, d.now)
	}
	if outcome == NoUser || outcome == NoToken {
		out.alarm, err = d.countInRealm()
		return out, err
	}
	return out, d.countUnchanged()
}

// countUnchanged counts a try that changed no user's record: see
// realmState.Refused.
func (d *deciding) countUnchanged() error {
	state, err := readRealmState(d.tx, d.realm.ID)
	if err != nil {
		return err
	}
	state.Refused++
	return d.tx.Put(realmStateKey(d.realm.ID), encodeHot(state))
}

// countInRealm counts a wrong code of the realm, whosever it is.
func (d *deciding) countInRealm() (alarm bool, err error) {
	state, err := readRealmState(d.tx, d.realm.ID)
	if err != nil {
		return false, err
	}
	state.Spray, alarm = state.Spray.fail(d.realm.Lockout.RealmAlarm, d.now)
	return alarm, d.tx.Put(realmStateKey(d.realm.ID), encodeHot(state))
}

// noteWatched notes on a lost or suspended token that its right code was
// shown: somebody has it.
func (d *deciding) noteWatched() (reason string, err error) {
	for _, t := range d.seen.tokens {
		if !t.watched || len(t.hits.accept) == 0 && !t.hits.used {
			continue
		}
		state, err := readTokenState(d.tx, t.Serial)
		if err != nil {
			return "", err
		}
		state.TriedAt = d.now.Unix()
		if err := d.tx.Put(tokenStateKey(t.Serial), encodeHot(state)); err != nil {
			return "", err
		}
		reason += fmt.Sprintf("; it is the right code of token %s, which is %s", t.Serial, t.State)
	}
	return reason, nil
}

// mayUnlock says whether right codes can open the user's lock.
func (d *deciding) mayUnlock() bool {
	return d.realm.Lockout.UnlockCodes > 0 && d.user.LongRun.LockedAt == 0
}

// tryUnlock counts right codes in a row at a locked user. Each is used up, and
// all but the last are answered like a wrong one: a guesser learns nothing.
func (d *deciding) tryUnlock(reason string) (decision, error) {
	for i, t := range d.open {
		step, ok := t.right()
		if !ok || step == t.hits.pair {
			continue
		}
		d.user.Unlocker++
		if int(d.user.Unlocker) >= d.realm.Lockout.UnlockCodes {
			if err := openLocks(d.tx, d.attempt.Realm, d.attempt.User); err != nil {
				return decision{}, err
			}
			out, err := d.accept(i, step)
			out.reason += fmt.Sprintf("; the lock was opened by %d right codes in a row", d.realm.Lockout.UnlockCodes)
			return out, err
		}
		t.state.Last = step
		if err := d.putToken(t); err != nil {
			return decision{}, err
		}
		return d.stillLocked(fmt.Sprintf("%s; right code %d of %d that open it", reason, d.user.Unlocker, d.realm.Lockout.UnlockCodes))
	}
	d.user.Unlocker = 0
	return d.stillLocked(reason)
}

func (d *deciding) stillLocked(reason string) (decision, error) {
	if err := d.putUser(); err != nil {
		return decision{}, err
	}
	return d.refuse(Locked, reason)
}

func (d *deciding) putToken(t seenToken) error {
	return d.tx.Put(tokenStateKey(t.Serial), encodeHot(t.state))
}

func (d *deciding) putUser() error {
	return d.tx.Put(userStateKey(d.attempt.Realm, d.attempt.User), encodeHot(d.user))
}

// openLocks opens every lock that wrong codes have set on a user and the user's
// tokens. The last step stays: it never falls.
func openLocks(tx store.Txn, realm, name string) error {
	serials, err := serialsOf(tx, realm, name)
	if err != nil {
		return err
	}
	for _, serial := range serials {
		state, err := readTokenState(tx, serial)
		if err != nil {
			return err
		}
		state.Row = counter{}
		if err := tx.Put(tokenStateKey(serial), encodeHot(state)); err != nil {
			return err
		}
	}
	return tx.Put(userStateKey(realm, name), encodeHot(userState{}))
}

// stamp prints unix seconds for the log.
func stamp(at int64) string { return time.Unix(at, 0).UTC().Format(time.RFC3339) }

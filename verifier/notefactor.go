package verifier

import (
	"context"
	"fmt"
	"time"

	"otpgate/internal/audit"
	"otpgate/internal/store"
)

// NoteFirstFactor writes down what became of a first factor whose code is asked for
// next, and counts a wrong one for the realm's alarm: whoever guesses passwords
// needn't go on to the code, and would leave no trace. It does the same work however
// it was: one commit, one audit entry. It counts against nobody, and a PIN is
// counted by Verify alone. Of a, Match isn't used. The error is always an
// ErrNoDecision.
func (v *Verifier) NoteFirstFactor(ctx context.Context, a Attempt) error {
	realm, ok := v.Realms[a.Realm]
	if !ok {
		return fmt.Errorf("%w: no realm %q", ErrNoDecision, a.Realm)
	}
	now, f := v.Now(), a.FirstFactor
	alarm := false
	err := v.Records.Update(ctx, func(tx store.Txn) (err error) {
		d := deciding{tx: tx, realm: realm, attempt: a, now: now}
		if alarm = false; f.course() != toRefusal {
			return d.countUnchanged()
		}
		alarm, err = d.countInRealm()
		return err
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoDecision, err)
	}
	ctx = context.WithoutCancel(ctx) // it is counted: see publish
	if alarm {
		err = v.raiseAlarm(ctx, realm, now)
	}
	if err == nil {
		err = v.Audit.Append(ctx, audit.Entry{
			Time: now, Event: "first_factor", Outcome: f.outcome(), Realm: realm.ID, User: a.User,
			Door: a.Door, Client: a.Client, From: a.From, Detail: f.words() + "; the code is asked for next",
		})
	}
	if err != nil {
		return fmt.Errorf("%w: %w: %w", ErrNoDecision, ErrNotLogged, err)
	}
	return nil
}

// outcome is the verdict for the audit log.
func (f FirstFactor) outcome() string {
	switch {
	case f.course() == toRefusal:
		return "wrong"
	case f.unset():
		return "unset"
	}
	return "right"
}

// raiseAlarm tells that the realm's limit of wrong tries was reached.
func (v *Verifier) raiseAlarm(ctx context.Context, realm Realm, now time.Time) error {
	v.Metrics.alarms.WithLabelValues(realm.ID).Inc()
	v.Log.Warn("many wrong codes, PINs or passwords in one realm: somebody may be guessing across accounts",
		"realm", realm.ID, "wrong", realm.Lockout.RealmAlarm, "within_minutes", sprayMinutes)
	return v.Audit.Append(ctx, audit.Entry{
		Time: now, Event: "realm.alarm", Realm: realm.ID,
		Detail: fmt.Sprintf("%d wrong codes, PINs or passwords in the realm within %d minutes", realm.Lockout.RealmAlarm, sprayMinutes),
	})
}

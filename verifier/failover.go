package verifier

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"otpgate/internal/store"
)

// Gear that hears no answer turns to its second server and shows the code that
// was typed once more, as a new request. If the first server had accepted it
// and only the answer was lost, the person is told that a right code is wrong.
// Realm.FailoverGrace lets the gate accept it again: once, for the same user,
// client and station, and a few seconds long. It bends single use, so it is off
// unless a realm has it on, and each use stands in the audit log.

// graceVersion is the layout of graceRecord.
const graceVersion = 1

// graceRecord is who used a token's last step up, and when. It is fixed, small
// and big-endian, a version byte first, and written only where the realm has
// the grace on.
type graceRecord struct {
	Step int64
	At   int64  // unix nanoseconds: a grace is a few seconds
	By   uint64 // digest: see Attempt.retrier
	Used uint8  // 1: it was accepted again
}

func graceKey(serial string) string { return store.Key("grace", serial) }

// retrier is a digest of who shows a code again if an answer is lost.
func (a Attempt) retrier() uint64 {
	sum := sha256.Sum256([]byte(store.Key(a.Realm, a.User, a.Door, a.Client, a.From)))
	return binary.BigEndian.Uint64(sum[:])
}

// mayRetry says whether the grace is for this attempt at all. Without a station
// nothing tells one person's retry from another's replay.
func (d *deciding) mayRetry() bool {
	return d.realm.FailoverGrace > 0 && d.passage.retried && d.attempt.Resends && d.attempt.From != ""
}

// noteUse notes who used up the token's last step.
func (d *deciding) noteUse(t *seenToken) error {
	if !d.mayRetry() {
		return nil
	}
	return d.putGrace(t.Serial, graceRecord{Step: t.state.Last, At: d.now.UnixNano(), By: d.attempt.retrier()})
}

// acceptAgain accepts a code that was used up just now by whoever shows it
// again; ok is false if it is a replay.
func (d *deciding) acceptAgain(t *seenToken) (out decision, ok bool, err error) {
	if !d.mayRetry() {
		return out, false, nil
	}
	b, err := d.tx.Get(graceKey(t.Serial))
	if err != nil || b == nil {
		return out, false, err
	}
	var g graceRecord
	if len(b) == 0 || b[0] != graceVersion || !decodeExactly(b[1:], &g) {
		return out, false, fmt.Errorf("%w %q: %d bytes", errHotRecord, graceKey(t.Serial), len(b))
	}
	ago := d.now.Sub(time.Unix(0, g.At))
	if g.Used != 0 || g.By != d.attempt.retrier() || g.Step != t.state.Last || !t.shown(g.Step) ||
		ago < 0 || ago > d.realm.FailoverGrace || g.At/int64(time.Second) <= t.floor { // it may have been used since the backup
		return out, false, nil
	}
	g.Used = 1
	out = decision{
		Result: Result{Outcome: Accepted, Serial: t.Serial, Carrier: t.Carrier, At: d.now},
		reason: fmt.Sprintf("again within failover_grace: step %d was accepted %s ago for the same client and station",
			g.Step, ago.Round(time.Millisecond)),
	}
	return out, true, d.putGrace(t.Serial, g)
}

func (d *deciding) putGrace(serial string, g graceRecord) error {
	b, err := binary.Append([]byte{graceVersion}, binary.BigEndian, g)
	if err != nil {
		panic(err) // a field without a fixed size
	}
	return d.tx.Put(graceKey(serial), b)
}

// shown reports whether what was typed is the code of step, also if step was
// used up after look.
func (t *seenToken) shown(step int64) bool {
	return t.hits.used && t.hits.last == step || slices.Contains(t.hits.accept, step)
}

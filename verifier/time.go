package verifier

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"otpgate/internal/store"
)

// ErrClockBehind means that our clock shows an earlier time than one at which
// something was decided. Codes that were used up then would be accepted again,
// so nobody passes until it has caught up.
var ErrClockBehind = errors.New("the clock of this machine is behind the last decision: set it right, or wait; if it was ahead then: otpgate clock accept")

// clockTolerance is how far a time service may set the clock back without a
// stop. It is below the shortest step.
const clockTolerance = 5 * time.Second

func clockKey() string { return store.Key("clock") }

// Ready returns ErrClockBehind, or the store's error, if nothing can be
// accepted now.
func (v *Verifier) Ready(ctx context.Context) error {
	now := v.Now()
	return v.Records.View(ctx, func(r store.Reader) error {
		_, err := highestTime(r, now)
		return err
	})
}

// WatchClock registers a gauge of how far our clock is behind the highest time
// at which anything was decided, in seconds; 0 if it isn't.
func (v *Verifier) WatchClock(reg prometheus.Registerer) {
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "otpgate_verifier_clock_behind_seconds",
		Help: "How far this machine's clock is behind the time of the last decision. Above 5 nothing is accepted.",
	}, func() float64 {
		now, behind := v.Now(), 0.0
		// The scrape shows 0 if the store is closed; readiness says that.
		_ = v.Records.View(context.Background(), func(r store.Reader) error {
			highest, _ := highestTime(r, now)
			behind = max(0, float64(highest-now.Unix()))
			return nil
		})
		return behind
	}))
}

// highestTime returns the highest time at which anything was decided, in unix
// seconds, and ErrClockBehind if now is too far below it.
func highestTime(r store.Reader, now time.Time) (int64, error) {
	b, err := r.Get(clockKey())
	if err != nil || b == nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("%w %q: %d bytes", errHotRecord, clockKey(), len(b))
	}
	highest := int64(binary.BigEndian.Uint64(b))
	if behind := time.Duration(highest-now.Unix()) * time.Second; behind > clockTolerance {
		return highest, fmt.Errorf("%w; by %v", ErrClockBehind, behind)
	}
	return highest, nil
}

// AcceptClock takes our clock's time for right, though it is behind one at which
// something was decided, or behind the floor of a restore: a clock was ahead then,
// by mistake. Both fall to now. What was used up stays used up, by each token's
// last step; a token used in that time waits until its step has come, or is
// reissued.
func (v *Verifier) AcceptClock(ctx context.Context, by By) (Receipt, error) {
	if err := errors.Join(by.check(), by.because(stepClock)); err != nil {
		return Receipt{}, err
	}
	var receipt Receipt
	var did string
	err := v.Records.Update(ctx, func(tx store.Txn) error {
		now := v.Now()
		c, err := readClock(tx, now)
		if err != nil {
			return err
		}
		if did, err = c.accept(tx); err != nil {
			return err
		}
		receipt, err = nextReceipt(tx, now)
		return err
	})
	if err != nil {
		return Receipt{}, err
	}
	return receipt, v.record(ctx, by, receipt, stepClock.on(Token{}, by.andWhy(did)))
}

// accept writes what follows from AcceptClock and says what it did.
func (c ClockInfo) accept(tx store.Txn) (did string, err error) {
	now := c.Now.Unix()
	behind, early := c.Stops(), c.Floor.Unix() > now
	if !behind && !early {
		return "", refuse("", "the clock is not behind: nothing is to be accepted")
	}
	if behind {
		did = fmt.Sprintf("from %s back to %s", stamp(c.Highest.Unix()), stamp(now))
		err = tx.Put(clockKey(), binary.BigEndian.AppendUint64(nil, uint64(now)))
	}
	if early && err == nil {
		did = strings.TrimPrefix(did+fmt.Sprintf("; the floor of the restore from %s back to %s", stamp(c.Floor.Unix()), stamp(now)), "; ")
		err = putFloor(tx, c.Now)
	}
	return did, err
}

// tick notes that something is decided at now, and refuses if that is too early.
func tick(tx store.Txn, now time.Time) error {
	highest, err := highestTime(tx, now)
	if err != nil || now.Unix() <= highest {
		return err
	}
	return tx.Put(clockKey(), binary.BigEndian.AppendUint64(nil, uint64(now.Unix())))
}

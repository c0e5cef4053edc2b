package verifier

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"otpgate/internal/store"
)

// ErrClockBehind means that our clock shows an earlier time than one at which
// something was decided. Codes that were used up then would be accepted again,
// so nobody passes until it has caught up.
var ErrClockBehind = errors.New("the clock of this machine is behind: set it right (a time service does), or wait")

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

// tick notes that something is decided at now, and refuses if that is too early.
func tick(tx store.Txn, now time.Time) error {
	highest, err := highestTime(tx, now)
	if err != nil || now.Unix() <= highest {
		return err
	}
	return tx.Put(clockKey(), binary.BigEndian.AppendUint64(nil, uint64(now.Unix())))
}

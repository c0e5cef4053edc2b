package verifier

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"otpgate/internal/store"
)

// floorKey is the record of the restore floor: unix seconds, 8 bytes, big-endian.
func floorKey() string { return store.Key("floor") }

// MaxClockAhead is how far the highest time in a backup may lie ahead of our
// clock: two machines, each a little off. Further ahead, one of the two clocks is
// or was wrong.
const MaxClockAhead = 10 * time.Minute

// SetFloor notes that records were restored from a backup at t. Codes that were
// accepted between the backup and t are in no record, so nothing up to t may be
// accepted again. The floor doesn't stay below the highest time at which anything
// was decided, unless that is more than MaxClockAhead of t: a clock that was wrong
// by years mustn't keep everybody out for years. It never falls; see AcceptClock.
func SetFloor(ctx context.Context, records store.Records, t time.Time) error {
	return records.Update(ctx, func(tx store.Txn) error {
		c, err := readClock(tx, t)
		if err != nil {
			return err
		}
		floor := t
		if c.Highest.After(t) && c.Behind() <= MaxClockAhead {
			floor = c.Highest
		}
		if floor.Unix() <= c.Floor.Unix() {
			return nil
		}
		return putFloor(tx, floor)
	})
}

// ClockInfo is what our clock is held against.
type ClockInfo struct {
	Now     time.Time // ours
	Highest time.Time // at which anything was decided; zero: never
	Floor   time.Time // nothing from before it is accepted; zero: no restore
}

// Behind is how far our clock is behind the highest time; 0 if it isn't.
func (c ClockInfo) Behind() time.Duration { return max(0, c.Highest.Sub(c.Now)) }

// Stops reports whether our clock is so far behind that nothing is accepted:
// ErrClockBehind.
func (c ClockInfo) Stops() bool { return c.Behind() > clockTolerance }

// ReadClock holds our clock, which shows now, against what is in the records.
func ReadClock(ctx context.Context, records store.Records, now time.Time) (c ClockInfo, err error) {
	err = records.View(ctx, func(r store.Reader) (err error) {
		c, err = readClock(r, now)
		return err
	})
	return c, err
}

func readClock(r store.Reader, now time.Time) (ClockInfo, error) {
	// Being behind is no error here: it is what is asked for.
	highest, err := highestTime(r, now)
	if err != nil && !errors.Is(err, ErrClockBehind) {
		return ClockInfo{}, err
	}
	floor, err := readFloor(r)
	return ClockInfo{Now: now, Highest: unixTime(highest), Floor: floor}, err
}

func putFloor(tx store.Txn, t time.Time) error {
	return tx.Put(floorKey(), binary.BigEndian.AppendUint64(nil, uint64(t.Unix())))
}

// readFloor returns the time of the last restore, zero if there was none.
func readFloor(r store.Reader) (time.Time, error) {
	b, err := r.Get(floorKey())
	if err != nil || b == nil {
		return time.Time{}, err
	}
	if len(b) != 8 {
		return time.Time{}, fmt.Errorf("%w %q: %d bytes", errHotRecord, floorKey(), len(b))
	}
	return time.Unix(int64(binary.BigEndian.Uint64(b)), 0), nil
}

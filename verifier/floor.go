package verifier

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"otpgate/internal/store"
)

// floorKey is the record of the restore floor: unix seconds, 8 bytes, big-endian.
func floorKey() string { return store.Key("floor") }

// SetFloor notes that records were restored from a backup at t. Codes that were
// accepted between the backup and t are in no record, so nothing up to t may be
// accepted again. The floor never falls, nor stays below the highest time at
// which anything was decided.
func SetFloor(ctx context.Context, records store.Records, t time.Time) error {
	return records.Update(ctx, func(tx store.Txn) error {
		floor, err := readFloor(tx)
		if err != nil {
			return err
		}
		// Being behind that time is no error here: it is what the floor makes up for.
		highest, err := highestTime(tx, t)
		if err != nil && highest == 0 {
			return err
		}
		seconds := max(t.Unix(), highest)
		if !floor.IsZero() && floor.Unix() >= seconds {
			return nil
		}
		return tx.Put(floorKey(), binary.BigEndian.AppendUint64(nil, uint64(seconds)))
	})
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

package seal

import (
	"context"
	"maps"
	"slices"
	"time"

	"otpgate/internal/store"
)

const (
	// viewRecords bounds the records looked at in one View, some 0.2 s: pages that
	// are freed meanwhile can't be used again before its end.
	viewRecords = 1 << 16
	// sliceRecords are sealed anew in one Update: about 20 pages, and with them a
	// millisecond more for the log-ins that share its commit.
	sliceRecords = 128
	// slicePause leaves most commits to the log-ins: at some 16,000 values a
	// second, a million take a minute.
	slicePause = 5 * time.Millisecond
)

// Reseal renews one record: what is sealed in it is passed through Box.Reseal
// (or Trial.Reseal). changed is false if the record stays as it is.
type Reseal = func(key string, value []byte) (again []byte, changed bool, err error)

// sweep goes once over all sealed records and returns how many it has changed.
// Whatever is sealed meanwhile is sealed under the newest key. What moves from
// one kind of record to another as it is (an import's staged tokens) must move to
// a prefix that sorts later, or the sweep could miss it.
func (r *Rotation) sweep(ctx context.Context) (changed int, err error) {
	r.mu.Lock()
	r.status.Unreadable, r.status.Problem = 0, ""
	r.mu.Unlock()
	for _, prefix := range slices.Sorted(maps.Keys(r.Owners)) {
		reseal := r.Owners[prefix]
		for after, more := "", true; more; {
			found, err := r.look(ctx, prefix, after, reseal)
			if err != nil {
				return changed, err
			}
			for slice := range slices.Chunk(found.stale, sliceRecords) {
				n, err := r.renew(ctx, slice, reseal)
				if err == nil {
					err = sleep(ctx, slicePause)
				}
				if err != nil {
					return changed, err
				}
				changed += n
			}
			after, more = found.last, found.more
		}
	}
	return changed, nil
}

// stretch is what one View has found among the records of an owner.
type stretch struct {
	stale      []string // keys of records to be renewed
	last       string   // key of the last one looked at
	more       bool     // there are records behind it
	unreadable int
	problem    error // of the first unreadable
}

// look finds what is to be renewed among the records that follow after.
func (r *Rotation) look(ctx context.Context, prefix, after string, reseal Reseal) (s stretch, err error) {
	err = r.Records.View(ctx, func(reader store.Reader) error {
		s = stretch{}
		looked := 0
		return reader.Scan(prefix, func(key string, value []byte) error {
			if key <= after {
				return nil
			}
			if looked++; looked > viewRecords {
				s.more = true
				return store.ErrStopScan
			}
			s.last = key
			switch _, changed, err := reseal(key, value); {
			case err != nil:
				s.unreadable++
				if s.problem == nil {
					s.problem = err
				}
			case changed:
				s.stale = append(s.stale, key)
			}
			return nil
		})
	})
	if err == nil && s.unreadable > 0 {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.status.Unreadable += s.unreadable; r.status.Problem == "" {
			r.status.Problem = s.problem.Error()
		}
	}
	return s, err
}

// renew seals the records under keys anew, as they are by now, in one step.
func (r *Rotation) renew(ctx context.Context, keys []string, reseal Reseal) (changed int, err error) {
	err = r.Records.Update(ctx, func(tx store.Txn) error {
		changed = 0
		for _, key := range keys {
			value, err := tx.Get(key)
			if err != nil {
				return err
			}
			if value == nil { // removed since
				continue
			}
			again, stale, err := reseal(key, value)
			if err != nil || !stale { // unreadable: the next sweep counts it
				continue
			}
			if err := tx.Put(key, again); err != nil {
				return err
			}
			changed++
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.Resealed += changed
	return changed, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

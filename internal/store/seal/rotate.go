package seal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"otpgate/internal/store"
)

var (
	// ErrRotating is returned by Start while a rotation is under way.
	ErrRotating = errors.New("seal: a rotation is under way")
	// ErrSameMaster is returned by StartUnder for the master key in use.
	ErrSameMaster = errors.New("seal: that is the master key in use")
)

// Settle is how long a value may take from Seal until it is stored. Whoever seals
// does so in the transaction that stores, or just before it; the longest are those
// of an import, a slice of some hundred tokens each (decision 9).
const Settle = time.Minute

// Phase is where a rotation is.
type Phase string

// The phases: see the package's comment.
const (
	Idle      Phase = "idle"
	Resealing Phase = "resealing"
	Settling  Phase = "settling"
	Stalled   Phase = "stalled"
)

// Status says how far a rotation is.
type Status struct {
	Phase    Phase
	Newest   uint32   // number of the data key that seals
	Old      []uint32 // numbers of the others in the database; none when idle
	Resealed int      // values sealed anew since the start of the process
	// Unreadable values keep the old keys; Problem names the first, or says what
	// else has stopped the rotation.
	Unreadable int
	Problem    string
}

// Config says what a Rotation works on. All fields must be set.
type Config struct {
	Box     *Box
	Records store.Records
	Master  Wrapper           // that Box was opened with
	Owners  map[string]Reseal // by the prefix of their records' keys: all that Box has sealed
	// Note writes a rotation's start ("key.rotate") and end ("key.rotated") to the
	// audit log. by is who asked; empty for what the gateway does itself.
	Note func(ctx context.Context, by, event, detail string) error
	Log  *slog.Logger
}

// Rotation replaces data keys, and the master key, while everything is in use.
// Safe for concurrent use.
type Rotation struct {
	Config
	wake chan struct{} // holds one: there is something to do

	mu     sync.Mutex // over the fields below, and Master
	status Status
	// begun: this process has begun the rotation. Of what an earlier one had
	// sealed, nothing can be on its way any more.
	begun bool
}

// NewRotation returns a Rotation that goes on, once it runs, with what an
// earlier process has left. Only one may work on a Box.
func NewRotation(c Config) *Rotation {
	r := &Rotation{Config: c, wake: make(chan struct{}, 1)}
	keys := c.Box.ring.Load()
	r.status = Status{Phase: Idle, Newest: keys.newest}
	for _, number := range slices.Sorted(maps.Keys(keys.keys)) {
		if number != keys.newest {
			r.status.Phase, r.status.Old = Resealing, append(r.status.Old, number)
		}
	}
	return r
}

// Register registers what Status says as metrics.
func (r *Rotation) Register(reg prometheus.Registerer) {
	reg.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "otpgate_seal_data_keys",
			Help: "Data keys in the database. More than one while a rotation is under way or has stalled.",
		}, func() float64 { return float64(1 + len(r.Status().Old)) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "otpgate_seal_resealed_total",
			Help: "Values that were sealed anew under a newer data key.",
		}, func() float64 { return float64(r.Status().Resealed) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "otpgate_seal_unreadable_values",
			Help: "Sealed values that could not be opened in the last rotation; they keep the old data keys.",
		}, func() float64 { return float64(r.Status().Unreadable) }),
	)
}

// Status says how far the rotation is.
func (r *Rotation) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	s.Old = slices.Clone(s.Old)
	return s
}

// Start makes a new data key, which seals from now on. Run does the rest.
// ErrRotating if a rotation is under way.
func (r *Rotation) Start(ctx context.Context, by string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.begin(ctx, by, nil, "a new data key")
}

// StartUnder is Start with a new master key: in the same transaction all data
// keys come under it, and no start succeeds any more with the one before. The
// new key's file must be on disk.
func (r *Rotation) StartUnder(ctx context.Context, by string, master Wrapper) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.begin(ctx, by, master, "a new master key and a new data key")
}

// begin is called with mu held. next is the master key from now on; nil: as it is.
func (r *Rotation) begin(ctx context.Context, by string, next Wrapper, what string) error {
	if r.status.Phase == Resealing || r.status.Phase == Settling {
		return ErrRotating
	}
	master := r.Master
	if next != nil {
		master = next
	}
	number := r.status.Newest + 1
	key, value, err := newDataKey(number, master)
	if err != nil {
		return err
	}
	err = r.Records.Update(ctx, func(tx store.Txn) error {
		if next != nil {
			if err := moveKeys(tx, r.Master, next); err != nil {
				return err
			}
		}
		return tx.Put(recordKeyOf(number), value)
	})
	if err != nil {
		return err
	}
	r.turn(number, key, master)
	return r.Note(context.WithoutCancel(ctx), by, "key.rotate", fmt.Sprintf("%s: %d", what, number))
}

// turn follows the commit of a new data key. It is called with mu held.
func (r *Rotation) turn(number uint32, key dataKey, master Wrapper) {
	r.Box.add(number, key)
	r.Master, r.begun = master, true
	r.status.Old = append(r.status.Old, r.status.Newest)
	r.status.Phase, r.status.Newest = Resealing, number
	r.status.Unreadable, r.status.Problem = 0, ""
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// moveKeys wraps every data key under another master key.
func moveKeys(tx store.Txn, from, to Wrapper) error {
	stored, err := storedKeys(tx)
	if err != nil {
		return err
	}
	for recordKey, k := range stored {
		if _, err := to.Unwrap(k.Wrapped, []byte(recordKey)); err == nil {
			return ErrSameMaster
		}
		value, err := rewrap(recordKey, k, from, to)
		if err != nil {
			return err
		}
		if err := tx.Put(recordKey, value); err != nil {
			return err
		}
	}
	return nil
}

// Run carries rotations out, until ctx ends.
func (r *Rotation) Run(ctx context.Context) {
	var forget <-chan time.Time
	for {
		if r.Status().Phase == Resealing {
			err := r.finish(ctx)
			if ctx.Err() != nil {
				return // the next start goes on
			}
			if err != nil {
				r.stall(err)
			} else {
				// A try may have read a value before it was sealed anew, and is
				// about to open it.
				forget = time.After(Settle)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		case <-forget:
			forget = nil
			r.forget()
		}
	}
}

// finish seals everything anew and removes the old data keys.
func (r *Rotation) finish(ctx context.Context) error {
	if err := r.settle(ctx); err != nil {
		return err
	}
	for {
		changed, err := r.sweep(ctx)
		if err != nil {
			return err
		}
		if changed == 0 {
			break
		}
	}
	s := r.Status()
	if s.Unreadable > 0 {
		return fmt.Errorf("%d values can't be opened: %s", s.Unreadable, s.Problem)
	}
	return r.retire(ctx, s)
}

// settle waits until whatever was sealed under an old data key is stored. Most
// is sealed anew before that.
func (r *Rotation) settle(ctx context.Context) error {
	r.mu.Lock()
	begun := r.begun
	r.mu.Unlock()
	if !begun {
		return nil
	}
	if _, err := r.sweep(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	r.status.Phase = Settling
	r.mu.Unlock()
	return sleep(ctx, Settle)
}

// retire removes the old data keys: nothing is sealed under them any more.
func (r *Rotation) retire(ctx context.Context, s Status) error {
	err := r.Records.Update(ctx, func(tx store.Txn) error {
		for _, number := range s.Old {
			if err := tx.Delete(recordKeyOf(number)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.status.Phase, r.status.Old = Idle, nil
	r.mu.Unlock()
	detail := fmt.Sprintf("all is sealed under data key %d; removed: %v", s.Newest, s.Old)
	// They are gone: the end of the process can't keep that out of the log.
	if err := r.Note(context.WithoutCancel(ctx), "", "key.rotated", detail); err != nil {
		r.Log.Error("the end of a rotation of data keys is not in the audit log", "detail", detail, "err", err)
	}
	return nil
}

// stall notes why the old data keys stay.
func (r *Rotation) stall(err error) {
	r.Log.Error("the rotation of data keys has stalled; the old ones are kept", "err", err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.Phase, r.status.Problem = Stalled, err.Error()
}

// forget drops removed data keys from memory, unless a rotation has begun
// meanwhile: then its end does.
func (r *Rotation) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.status.Phase == Idle {
		r.Box.forget()
	}
}

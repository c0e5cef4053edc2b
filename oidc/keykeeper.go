package oidc

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"

	"otpgate/internal/store"
)

const (
	// publishAhead is how long a key is published before it signs. Relying
	// parties that hold on to a key set longer than publishedLife, whatever it
	// says, do so for a day at most, as far as is known.
	publishAhead = 48 * time.Hour
	// keepRetired is how long a key is published after it has signed its last ID
	// token: the token's life, and time for a slow clock at the relying party.
	keepRetired = idTokenLife + 55*time.Minute
	// tendEvery is how often it is looked whether a key is due. Nothing hangs on
	// the minute: which key signs follows from the time alone.
	tendEvery = 10 * time.Minute
)

// The events of signing keys, for the audit log.
const (
	eventKeyMade      = "oidc_key.made"
	eventKeyRemoved   = "oidc_key.removed"
	eventKeyWithdrawn = "oidc_key.withdrawn"
)

// NoteKey writes to the audit log what became of a signing key. by is who asked
// for it; empty for the policy.
type NoteKey func(ctx context.Context, by, event, detail string) error

// keeper makes signing keys when they are due and removes them when nobody needs
// them. Safe for concurrent use.
type keeper struct {
	issuer     string
	records    store.Records
	seal       Sealer
	algorithms []jose.SignatureAlgorithm // those that clients have, sorted
	rotation   time.Duration             // how long a key signs; 0: until it is rotated by hand
	now        func() time.Time
	note       NoteKey
	log        *slog.Logger

	tending sync.Mutex // held while keys change
	current atomic.Pointer[ownKeys]
}

// ownKeys is the ring, and how it is published.
type ownKeys struct {
	*keyring
	published []byte // the JWK Set
	etag      string
}

// change is what is due to the keys of one ring.
type change struct {
	make   map[jose.SignatureAlgorithm]time.Time // a key of it, to sign from then
	remove []*signingKey
}

// plan says what is due of a ring at a time.
type plan func(*keyring, time.Time) change

// due is the policy. An algorithm without a key gets one that signs at once; the
// others get the next one publishAhead of the end of the last one's time.
func (k *keeper) due(ring *keyring, now time.Time) change {
	c := change{make: make(map[jose.SignatureAlgorithm]time.Time)}
	for _, alg := range k.algorithms {
		of := ring.of(alg)
		if len(of) == 0 {
			c.make[alg] = now
			continue
		}
		last := of[len(of)-1]
		if k.rotation == 0 || ring.state(last, now) == KeyNext {
			continue
		}
		if end := last.signs.Add(k.rotation); !now.Before(end.Add(-publishAhead)) {
			c.make[alg] = later(end, now.Add(publishAhead))
		}
	}
	for _, key := range ring.keys {
		if ring.state(key, now) == keyGone {
			c.remove = append(c.remove, key)
		}
	}
	return c
}

// byHand is due when an operator asks: a next key, where there is none.
func (k *keeper) byHand(ring *keyring, now time.Time) change {
	c := change{make: make(map[jose.SignatureAlgorithm]time.Time)}
	for _, alg := range k.algorithms {
		if of := ring.of(alg); len(of) == 0 || ring.state(of[len(of)-1], now) != KeyNext {
			c.make[alg] = now.Add(publishAhead)
		}
	}
	return c
}

// leaked is due when keys are known to others: new ones sign at once, and nothing
// that the old ones have signed is to be believed any more.
func (k *keeper) leaked(ring *keyring, now time.Time) change {
	c := change{make: make(map[jose.SignatureAlgorithm]time.Time), remove: slices.Clone(ring.keys)}
	for _, alg := range k.algorithms {
		c.make[alg] = now
	}
	return c
}

// tend does what is due; what signs and is published follows at once.
func (k *keeper) tend(ctx context.Context, by string, due plan) error {
	k.tending.Lock()
	defer k.tending.Unlock()
	now := k.now()
	var ring *keyring
	err := k.records.View(ctx, func(r store.Reader) (err error) {
		ring, err = k.read(r)
		return err
	})
	if err != nil {
		return fmt.Errorf("oidc: signing keys: %w", err)
	}
	var done change
	var first bool                                          // there was none, as on a gateway's first day: that is no news
	if c := due(ring, now); len(c.make)+len(c.remove) > 0 { // most times nothing is, and there is nothing to write
		if ring, done, first, err = k.carryOut(ctx, due, c, now); err != nil {
			return fmt.Errorf("oidc: signing keys: %w", err)
		}
	}
	set, err := newOwnKeys(ring)
	if err != nil {
		return err
	}
	k.current.Store(set)
	if first {
		return nil
	}
	return k.tell(ctx, by, done, now)
}

// carryOut does what is due, which is found out anew in the transaction: expected is
// what looked due before it. first says that there was no key before.
func (k *keeper) carryOut(ctx context.Context, due plan, expected change, now time.Time) (ring *keyring, done change, first bool, err error) {
	fresh, err := k.prepare(expected, now)
	if err != nil {
		return nil, change{}, false, err
	}
	err = k.records.Update(ctx, func(txn store.Txn) error {
		before, err := k.read(txn)
		if err != nil {
			return err
		}
		done, first = due(before, now), len(before.keys) == 0
		if err := k.apply(txn, done, fresh); err != nil {
			return err
		}
		ring, err = k.read(txn)
		return err
	})
	return ring, done, first, err
}

// freshKey is a key that was made, but not kept yet.
type freshKey struct {
	recordKey string
	record    storedKey
}

// prepare makes the keys that are due, before the transaction: an RSA key takes
// a second. A key that turns out not to be needed is forgotten.
func (k *keeper) prepare(c change, now time.Time) (map[jose.SignatureAlgorithm]freshKey, error) {
	fresh := make(map[jose.SignatureAlgorithm]freshKey)
	for alg, signs := range c.make {
		recordKey, record, err := newKey(k.issuer, k.seal, alg, now, signs)
		if err != nil {
			return nil, err
		}
		fresh[alg] = freshKey{recordKey, record}
	}
	return fresh, nil
}

// errMovedOn: another process has changed the keys meanwhile.
var errMovedOn = errors.New("the keys were changed by another process; try again")

func (k *keeper) apply(txn store.Txn, c change, fresh map[jose.SignatureAlgorithm]freshKey) error {
	for _, key := range c.remove {
		if err := txn.Delete(store.Key(keyRecord, key.id)); err != nil {
			return err
		}
	}
	for alg, signs := range c.make {
		f, ok := fresh[alg]
		if !ok {
			return errMovedOn
		}
		f.record.Signs = signs.UTC()
		value, err := json.Marshal(f.record)
		if err != nil {
			return err
		}
		if err := txn.Put(f.recordKey, value); err != nil {
			return err
		}
	}
	return nil
}

// read opens all keys.
func (k *keeper) read(r store.Reader) (*keyring, error) {
	var keys []*signingKey
	err := r.Scan(store.Prefix(keyRecord), func(key string, value []byte) error {
		opened, err := openKey(k.seal, key, value)
		keys = append(keys, opened)
		return err
	})
	if err != nil {
		return nil, err
	}
	return newKeyring(keys), nil
}

// tell notes a change in the audit log.
func (k *keeper) tell(ctx context.Context, by string, c change, now time.Time) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for _, key := range c.remove {
		event := eventKeyRemoved
		if by != "" {
			event = eventKeyWithdrawn
		}
		errs = append(errs, k.note(ctx, by, event, fmt.Sprintf("%s for %s", key.id, key.algorithm)))
	}
	ring := k.current.Load()
	for alg := range c.make {
		of := ring.of(alg)
		key := of[len(of)-1]
		when := "signs now"
		if key.signs.After(now) {
			when = "signs from " + key.signs.Format(time.RFC3339)
		}
		errs = append(errs, k.note(ctx, by, eventKeyMade, fmt.Sprintf("%s for %s, %s", key.id, alg, when)))
	}
	return errors.Join(errs...)
}

// run tends the keys until ctx ends.
func (k *keeper) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(tendEvery):
		}
		if err := k.tend(ctx, "", k.due); err != nil && ctx.Err() == nil {
			k.log.Error("OIDC signing keys were not looked after; those that sign go on", "err", err)
		}
	}
}

// SigningKey is a signing key as an operator sees it.
type SigningKey struct {
	ID        string
	Algorithm string
	State     KeyState
	Published time.Time // since
	Signs     time.Time // from
	Until     time.Time // when it stops signing (signing), or is removed (retired); zero: not known yet
}

// SigningKeys are the keys that are published, by algorithm, the oldest first.
func (p *Provider) SigningKeys() []SigningKey {
	now := p.now()
	ring := p.keys.current.Load()
	out := make([]SigningKey, 0, len(ring.keys))
	for _, key := range ring.keys {
		k := SigningKey{ID: key.id, Algorithm: string(key.algorithm), State: ring.state(key, now), Published: key.created, Signs: key.signs}
		if next := ring.successor(key); next != nil {
			k.Until = next.signs
			if k.State == KeyRetired {
				k.Until = next.signs.Add(keepRetired)
			}
		}
		if k.State != keyGone {
			out = append(out, k)
		}
	}
	return out
}

// RotateSigningKeys publishes a next key for each algorithm in use that has none
// yet. If the old ones have leaked, new ones sign at once, and all others are
// withdrawn: relying parties that have the old set fail until they fetch the new
// one.
func (p *Provider) RotateSigningKeys(ctx context.Context, by string, leaked bool) error {
	due := p.keys.byHand
	if leaked {
		due = p.keys.leaked
	}
	return p.keys.tend(ctx, by, due)
}

// TendKeys rotates the signing keys by policy until ctx ends.
func (p *Provider) TendKeys(ctx context.Context) { p.keys.run(ctx) }

// algorithmsOf are the algorithms that the clients' ID tokens are signed with.
func algorithmsOf(clients map[string]*Client) []jose.SignatureAlgorithm {
	algs := []jose.SignatureAlgorithm{jose.ES256} // there is always a key set to publish
	for _, c := range clients {
		algs = append(algs, c.IDTokenAlg)
	}
	slices.SortFunc(algs, func(a, b jose.SignatureAlgorithm) int { return cmp.Compare(a, b) })
	return slices.Compact(algs)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

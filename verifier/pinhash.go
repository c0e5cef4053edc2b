package verifier

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/crypto/argon2"
)

const (
	// maxHashes is how many PINs are hashed at once, or as many as there are cores,
	// if that is fewer. Each takes a core and 19 MiB; this many take 76 MiB,
	// whatever is sent to us.
	maxHashes = 4
	// pinHashBytes and pinSaltBytes are what both options that RFC 9106 §4
	// recommends have.
	pinHashBytes = 32
	pinSaltBytes = 16
	// purposePIN is what a PIN's hash is sealed for. A PIN of four digits is
	// guessed from its hash within minutes, however slow that is: it is the seal
	// that keeps it from whoever has the database alone.
	purposePIN = "pin hash"
)

// hashCost are the parameters of argon2id (RFC 9106 §3.1). They stand in each
// record, so that those of new ones can be raised.
type hashCost struct {
	MemoryKiB uint32 `json:"memory_kib"`
	Passes    uint32 `json:"passes"`
	Lanes     uint8  `json:"lanes"`
}

// newHashCost is what a new hash costs: what OWASP recommends at least.
func newHashCost() hashCost { return hashCost{MemoryKiB: 19 << 10, Passes: 2, Lanes: 1} }

// The most that a record may ask for: more is damage, and would take the
// machine's memory.
const (
	maxHashMemoryKiB = 64 << 10
	maxHashPasses    = 8
	maxHashLanes     = 4
)

// pinHash is a PIN as it is stored.
type pinHash struct {
	Cost hashCost `json:"argon2id"`
	Salt []byte   `json:"salt"`
	Sum  []byte   `json:"sum"` // sealed
}

var errPINHash = errors.New("damaged PIN record")

// hashSlots lets so many hashes be made at once. The zero value is ready.
type hashSlots struct {
	once sync.Once
	free chan struct{} // holds a value for each hash that is being made
}

// take waits for a slot, as long as ctx allows, and returns what gives it back.
func (s *hashSlots) take(ctx context.Context) (release func(), err error) {
	s.once.Do(func() { s.free = make(chan struct{}, min(maxHashes, runtime.GOMAXPROCS(0))) })
	select {
	case s.free <- struct{}{}:
		return func() { <-s.free }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("a PIN waited too long for its turn: %w", ctx.Err())
	}
}

// hashPIN is the hash of what was typed, with the cost and salt of against.
func (v *Verifier) hashPIN(ctx context.Context, typed string, against pinHash) ([]byte, error) {
	c := against.Cost
	if c.MemoryKiB == 0 || c.Passes == 0 || c.Lanes == 0 ||
		c.MemoryKiB > maxHashMemoryKiB || c.Passes > maxHashPasses || c.Lanes > maxHashLanes {
		return nil, fmt.Errorf("%w: %+v", errPINHash, c)
	}
	release, err := v.hashes.take(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	v.Metrics.pinHashes.Inc()
	return argon2.IDKey([]byte(typed), against.Salt, c.Passes, c.MemoryKiB, c.Lanes, pinHashBytes), nil
}

// newPINHash hashes and seals a PIN for the user.
func (v *Verifier) newPINHash(ctx context.Context, realm, name, pin string) (pinHash, error) {
	h := pinHash{Cost: newHashCost(), Salt: make([]byte, pinSaltBytes)}
	_, _ = rand.Read(h.Salt) // never fails
	sum, err := v.hashPIN(ctx, Normalise(pin), h)
	if err != nil {
		return pinHash{}, err
	}
	h.Sum = v.Seal.Seal(pinKey(realm, name), purposePIN, sum)
	return h, nil
}

// Package seal keeps secrets in records unreadable to whoever has only the
// database.
//
// Two layers of AES-256-GCM. A secret is sealed under a data key; the data keys
// are themselves records, each wrapped under the master key, which never is in
// the database. A sealed value is
//
//	data key's number (4 bytes) ‖ nonce (12) ‖ ciphertext ‖ tag (16)
//
// with the record's key and a purpose as associated data, so that it opens only
// in the place it was made for: copied to another user's record it is refused.
//
//	box.go     sealing and opening
//	derive.go  the same for what isn't stored: it leaves, and comes back soon
//	keys.go    the records of the data keys
//	master.go  the master key's file; what else can wrap a key (a PKCS#11 token,
//	           a key service) implements Wrapper
//	rotate.go  a new data key, and the old ones' end
//	sweep.go   everything sealed anew in between
//	prove.go   can everything be opened
//
// # Rotation
//
// All data keys that are there open, the newest seals. More than one is there
// only while a rotation is under way, so nothing else says that it is: a kill at
// any moment leaves a rotation that the next start goes on with.
//
//	idle ──► resealing ──► settling ──► idle     old keys destroyed
//	             ▲    └──────────────► stalled   a value can't be opened: old keys kept
//	             └─────────────────────────┘     by the next start or rotation
//
// What a database file held before a rotation stays in its free pages until they
// are written over: values sealed under the old data keys, and those keys, wrapped
// under the master key of their time. Without that one nothing of it opens. The
// same goes for every copy from before, backups among them. So a master key that
// has leaked is replaced together with the data keys (Rotation.StartUnder), and
// opens nothing that is written from then on; but a secret that it could open is
// known to whoever has both it and an old file, until the secret itself is changed.
//
// The package owns the records under "datakey" and no others. What is secret,
// and where the sealed value goes, is its caller's business; so is how a record
// is renewed (Reseal).
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"sync/atomic"
)

var (
	// ErrWrongMaster means that the database's data keys were wrapped under another
	// master key.
	ErrWrongMaster = errors.New("the master key doesn't fit the database; put back the key file that was made with it")
	// ErrSealed means that the value was changed, or was sealed for another record or
	// purpose, or under a data key that isn't there.
	ErrSealed = errors.New("seal: the value can't be opened here")
)

const (
	keyBytes    = 32 // AES-256
	numberBytes = 4
)

// Box seals and opens. Safe for concurrent use. It has no way to print its keys.
type Box struct {
	ring atomic.Pointer[ring] // set by Open, later by a Rotation alone
}

// ring is a set of data keys. It is never changed, only replaced.
type ring struct {
	keys   map[uint32]dataKey
	newest uint32
}

// dataKey is one data key, as far as it is needed.
type dataKey struct {
	cipher.AEAD        // for records
	root        []byte // that the keys for what isn't stored are derived from
}

// Seal returns plaintext sealed for the record under recordKey. Two purposes
// within one record don't open each other's values. What it returns must be
// stored within Settle: a rotation that begins meanwhile waits no longer.
func (b *Box) Seal(recordKey, purpose string, plaintext []byte) []byte {
	r := b.ring.Load()
	aead := r.keys[r.newest]
	sealed := make([]byte, numberBytes, numberBytes+len(plaintext)+aead.Overhead())
	binary.BigEndian.PutUint32(sealed, r.newest)
	return aead.Seal(sealed, nil, plaintext, associated(recordKey, purpose))
}

// Open returns what was sealed for the same record and purpose, else ErrSealed.
func (b *Box) Open(recordKey, purpose string, sealed []byte) ([]byte, error) {
	if len(sealed) < numberBytes {
		return nil, fmt.Errorf("%w: it is %d bytes short", ErrSealed, numberBytes-len(sealed))
	}
	number := binary.BigEndian.Uint32(sealed)
	aead, ok := b.ring.Load().keys[number]
	if !ok {
		return nil, fmt.Errorf("%w: there is no data key %d", ErrSealed, number)
	}
	plaintext, err := aead.Open(nil, nil, sealed[numberBytes:], associated(recordKey, purpose))
	if err != nil {
		return nil, fmt.Errorf("%w: changed, or of another record", ErrSealed)
	}
	return plaintext, nil
}

// Reseal returns what was sealed for the same record and purpose, sealed anew,
// else ErrSealed. changed is false, and nothing is opened, if the data key that
// seals now has sealed it.
func (b *Box) Reseal(recordKey, purpose string, sealed []byte) (again []byte, changed bool, err error) {
	if len(sealed) >= numberBytes && binary.BigEndian.Uint32(sealed) == b.ring.Load().newest {
		return sealed, false, nil
	}
	plaintext, err := b.Open(recordKey, purpose, sealed)
	if err != nil {
		return nil, false, err
	}
	defer clear(plaintext)
	return b.Seal(recordKey, purpose, plaintext), true, nil
}

// Frozen returns a Box with the keys of this moment, for who seals something
// that belongs to one state of the database.
func (b *Box) Frozen() *Box {
	frozen := &Box{}
	frozen.ring.Store(b.ring.Load())
	return frozen
}

// add takes a data key in, which seals from now on.
func (b *Box) add(number uint32, key dataKey) {
	keys := maps.Clone(b.ring.Load().keys)
	keys[number] = key
	b.ring.Store(&ring{keys, number})
}

// forget drops all data keys but the one that seals.
func (b *Box) forget() {
	r := b.ring.Load()
	b.ring.Store(&ring{map[uint32]dataKey{r.newest: r.keys[r.newest]}, r.newest})
}

const boxRedacted = "seal.Box(redacted)"

// Format implements fmt.Formatter: every verb prints the same.
func (*Box) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, boxRedacted) }

// LogValue implements slog.LogValuer.
func (*Box) LogValue() slog.Value { return slog.StringValue(boxRedacted) }

// associated joins two strings so that no other two give the same bytes.
func associated(recordKey, purpose string) []byte {
	data := binary.BigEndian.AppendUint32(nil, uint32(len(recordKey)))
	return append(append(data, recordKey...), purpose...)
}

func newKey(key []byte) (dataKey, error) {
	aead, err := newAEAD(key)
	if err != nil {
		return dataKey{}, err
	}
	root, err := hkdf.Extract(sha256.New, key, nil) // RFC 5869 §2.2
	return dataKey{aead, root}, err
}

// newAEAD returns AES-256-GCM that makes and carries its own random nonces: good
// for 2³² values under one key (NIST SP 800-38D §8.3). A data key seals each
// record about once, so the records would have to number thousands of millions.
func newAEAD(key []byte) (cipher.AEAD, error) {
	if len(key) != keyBytes {
		return nil, fmt.Errorf("a key of %d bytes, want %d", len(key), keyBytes)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

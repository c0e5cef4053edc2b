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
// All data keys that are there open, the newest seals. The master key is a file
// (master.go); what else can wrap a key (a PKCS#11 token, a key service)
// implements Wrapper.
//
// The package owns the records under "datakey" and no others. What is secret,
// and where the sealed value goes, is its caller's business.
package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"otpgate/internal/store"
	"strconv"
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
	dataKeyRecord = "datakey" // Key(dataKeyRecord, number in 8 hex digits)
	keyBytes      = 32        // AES-256
	numberBytes   = 4
)

// Wrapper wraps data keys under a master key. The associated data must be the
// same at Unwrap as it was at Wrap.
type Wrapper interface {
	Wrap(key, associated []byte) ([]byte, error)
	// Unwrap returns ErrWrongMaster if wrapped was made by another master key.
	Unwrap(wrapped, associated []byte) ([]byte, error)
}

// Box seals and opens. It doesn't change after Open and is safe for concurrent
// use. It has no way to print its keys.
type Box struct {
	keys   map[uint32]cipher.AEAD
	newest uint32
}

// storedKey is the record of one data key.
type storedKey struct {
	V       int    `json:"v"` // layout version, 1
	Wrapped []byte `json:"wrapped"`
}

// Open unwraps the data keys in records, and makes the first if there is none.
func Open(ctx context.Context, records store.Records, master Wrapper) (*Box, error) {
	stored, err := storedKeys(ctx, records)
	if err == nil && len(stored) == 0 {
		if err = makeFirst(ctx, records, master); err == nil {
			stored, err = storedKeys(ctx, records)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("data keys: %w", err)
	}
	b := &Box{keys: make(map[uint32]cipher.AEAD, len(stored))}
	for recordKey, k := range stored {
		number, err := keyNumber(recordKey)
		if err != nil || k.V != 1 {
			return nil, fmt.Errorf("data keys: record %q (layout %d) isn't one this program reads", recordKey, k.V)
		}
		key, err := master.Unwrap(k.Wrapped, []byte(recordKey))
		if err != nil {
			return nil, err
		}
		if b.keys[number], err = newAEAD(key); err != nil {
			return nil, fmt.Errorf("data key %d: %w", number, err)
		}
		b.newest = max(b.newest, number)
	}
	return b, nil
}

// Seal returns plaintext sealed for the record under recordKey. Two purposes
// within one record don't open each other's values.
func (b *Box) Seal(recordKey, purpose string, plaintext []byte) []byte {
	aead := b.keys[b.newest]
	sealed := make([]byte, numberBytes, numberBytes+len(plaintext)+aead.Overhead())
	binary.BigEndian.PutUint32(sealed, b.newest)
	return aead.Seal(sealed, nil, plaintext, associated(recordKey, purpose))
}

// Open returns what was sealed for the same record and purpose, else ErrSealed.
func (b *Box) Open(recordKey, purpose string, sealed []byte) ([]byte, error) {
	if len(sealed) < numberBytes {
		return nil, fmt.Errorf("%w: it is %d bytes short", ErrSealed, numberBytes-len(sealed))
	}
	number := binary.BigEndian.Uint32(sealed)
	aead, ok := b.keys[number]
	if !ok {
		return nil, fmt.Errorf("%w: there is no data key %d", ErrSealed, number)
	}
	plaintext, err := aead.Open(nil, nil, sealed[numberBytes:], associated(recordKey, purpose))
	if err != nil {
		return nil, fmt.Errorf("%w: changed, or of another record", ErrSealed)
	}
	return plaintext, nil
}

// associated joins two strings so that no other two give the same bytes.
func associated(recordKey, purpose string) []byte {
	data := binary.BigEndian.AppendUint32(nil, uint32(len(recordKey)))
	return append(append(data, recordKey...), purpose...)
}

func storedKeys(ctx context.Context, records store.Records) (stored map[string]storedKey, err error) {
	err = records.View(ctx, func(r store.Reader) error {
		stored = make(map[string]storedKey)
		return r.Scan(store.Prefix(dataKeyRecord), func(recordKey string, value []byte) error {
			var k storedKey
			if err := json.Unmarshal(value, &k); err != nil {
				return fmt.Errorf("record %q: %w", recordKey, err)
			}
			stored[recordKey] = k
			return nil
		})
	})
	return stored, err
}

// makeFirst stores data key 1 unless another process has just done so.
func makeFirst(ctx context.Context, records store.Records, master Wrapper) error {
	key := make([]byte, keyBytes)
	rand.Read(key) // never fails: the program ends instead
	recordKey := store.Key(dataKeyRecord, fmt.Sprintf("%08x", 1))
	wrapped, err := master.Wrap(key, []byte(recordKey))
	if err != nil {
		return err
	}
	value, err := json.Marshal(storedKey{V: 1, Wrapped: wrapped})
	if err != nil {
		return err
	}
	return records.Update(ctx, func(tx store.Txn) error {
		if there, err := tx.Get(recordKey); there != nil || err != nil {
			return err
		}
		return tx.Put(recordKey, value)
	})
}

// keyNumber is the number in a data key's record key.
func keyNumber(recordKey string) (uint32, error) {
	parts := store.SplitKey(recordKey)
	number, err := strconv.ParseUint(parts[len(parts)-1], 16, 32)
	return uint32(number), err
}

// newAEAD returns AES-256-GCM that makes and carries its own random nonces: good
// for 2³² values under one key (NIST SP 800-38D §8.3).
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

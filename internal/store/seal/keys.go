package seal

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"otpgate/internal/store"
)

const dataKeyRecord = "datakey" // Key(dataKeyRecord, number in 8 hex digits)

// Wrapper wraps data keys under a master key. The associated data must be the
// same at Unwrap as it was at Wrap.
type Wrapper interface {
	Wrap(key, associated []byte) ([]byte, error)
	// Unwrap returns ErrWrongMaster if wrapped was made by another master key.
	Unwrap(wrapped, associated []byte) ([]byte, error)
}

// storedKey is the record of one data key.
type storedKey struct {
	V       int    `json:"v"` // layout version, 1
	Wrapped []byte `json:"wrapped"`
}

// Alone reports whether there is no record but data keys: nobody has written to
// the database since it was made.
func Alone(r store.Reader) (bool, error) {
	alone := true
	err := r.Scan("", func(key string, _ []byte) error {
		if alone = strings.HasPrefix(key, store.Prefix(dataKeyRecord)); !alone {
			return store.ErrStopScan
		}
		return nil
	})
	return alone, err
}

// Open unwraps the data keys in records, and makes the first if there is none.
func Open(ctx context.Context, records store.Records, master Wrapper) (*Box, error) {
	var stored map[string]storedKey
	read := func() error {
		return records.View(ctx, func(r store.Reader) (err error) {
			stored, err = storedKeys(r)
			return err
		})
	}
	err := read()
	if err == nil && len(stored) == 0 {
		err = errors.Join(makeFirst(ctx, records, master), read())
	}
	if err != nil {
		return nil, fmt.Errorf("data keys: %w", err)
	}
	keys := &ring{keys: make(map[uint32]dataKey, len(stored))}
	for recordKey, k := range stored {
		number, err := keyNumber(recordKey)
		if err != nil || k.V != 1 {
			return nil, fmt.Errorf("data keys: record %q (layout %d) isn't one this program reads", recordKey, k.V)
		}
		key, err := master.Unwrap(k.Wrapped, []byte(recordKey))
		if err != nil {
			return nil, err
		}
		if keys.keys[number], err = newKey(key); err != nil {
			return nil, fmt.Errorf("data key %d: %w", number, err)
		}
		keys.newest = max(keys.newest, number)
	}
	b := &Box{}
	b.ring.Store(keys)
	return b, nil
}

// newDataKey makes a data key and its record's value.
func newDataKey(number uint32, master Wrapper) (dataKey, []byte, error) {
	key := make([]byte, keyBytes)
	rand.Read(key) // never fails: the program ends instead
	defer clear(key)
	value, err := wrap(key, recordKeyOf(number), master)
	if err != nil {
		return dataKey{}, nil, err
	}
	made, err := newKey(key)
	return made, value, err
}

// rewrap returns the value of a data key's record, moved from one master key to
// another.
func rewrap(recordKey string, k storedKey, from, to Wrapper) ([]byte, error) {
	key, err := from.Unwrap(k.Wrapped, []byte(recordKey))
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return wrap(key, recordKey, to)
}

func wrap(key []byte, recordKey string, master Wrapper) ([]byte, error) {
	wrapped, err := master.Wrap(key, []byte(recordKey))
	if err != nil {
		return nil, err
	}
	return json.Marshal(storedKey{V: 1, Wrapped: wrapped})
}

// makeFirst stores data key 1 unless another process has just done so.
func makeFirst(ctx context.Context, records store.Records, master Wrapper) error {
	_, value, err := newDataKey(1, master)
	if err != nil {
		return err
	}
	return records.Update(ctx, func(tx store.Txn) error {
		if there, err := tx.Get(recordKeyOf(1)); there != nil || err != nil {
			return err
		}
		return tx.Put(recordKeyOf(1), value)
	})
}

// storedKeys returns the records of the data keys, by their keys.
func storedKeys(r store.Reader) (map[string]storedKey, error) {
	stored := make(map[string]storedKey)
	err := r.Scan(store.Prefix(dataKeyRecord), func(recordKey string, value []byte) error {
		var k storedKey
		if err := json.Unmarshal(value, &k); err != nil {
			return fmt.Errorf("record %q: %w", recordKey, err)
		}
		stored[recordKey] = k
		return nil
	})
	return stored, err
}

func recordKeyOf(number uint32) string { return store.Key(dataKeyRecord, fmt.Sprintf("%08x", number)) }

// keyNumber is the number in a data key's record key.
func keyNumber(recordKey string) (uint32, error) {
	parts := store.SplitKey(recordKey)
	number, err := strconv.ParseUint(parts[len(parts)-1], 16, 32)
	return uint32(number), err
}

package bolt

import (
	"bytes"
	"errors"
	"strings"

	"go.etcd.io/bbolt"

	"otpgate/internal/store"
)

// errWriteInScan: bbolt's cursor loses its place when its bucket changes.
var errWriteInScan = errors.New("store: a scan's function wrote to the transaction")

// reader is a store.Reader on one bbolt transaction.
type reader struct{ records *bbolt.Bucket }

// Get implements store.Reader.
func (r reader) Get(key string) ([]byte, error) { return r.records.Get([]byte(key)), nil }

// Scan implements store.Reader.
func (r reader) Scan(prefix string, fn func(key string, value []byte) error) error {
	p := []byte(prefix)
	cursor := r.records.Cursor()
	for k, v := cursor.Seek(p); k != nil && bytes.HasPrefix(k, p); k, v = cursor.Next() {
		err := fn(string(k), v)
		if errors.Is(err, store.ErrStopScan) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// txn is a store.Txn for one function within a shared bbolt transaction. It
// remembers what it overwrote, to take back its own writes and no others.
type txn struct {
	reader
	undo     []change // in the order of the writes
	scanning int      // depth of Scans under way
}

// change is what stood under key before a write; nil: nothing. bbolt keeps the
// bytes that old points to until the transaction's end.
type change struct {
	key string
	old []byte
}

// Scan implements store.Reader.
func (t *txn) Scan(prefix string, fn func(key string, value []byte) error) error {
	t.scanning++
	defer func() { t.scanning-- }()
	return t.reader.Scan(prefix, fn)
}

// Put implements store.Txn.
func (t *txn) Put(key string, value []byte) error {
	if err := store.CheckRecord(key, value); err != nil {
		return err
	}
	if err := t.remember(key); err != nil {
		return err
	}
	return t.records.Put([]byte(key), bytes.Clone(value)) // bbolt keeps the value it is given
}

// Delete implements store.Txn.
func (t *txn) Delete(key string) error {
	if err := t.remember(key); err != nil {
		return err
	}
	return t.records.Delete([]byte(key))
}

// remember notes what stands under key, for rollback.
func (t *txn) remember(key string) error {
	if t.scanning > 0 {
		return errWriteInScan
	}
	t.undo = append(t.undo, change{strings.Clone(key), t.records.Get([]byte(key))})
	return nil
}

// rollback takes back all writes, the last one first.
func (t *txn) rollback() error {
	for i := len(t.undo) - 1; i >= 0; i-- {
		c := t.undo[i]
		var err error
		if c.old == nil {
			err = t.records.Delete([]byte(c.key))
		} else {
			err = t.records.Put([]byte(c.key), c.old)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"otpgate/internal/store"
)

// A snapshot is one state, of a size that was told before, whatever is written
// while it is read; and it is a database.
func TestSnapshotUnderWrites(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(filepath.Join(dir, "gate.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	// Two records that every transaction keeps the same, far from each other.
	write := func(n uint64) error {
		return s.Update(t.Context(), func(tx store.Txn) error {
			value := binary.BigEndian.AppendUint64(make([]byte, 500), n)
			return errors.Join(tx.Put("a", value), tx.Put(store.Key("m", string(value[500:])), value), tx.Put("z", value))
		})
	}
	if err := write(0); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for n := uint64(1); ; n++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := write(n); err != nil {
				done <- err
				return
			}
		}
	}()
	for range 5 {
		var copied bytes.Buffer
		var size int64
		err := s.Snapshot(t.Context(), func(n int64, content io.WriterTo) error {
			size = n
			_, err := content.WriteTo(slow{&copied, s, t})
			return err
		})
		if err != nil || int64(copied.Len()) != size {
			t.Fatalf("Snapshot: %d bytes of %d, %v", copied.Len(), size, err)
		}
		checkCopy(t, copied.Bytes())
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// slow is a reader of a backup during which other transactions are committed.
type slow struct {
	io.Writer
	s *Store
	t *testing.T
}

func (w slow) Write(p []byte) (int, error) {
	if err := w.s.Update(w.t.Context(), func(tx store.Txn) error { return tx.Put("other", p[:1]) }); err != nil {
		return 0, err
	}
	return w.Writer.Write(p)
}

func checkCopy(t *testing.T, copied []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy.db")
	if err := os.WriteFile(path, copied, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Open(path, Options{MustExist: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = c.View(t.Context(), func(r store.Reader) error {
		a, err1 := r.Get("a")
		z, err2 := r.Get("z")
		records := uint64(0)
		err3 := r.Scan(store.Prefix("m"), func(string, []byte) error { records++; return nil })
		if !bytes.Equal(a, z) || len(a) != 508 || records != binary.BigEndian.Uint64(a[500:])+1 {
			t.Errorf("the copy is of no one state: %x, %x, %d records", a, z, records)
		}
		return errors.Join(err1, err2, err3)
	})
	if err != nil {
		t.Error(err)
	}
}

func TestSnapshotEnds(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "gate.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = s.Snapshot(ctx, func(_ int64, content io.WriterTo) error {
		cancel()
		_, err := content.WriteTo(io.Discard)
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("after a cancel: %v", err)
	}
	if err := s.Snapshot(ctx, func(int64, io.WriterTo) error { t.Error("was called"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("with a cancelled context: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Snapshot(t.Context(), func(int64, io.WriterTo) error { t.Error("was called"); return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

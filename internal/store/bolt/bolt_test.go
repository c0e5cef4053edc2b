package bolt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"otpgate/internal/store"
	"otpgate/internal/store/storetest"
)

func TestContract(t *testing.T) {
	storetest.Records(t, func(t *testing.T, dir string) store.Records {
		return mustOpen(t, filepath.Join(dir, "gate.db"))
	})
}

// After a failed commit nobody gets an answer that the disk doesn't have.
func TestFailedCommitStopsTheStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	s := mustOpen(t, path)
	put(t, s, "before", "1")
	if err := s.Err(); err != nil {
		t.Fatalf("Err of a sound store: %v", err)
	}
	s.db.MaxSize = 1                    // the next commit that needs a new page fails
	errs := make([]error, maxBatch+100) // some of them are still waiting then
	finish := make(chan struct{})
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			errs[i] = s.Update(t.Context(), func(tx store.Txn) error {
				<-finish
				return tx.Put(fmt.Sprint(i), make([]byte, 10_000))
			})
		})
	}
	for len(s.queue) < maxBatch { // they are on their way to the queue
		runtime.Gosched()
	}
	close(finish)
	all.Wait()
	viewErr := s.View(t.Context(), func(store.Reader) error { t.Error("a View ran"); return nil })
	updateErr := s.Update(t.Context(), func(store.Txn) error { t.Error("an Update ran"); return nil })
	for _, err := range append(errs, viewErr, updateErr, s.Err()) {
		if !errors.Is(err, store.ErrBroken) {
			t.Errorf("got %v, want ErrBroken", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	s = mustOpen(t, path)
	defer s.Close()
	if got := dump(t, s); got != "before=1 " {
		t.Errorf("after reopening: %q", got)
	}
}

// What a function that must not be kept has written can't stay because its
// writes can't be taken back.
func TestWritesThatCannotBeUndoneBreakTheStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	s := mustOpen(t, path)
	err := s.Update(t.Context(), func(tx store.Txn) error {
		if err := tx.Put("k", []byte("1")); err != nil {
			return err
		}
		tx.(*txn).undo[0] = change{key: "", old: []byte("x")} // bbolt refuses an empty key
		return errors.New("no")
	})
	if !errors.Is(err, store.ErrBroken) || !errors.Is(err, errNotUndone) {
		t.Errorf("Update: %v, want ErrBroken", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	s = mustOpen(t, path)
	defer s.Close()
	if got := dump(t, s); got != "" {
		t.Errorf("kept: %q", got)
	}
}

// Who waits while a commit is on its way shares the next one.
func TestWaitingUpdatesShareACommit(t *testing.T) {
	s := mustOpen(t, filepath.Join(t.TempDir(), "gate.db"))
	defer s.Close()
	const callers = 50
	started, finish := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	commits := make(map[int]int) // transaction → functions; guarded by the turn
	note := func(tx store.Txn) error {
		commits[tx.(*txn).records.Tx().ID()]++
		return tx.Put("k", []byte("1"))
	}
	all.Go(func() {
		_ = s.Update(t.Context(), func(tx store.Txn) error {
			close(started)
			<-finish
			return note(tx)
		})
	})
	<-started
	for range callers {
		all.Go(func() { _ = s.Update(t.Context(), note) })
	}
	for len(s.queue) < callers { // they are on their way to the queue
		runtime.Gosched()
	}
	close(finish)
	all.Wait()
	if len(commits) != 1 {
		t.Errorf("%d waiting updates took %d commits", callers, len(commits))
	}
}

// More callers than one batch holds: the batch has an end, nobody is forgotten.
func TestMoreThanABatch(t *testing.T) {
	s := mustOpen(t, filepath.Join(t.TempDir(), "gate.db"))
	defer s.Close()
	const callers = 2*maxBatch + 10
	commits := make(map[int]int) // transaction → functions; guarded by the turn
	started, finish := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		_ = s.Update(t.Context(), func(store.Txn) error { close(started); <-finish; return nil })
	})
	<-started
	for i := range callers {
		all.Go(func() {
			err := s.Update(t.Context(), func(tx store.Txn) error {
				commits[tx.(*txn).records.Tx().ID()]++
				return tx.Put(fmt.Sprint(i), []byte("1"))
			})
			if err != nil {
				t.Errorf("Update: %v", err)
			}
		})
	}
	for len(s.queue) < maxBatch { // they are on their way to the queue
		runtime.Gosched()
	}
	close(finish)
	all.Wait()
	total := 0
	for _, n := range commits {
		if total += n; n > maxBatch {
			t.Errorf("%d functions shared a commit, at most %d may", n, maxBatch)
		}
	}
	if total != callers {
		t.Errorf("%d of %d ran", total, callers)
	}
}

func TestWritingWithinAScanIsRefused(t *testing.T) {
	s := mustOpen(t, filepath.Join(t.TempDir(), "gate.db"))
	defer s.Close()
	put(t, s, "a", "1")
	err := s.Update(t.Context(), func(tx store.Txn) error {
		return tx.Scan("", func(key string, _ []byte) error { return tx.Put(key, []byte("2")) })
	})
	if !errors.Is(err, errWriteInScan) {
		t.Errorf("Update: %v, want errWriteInScan", err)
	}
	put(t, s, "b", "2") // after a scan writing is possible again
	if got := dump(t, s); got != "a=1 b=2 " {
		t.Errorf("kept: %q", got)
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s := benchStore(b)
			var next atomic.Int64
			var all sync.WaitGroup
			b.ResetTimer()
			for range callers {
				all.Go(func() {
					for {
						n := next.Add(1)
						if n > int64(b.N) {
							return
						}
						key := benchKey(int(n*7919) % benchRecords)
						err := s.Update(b.Context(), func(tx store.Txn) error {
							value, err := tx.Get(key)
							if err != nil {
								return err
							}
							changed := append([]byte(nil), value...)
							changed[0]++
							return tx.Put(key, changed)
						})
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
		})
	}
}

// benchRecords of benchBytes each: small states, as the gate writes them.
const benchRecords, benchBytes = 100_000, 32

func benchKey(i int) string { return store.Key("state", fmt.Sprintf("%08d", i)) }

func benchStore(b *testing.B) *Store {
	s := mustOpen(b, filepath.Join(b.TempDir(), "gate.db"))
	b.Cleanup(func() { _ = s.Close() })
	err := s.Update(b.Context(), func(tx store.Txn) error {
		for i := range benchRecords {
			if err := tx.Put(benchKey(i), make([]byte, benchBytes)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func mustOpen(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t testing.TB, s *Store, key, value string) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx store.Txn) error { return tx.Put(key, []byte(value)) }); err != nil {
		t.Fatal(err)
	}
}

// dump returns all records in one line.
func dump(t testing.TB, s *Store) string {
	t.Helper()
	var line strings.Builder
	err := s.View(t.Context(), func(r store.Reader) error {
		return r.Scan("", func(key string, value []byte) error {
			line.WriteString(key + "=" + string(value) + " ")
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return line.String()
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

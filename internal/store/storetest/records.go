// Package storetest is the store's contract as a test suite. Each engine runs
// it; an engine that passes can stand in for any other.
package storetest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"otpgate/internal/store"
)

// errNo is what the suite's functions fail with.
var errNo = errors.New("no")

// patience bounds every wait for what must happen.
const patience = 10 * time.Second

// Records tests store.Records. open opens the records named by dir, a folder
// of the test's own; opened again after Close, the same dir is the same data.
func Records(t *testing.T, open func(t *testing.T, dir string) store.Records) {
	tests := map[string]func(t *testing.T, r store.Records){
		"own writes are visible":           ownWrites,
		"a failed update leaves nothing":   failedUpdate,
		"a panic leaves nothing":           panickingUpdate,
		"goexit leaves nothing":            exitingUpdate,
		"bad records are refused":          badRecords,
		"values are copied":                copiedValues,
		"scan: order, prefix, stop, error": scan,
		"a view is one state":              consistentView,
		"parallel read-modify-write":       parallelUpdates,
		"only the failing ones of a group": mixedGroup,
		"a cancelled wait never runs":      cancelledWait,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := open(t, t.TempDir())
			t.Cleanup(func() {
				if err := r.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			test(t, r)
		})
	}
	t.Run("closed", func(t *testing.T) { closed(t, open(t, t.TempDir())) })
	t.Run("close waits", func(t *testing.T) { closeWaits(t, open) })
	t.Run("reopen", func(t *testing.T) { reopen(t, open) })
}

func ownWrites(t *testing.T, r store.Records) {
	update(t, r, func(tx store.Txn) error {
		want(t, tx, "a", "")
		put(t, tx, "a", "1")
		want(t, tx, "a", "1")
		put(t, tx, "a", "2")
		put(t, tx, "b", "3")
		wantAll(t, tx, "", "a=2", "b=3")
		if err := tx.Delete("a"); err != nil {
			t.Errorf("Delete: %v", err)
		}
		if err := tx.Delete("never"); err != nil {
			t.Errorf("Delete of what isn't there: %v", err)
		}
		wantAll(t, tx, "", "b=3")
		return nil
	})
	view(t, r, func(v store.Reader) { wantAll(t, v, "", "b=3") })
}

// failing writes over and beside what is there, in every way there is.
func failing(t *testing.T, tx store.Txn) {
	put(t, tx, "kept", "changed")
	put(t, tx, "kept", "changed again")
	put(t, tx, "new", "x")
	for _, key := range []string{"gone", "new"} {
		if err := tx.Delete(key); err != nil {
			t.Errorf("Delete: %v", err)
		}
	}
	put(t, tx, "gone", "back")
	put(t, tx, "new", "y")
}

func seedForFailing(t *testing.T, r store.Records) {
	update(t, r, func(tx store.Txn) error {
		put(t, tx, "kept", "1")
		put(t, tx, "gone", "2")
		return nil
	})
}

func wantUnchanged(t *testing.T, r store.Records) {
	t.Helper()
	view(t, r, func(v store.Reader) { wantAll(t, v, "", "gone=2", "kept=1") })
	update(t, r, func(tx store.Txn) error { // and the engine still works
		wantAll(t, tx, "", "gone=2", "kept=1")
		put(t, tx, "more", "3")
		return nil
	})
	view(t, r, func(v store.Reader) { want(t, v, "more", "3") })
}

func failedUpdate(t *testing.T, r store.Records) {
	seedForFailing(t, r)
	err := r.Update(t.Context(), func(tx store.Txn) error {
		failing(t, tx)
		return errNo
	})
	if !errors.Is(err, errNo) {
		t.Errorf("Update returned %v, want the function's error", err)
	}
	wantUnchanged(t, r)
}

func panickingUpdate(t *testing.T, r store.Records) {
	seedForFailing(t, r)
	func() {
		defer func() {
			if p := recover(); p != "the function's own" {
				t.Errorf("recovered %v, want the function's panic in its caller", p)
			}
		}()
		_ = r.Update(t.Context(), func(tx store.Txn) error {
			failing(t, tx)
			panic("the function's own")
		})
		t.Error("Update returned after a panic")
	}()
	wantUnchanged(t, r)
}

// exitingUpdate: t.FailNow within a function ends its goroutine by Goexit.
func exitingUpdate(t *testing.T, r store.Records) {
	seedForFailing(t, r)
	t.Run("inner", func(t *testing.T) {
		_ = r.Update(t.Context(), func(tx store.Txn) error {
			failing(t, tx)
			t.SkipNow()
			return nil
		})
		t.Error("Update returned after Goexit")
	})
	wantUnchanged(t, r)
}

func badRecords(t *testing.T, r store.Records) {
	long := string(make([]byte, store.MaxKeyBytes+1))
	update(t, r, func(tx store.Txn) error {
		for name, err := range map[string]error{
			"empty key":   tx.Put("", []byte("x")),
			"long key":    tx.Put(long, []byte("x")),
			"nil value":   tx.Put("k", nil),
			"empty value": tx.Put("k", []byte{}),
			"long value":  tx.Put("k", make([]byte, store.MaxValueBytes+1)),
		} {
			if !errors.Is(err, store.ErrBadRecord) {
				t.Errorf("%s: got %v, want ErrBadRecord", name, err)
			}
		}
		want(t, tx, "", "")
		want(t, tx, long, "")
		// The longest ones allowed.
		put(t, tx, long[1:], string(make([]byte, store.MaxValueBytes)))
		return tx.Delete(long)
	})
	view(t, r, func(v store.Reader) {
		if got, err := v.Get(long[1:]); err != nil || len(got) != store.MaxValueBytes {
			t.Errorf("the longest record: %d bytes, %v", len(got), err)
		}
	})
}

func copiedValues(t *testing.T, r store.Records) {
	update(t, r, func(tx store.Txn) error {
		value := []byte("before")
		if err := tx.Put("k", value); err != nil {
			t.Errorf("Put: %v", err)
		}
		copy(value, "after!")
		want(t, tx, "k", "before")
		return nil
	})
	view(t, r, func(v store.Reader) { want(t, v, "k", "before") })
}

func scan(t *testing.T, r store.Records) {
	update(t, r, func(tx store.Txn) error {
		for _, parts := range [][]string{{"u", "b"}, {"u", "a"}, {"u", "a", "x"}, {"u2", "c"}, {"t"}, {"u"}, {"u", "あ"}} {
			put(t, tx, store.Key(parts...), "1")
		}
		return nil
	})
	view(t, r, func(v store.Reader) {
		wantAll(t, v, store.Prefix("u"), "u\x00a=1", "u\x00a\x00x=1", "u\x00b=1", "u\x00あ=1")
		wantAll(t, v, store.Prefix("u", "a"), "u\x00a\x00x=1")
		wantAll(t, v, "nothing")
		wantAll(t, v, "", "t=1", "u=1", "u\x00a=1", "u\x00a\x00x=1", "u\x00b=1", "u\x00あ=1", "u2\x00c=1")

		for end, wantErr := range map[error]error{store.ErrStopScan: nil, errNo: errNo} {
			seen := 0
			err := v.Scan("u", func(string, []byte) error {
				if seen++; seen == 2 {
					return fmt.Errorf("wrapped: %w", end)
				}
				return nil
			})
			if !errors.Is(err, wantErr) || seen != 2 {
				t.Errorf("Scan ended by %v: saw %d, returned %v", end, seen, err)
			}
		}
	})
}

func consistentView(t *testing.T, r store.Records) {
	view(t, r, func(v store.Reader) {
		want(t, v, "a", "")
		done := make(chan struct{})
		go func() {
			defer close(done)
			update(t, r, func(tx store.Txn) error {
				put(t, tx, "a", "1")
				return nil
			})
		}()
		await(t, done, "an Update beside a View")
		want(t, v, "a", "")
		wantAll(t, v, "")
	})
	view(t, r, func(v store.Reader) { want(t, v, "a", "1") })
	if err := r.View(t.Context(), func(store.Reader) error { return errNo }); !errors.Is(err, errNo) {
		t.Errorf("View returned %v, want its function's error", err)
	}
}

// parallelUpdates: no increment is lost, and no answered one is invisible.
func parallelUpdates(t *testing.T, r store.Records) {
	const callers, each = 32, 20
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range each {
				var mine uint64
				update(t, r, func(tx store.Txn) error {
					mine = increment(t, tx, "n")
					return nil
				})
				view(t, r, func(v store.Reader) {
					if now := count(t, v, "n"); now < mine {
						t.Errorf("read %d after having written %d", now, mine)
					}
				})
			}
		})
	}
	all.Wait()
	view(t, r, func(v store.Reader) {
		if n := count(t, v, "n"); n != callers*each {
			t.Errorf("%d increments were kept, want %d", n, callers*each)
		}
	})
}

// mixedGroup: of many at once some fail and some panic, all over one counter.
func mixedGroup(t *testing.T, r store.Records) {
	const callers, each = 30, 10
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for range each {
				func() {
					defer func() { _ = recover() }()
					err := r.Update(t.Context(), func(tx store.Txn) error {
						increment(t, tx, "n")
						increment(t, tx, fmt.Sprintf("caller %d", i))
						switch i % 3 {
						case 0:
							return errNo
						case 1:
							panic("mixed")
						}
						return nil
					})
					if failed := err != nil; failed != (i%3 == 0) {
						t.Errorf("caller %d: %v", i, err)
					}
				}()
			}
		})
	}
	all.Wait()
	view(t, r, func(v store.Reader) {
		if n := count(t, v, "n"); n != callers/3*each {
			t.Errorf("%d increments were kept, want %d", n, callers/3*each)
		}
		for i := range callers {
			wantN := uint64(0)
			if i%3 == 2 {
				wantN = each
			}
			if n := count(t, v, fmt.Sprintf("caller %d", i)); n != wantN {
				t.Errorf("caller %d: %d increments, want %d", i, n, wantN)
			}
		}
	})
}

func cancelledWait(t *testing.T, r store.Records) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	never := func(store.Txn) error { t.Error("ran with a context that was over"); return nil }
	if err := r.Update(over, never); !errors.Is(err, context.Canceled) {
		t.Errorf("Update: %v, want context.Canceled", err)
	}
	if err := r.View(over, func(store.Reader) error { return never(nil) }); !errors.Is(err, context.Canceled) {
		t.Errorf("View: %v, want context.Canceled", err)
	}

	// One that waits behind another is let go; the other, whose context ends
	// while it runs, is not.
	started, finish, waiting := make(chan struct{}), make(chan struct{}), make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	var first sync.WaitGroup
	first.Go(func() {
		var once sync.Once
		err := r.Update(ctx, func(tx store.Txn) error {
			once.Do(func() { close(started); <-finish })
			put(t, tx, "first", "1")
			return nil
		})
		if err != nil {
			t.Errorf("the context ended while its function ran: %v", err)
		}
	})
	await(t, started, "the first Update")
	go func() { waiting <- r.Update(ctx, never) }()
	cancel()
	select {
	case err := <-waiting:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the waiting Update: %v, want context.Canceled", err)
		}
	case <-time.After(patience):
		t.Error("the waiting Update wasn't let go")
	}
	close(finish)
	first.Wait()
	view(t, r, func(v store.Reader) { wantAll(t, v, "", "first=1") })
}

func closed(t *testing.T, r store.Records) {
	for range 2 { // the second Close changes nothing
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if err := r.Update(t.Context(), func(store.Txn) error { t.Error("ran"); return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Update: %v, want ErrClosed", err)
	}
	if err := r.View(t.Context(), func(store.Reader) error { t.Error("ran"); return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("View: %v, want ErrClosed", err)
	}
}

// closeWaits: a Close under load lets nobody hang, and what was answered
// without an error is there afterwards.
func closeWaits(t *testing.T, open func(t *testing.T, dir string) store.Records) {
	dir := t.TempDir()
	r := open(t, dir)
	const callers = 16
	var kept [callers]uint64
	var all sync.WaitGroup
	running := make(chan struct{}, callers)
	for i := range callers {
		all.Go(func() {
			for n := 0; ; n++ {
				err := r.Update(t.Context(), func(tx store.Txn) error {
					increment(t, tx, fmt.Sprint(i))
					return nil
				})
				if err != nil {
					if !errors.Is(err, store.ErrClosed) {
						t.Errorf("Update: %v, want ErrClosed", err)
					}
					return
				}
				kept[i]++
				if n == 1 {
					running <- struct{}{}
				}
			}
		})
	}
	for range callers {
		<-running
	}
	if err := r.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	all.Wait()
	r = open(t, dir)
	defer r.Close()
	view(t, r, func(v store.Reader) {
		for i, n := range kept {
			if got := count(t, v, fmt.Sprint(i)); got != n {
				t.Errorf("caller %d: %d increments were answered, %d are there", i, n, got)
			}
		}
	})
}

func reopen(t *testing.T, open func(t *testing.T, dir string) store.Records) {
	dir := t.TempDir()
	for n := range uint64(3) {
		r := open(t, dir)
		update(t, r, func(tx store.Txn) error {
			if before := increment(t, tx, "n") - 1; before != n {
				t.Errorf("opened %d times: found %d", n, before)
			}
			return nil
		})
		if err := r.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
}

func update(t *testing.T, r store.Records, fn func(store.Txn) error) {
	t.Helper()
	if err := r.Update(t.Context(), fn); err != nil {
		t.Errorf("Update: %v", err)
	}
}

func view(t *testing.T, r store.Records, fn func(store.Reader)) {
	t.Helper()
	if err := r.View(t.Context(), func(v store.Reader) error { fn(v); return nil }); err != nil {
		t.Errorf("View: %v", err)
	}
}

func put(t *testing.T, tx store.Txn, key, value string) {
	t.Helper()
	if err := tx.Put(key, []byte(value)); err != nil {
		t.Errorf("Put: %v", err)
	}
}

// want compares the value under key; "" is none.
func want(t *testing.T, r store.Reader, key, value string) {
	t.Helper()
	got, err := r.Get(key)
	if err != nil || string(got) != value || (got == nil) != (value == "") {
		t.Errorf("Get(%q) = %q, %v; want %q", key, got, err, value)
	}
}

// wantAll compares what a scan of prefix finds, as "key=value".
func wantAll(t *testing.T, r store.Reader, prefix string, want ...string) {
	t.Helper()
	var got []string
	err := r.Scan(prefix, func(key string, value []byte) error {
		got = append(got, key+"="+string(value))
		return nil
	})
	if err != nil {
		t.Errorf("Scan: %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Scan(%q) (-want +got):\n%s", prefix, diff)
	}
}

func count(t *testing.T, r store.Reader, key string) uint64 {
	t.Helper()
	value, err := r.Get(key)
	if err != nil {
		t.Errorf("Get: %v", err)
	}
	if value == nil {
		return 0
	}
	return binary.BigEndian.Uint64(value)
}

func increment(t *testing.T, tx store.Txn, key string) uint64 {
	t.Helper()
	n := count(t, tx, key) + 1
	if err := tx.Put(key, binary.BigEndian.AppendUint64(nil, n)); err != nil {
		t.Errorf("Put: %v", err)
	}
	return n
}

func await(t *testing.T, done <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Errorf("%s is stuck", what)
	}
}

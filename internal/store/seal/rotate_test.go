package seal

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"otpgate/internal/store"
	"otpgate/internal/store/bolt"
)

// site is a database with sealed values, and what rotates its keys.
type site struct {
	records store.Records
	box     *Box
	master  Wrapper
	*Rotation
	mu    sync.Mutex
	notes []string
}

func newSite(t *testing.T, records store.Records, master Wrapper) *site {
	t.Helper()
	s := &site{records: records, master: master, box: mustBox(t, records, master)}
	s.Rotation = NewRotation(Config{
		Box: s.box, Records: records, Master: master, Log: slog.New(slog.DiscardHandler),
		Owners: map[string]Reseal{store.Prefix("secret"): func(key string, value []byte) ([]byte, bool, error) {
			return s.box.Reseal(key, "p", value)
		}},
		Note: func(_ context.Context, by, event, _ string) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.notes = append(s.notes, event+" by "+by)
			return nil
		},
	})
	return s
}

// noted returns the notes once nothing moves any more.
func (s *site) noted() []string {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.notes)
}

// put stores n secrets, each of which is its own record's key.
func (s *site) put(t *testing.T, from, n int) {
	t.Helper()
	err := s.records.Update(t.Context(), func(tx store.Txn) error {
		for i := range n {
			key := store.Key("secret", fmt.Sprintf("%06d", from+i))
			if err := tx.Put(key, s.box.Seal(key, "p", []byte(key))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// check opens all n secrets, with a Box as the next start will have it, and
// returns the numbers of the data keys that are there and that have sealed them.
func (s *site) check(t *testing.T, n int) (there, used []uint32) {
	t.Helper()
	box := mustBox(t, s.records, s.master)
	seen := map[uint32]bool{}
	found := 0
	err := s.records.View(t.Context(), func(r store.Reader) error {
		return r.Scan(store.Prefix("secret"), func(key string, value []byte) error {
			found++
			seen[binary.BigEndian.Uint32(value)] = true
			got, err := box.Open(key, "p", value)
			if err == nil && string(got) != key {
				err = fmt.Errorf("%q holds %q", key, got)
			}
			return err
		})
	})
	if err != nil || found != n {
		t.Fatalf("%d of %d secrets: %v", found, n, err)
	}
	return slices.Sorted(maps.Keys(box.ring.Load().keys)), slices.Sorted(maps.Keys(seen))
}

// run lets the rotation run in the background until stop.
func (s *site) run(t *testing.T) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	return func() { cancel(); <-done }
}

// wait waits until the rotation has come to an end.
func (s *site) wait(t *testing.T) {
	t.Helper()
	for begun := time.Now(); s.Status().Phase == Resealing; time.Sleep(time.Millisecond) {
		if time.Since(begun) > 10*time.Second {
			t.Fatalf("still %+v", s.Status())
		}
	}
}

func TestRotation(t *testing.T) {
	path, master := filepath.Join(t.TempDir(), "gate.db"), newMaster(t)
	synctest.Test(t, func(t *testing.T) {
		records, err := bolt.Open(path, bolt.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer records.Close()
		s := newSite(t, records, master)
		const n = 3*sliceRecords + 7
		s.put(t, 0, n)
		late := store.Key("secret", "late")
		old := s.box.Seal(late, "p", []byte(late))
		envelope := s.box.Envelope("a use")
		underWay := envelope.Seal([]byte("x"))
		stop := s.run(t)
		defer stop()
		if err := s.Start(t.Context(), "hanako"); err != nil {
			t.Fatal(err)
		}
		if err := s.Start(t.Context(), "taro"); !errors.Is(err, ErrRotating) {
			t.Errorf("a second Start: %v, want ErrRotating", err)
		}
		// What was sealed just before may still be on its way: the old key stays.
		time.Sleep(Settle / 2)
		if err := records.Update(t.Context(), func(tx store.Txn) error { return tx.Put(late, old) }); err != nil {
			t.Fatal(err)
		}
		if there, _ := s.check(t, n+1); !slices.Equal(there, []uint32{1, 2}) {
			t.Errorf("data keys while settling: %v", there)
		}
		if got := s.Status(); got.Phase != Settling || !slices.Equal(got.Old, []uint32{1}) || got.Newest != 2 {
			t.Errorf("while settling: %+v", got)
		}
		time.Sleep(Settle)
		there, used := s.check(t, n+1)
		if !slices.Equal(there, []uint32{2}) || !slices.Equal(used, []uint32{2}) {
			t.Errorf("afterwards data keys %v are there, %v in use; want the second alone", there, used)
		}
		if got := s.Status(); got.Phase != Idle || got.Old != nil || got.Resealed != n+1 || got.Problem != "" {
			t.Errorf("afterwards: %+v", got)
		}
		if want := []string{"key.rotate by hanako", "key.rotated by "}; !slices.Equal(s.noted(), want) {
			t.Errorf("noted %q, want %q", s.noted(), want)
		}
		// A try may have read its value before; a little later nobody has.
		if _, err := s.box.Open(late, "p", old); err != nil {
			t.Errorf("just after the end: %v", err)
		}
		if _, err := envelope.Open(underWay); err != nil {
			t.Errorf("what is under way, longer than Settle after it was sealed: %v", err)
		}
		time.Sleep(Settle)
		if _, err := envelope.Open(underWay); !errors.Is(err, ErrSealed) {
			t.Errorf("the key derived from the old one is still in memory: %v", err)
		}
		if _, err := envelope.Open(envelope.Seal([]byte("x"))); err != nil {
			t.Errorf("under the new key: %v", err)
		}
		if _, err := s.box.Open(late, "p", old); !errors.Is(err, ErrSealed) {
			t.Errorf("the old key is still in memory: %v", err)
		}
		if err := s.Start(t.Context(), "hanako"); err != nil || s.Status().Newest != 3 {
			t.Errorf("the next rotation: %v, %+v", err, s.Status())
		}
	})
}

// A rotation that was stopped anywhere is finished by the next start, at once:
// nothing of the process before can be on its way.
func TestRotationGoesOnAfterAKill(t *testing.T) {
	records, master := open(t), newMaster(t)
	const n = 10 * sliceRecords
	s := newSite(t, records, master)
	s.put(t, 0, n)
	for kill := range 8 {
		if s.Status().Phase == Idle {
			if err := s.Start(t.Context(), ""); err != nil {
				t.Fatal(err)
			}
		}
		stop := s.run(t)
		for s.Status().Resealed < kill*sliceRecords && s.Status().Phase == Resealing {
			time.Sleep(time.Millisecond)
		}
		stop() // in the middle: nothing but what is committed outlives it
		s.check(t, n)
		s = newSite(t, records, master)
	}
	stop := s.run(t)
	s.wait(t)
	stop()
	newest := s.Status().Newest
	there, used := s.check(t, n)
	if want := []uint32{newest}; newest < 2 || !slices.Equal(there, want) || !slices.Equal(used, want) {
		t.Errorf("data keys %v are there, %v in use; want %v alone", there, used, want)
	}
}

// What can't be opened keeps the old keys, and everything else is sealed anew.
func TestRotationStalls(t *testing.T) {
	records, master := open(t), newMaster(t)
	bad := store.Key("secret", "bad")
	s := newSite(t, records, master)
	s.put(t, 0, 300)
	put := func(value []byte) {
		if err := records.Update(t.Context(), func(tx store.Txn) error { return tx.Put(bad, value) }); err != nil {
			t.Fatal(err)
		}
	}
	put(s.box.Seal("another record", "p", []byte("x")))
	if err := s.Start(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	s = newSite(t, records, master) // a start later, so that nothing settles
	stop := s.run(t)
	s.wait(t)
	got := s.Status()
	if got.Phase != Stalled || got.Unreadable != 1 || got.Resealed != 300 || got.Problem == "" || !slices.Equal(got.Old, []uint32{1}) {
		t.Errorf("stalled: %+v", got)
	}
	stop()
	put(s.box.Seal(bad, "p", []byte(bad)))
	s = newSite(t, records, master)
	stop = s.run(t)
	s.wait(t)
	stop()
	if there, _ := s.check(t, 301); s.Status().Phase != Idle || !slices.Equal(there, []uint32{2}) {
		t.Errorf("after it was put right: %v, %+v", there, s.Status())
	}
}

func TestNewMaster(t *testing.T) {
	records, old := open(t), newMaster(t)
	s := newSite(t, records, old)
	s.put(t, 0, 10)
	if err := s.StartUnder(t.Context(), "", old); !errors.Is(err, ErrSameMaster) {
		t.Errorf("the same master key: %v, want ErrSameMaster", err)
	}
	if there, _ := s.check(t, 10); len(there) != 1 {
		t.Errorf("a refused start left data keys %v", there)
	}
	next := newMaster(t)
	if err := s.StartUnder(t.Context(), "", next); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), records, old); !errors.Is(err, ErrWrongMaster) {
		t.Errorf("with the old master key: %v, want ErrWrongMaster", err)
	}
	s = newSite(t, records, next)
	stop := s.run(t)
	s.wait(t)
	stop()
	if there, used := s.check(t, 10); !slices.Equal(there, []uint32{2}) || !slices.Equal(used, there) {
		t.Errorf("data keys %v are there, %v in use", there, used)
	}
}

// Every byte of the file, before and after: no secret, no key, at no time.
func TestNothingInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	records, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer records.Close()
	master := &spy{Wrapper: newMaster(t)}
	s := newSite(t, records, master)
	secret := []byte("the secret of a token")
	at := store.Key("secret", "1")
	if err := records.Update(t.Context(), func(tx store.Txn) error { return tx.Put(at, s.box.Seal(at, "p", secret)) }); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	s = newSite(t, records, master)
	stop := s.run(t)
	s.wait(t)
	stop()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(master.keys) != 2 {
		t.Fatalf("%d data keys were made, want 2", len(master.keys))
	}
	for _, s := range append(master.keys, secret) {
		if bytes.Contains(file, s) || bytes.Contains(file, encoded(s)) {
			t.Errorf("the file shows %x", s)
		}
	}
}

// A record that its owner can't open is named.
func TestProve(t *testing.T) {
	records, master := open(t), newMaster(t)
	s := newSite(t, records, master)
	s.put(t, 0, 5)
	trial := &Trial{Box: s.box}
	owners := map[string]Reseal{store.Prefix("secret"): func(key string, value []byte) ([]byte, bool, error) {
		return trial.Reseal(key, "p", value)
	}}
	if err := Prove(t.Context(), records, owners); err != nil || trial.Opened != 5 {
		t.Errorf("Prove: %v, %d opened", err, trial.Opened)
	}
	if err := records.Update(t.Context(), func(tx store.Txn) error {
		return tx.Put(store.Key("secret", "bad"), s.box.Seal("elsewhere", "p", []byte("x")))
	}); err != nil {
		t.Fatal(err)
	}
	if err := Prove(t.Context(), records, owners); !errors.Is(err, ErrSealed) {
		t.Errorf("Prove: %v, want ErrSealed", err)
	}
}

// spy notes the data keys in clear.
type spy struct {
	Wrapper
	keys [][]byte
}

func (s *spy) Wrap(key, associated []byte) ([]byte, error) {
	s.keys = append(s.keys, bytes.Clone(key))
	return s.Wrapper.Wrap(key, associated)
}

// encoded is b as it would stand in JSON.
func encoded(b []byte) []byte {
	text, _ := json.Marshal(b)
	return []byte(strings.Trim(string(text), `"=`)[:len(text)*3/4])
}

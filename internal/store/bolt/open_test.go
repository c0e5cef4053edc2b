package bolt

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"otpgate/internal/store"
)

func TestCreate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "gate.db")
	if exists, err := Exists(path); exists || err != nil {
		t.Errorf("Exists before: %v, %v", exists, err)
	}
	if _, err := Open(path, Options{MustExist: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open with MustExist: %v, want fs.ErrNotExist", err)
	}
	s := mustOpen(t, path)
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if exists, err := Exists(path); !exists || err != nil {
		t.Errorf("Exists after: %v, %v", exists, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("the folder holds %v, %v; want the database alone", entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	s, err = Open(path, Options{MustExist: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

// create never replaces a database that another process made meanwhile.
func TestCreateDoesNotReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	s := mustOpen(t, path)
	put(t, s, "k", "1")
	s.Close()
	if err := create(path); err != nil {
		t.Errorf("create: %v", err)
	}
	s = mustOpen(t, path)
	defer s.Close()
	if got := dump(t, s); got != "k=1 " {
		t.Errorf("after a second create: %q", got)
	}
}

func TestNoFolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "gate.db")
	if _, err := Open(path, Options{}); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("Open: %v, want fs.ErrNotExist with the path", err)
	}
}

// inUsePath makes the test binary hold the database that it names.
const inUsePath = "OTPGATE_TEST_HOLD_DATABASE"

func TestInUse(t *testing.T) {
	if path := os.Getenv(inUsePath); path != "" {
		mustOpen(t, path)
		fmt.Println("held")
		time.Sleep(time.Minute) // ended by the other process
		return
	}
	path := filepath.Join(t.TempDir(), "gate.db")
	holder := exec.Command(os.Args[0], "-test.run=^TestInUse$")
	holder.Env = append(os.Environ(), inUsePath+"="+path)
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Process.Kill(); _ = holder.Wait() }()
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	refused(t, path, ErrInUse)

	// The lock ends with its holder, even with a killed one.
	_ = holder.Process.Kill()
	_ = holder.Wait()
	s := mustOpen(t, path)
	s.Close()
}

// A holder that goes away within the patience of Open is no obstacle.
func TestInUseForAMoment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	first := mustOpen(t, path)
	time.AfterFunc(100*time.Millisecond, func() { _ = first.Close() })
	mustOpen(t, path).Close()
}

func TestNewer(t *testing.T) {
	path := filled(t)
	rawUpdate(t, path, func(tx *bbolt.Tx) error {
		return tx.Bucket(metaBucket).Put(schemaKey, []byte(strconv.Itoa(schemaVersion+1)))
	})
	refused(t, path, ErrNewer)
}

func TestNotOurs(t *testing.T) {
	for name, spoil := range map[string]func(tx *bbolt.Tx) error{
		"no meta":    func(tx *bbolt.Tx) error { return tx.DeleteBucket(metaBucket) },
		"no records": func(tx *bbolt.Tx) error { return tx.DeleteBucket(recordsBucket) },
		"no version": func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Delete(schemaKey) },
		"version 0":  func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Put(schemaKey, []byte("0")) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filled(t)
			rawUpdate(t, path, spoil)
			refused(t, path, ErrDamaged)
		})
	}
}

// A file that bbolt's own tools have rewritten, with a list of free pages.
func TestCompacted(t *testing.T) {
	path := filled(t)
	want := func() string { s := mustOpen(t, path); defer s.Close(); return dump(t, s) }()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(recordsBucket).Delete([]byte("key 0000")) }); err != nil {
		t.Fatal(err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(recordsBucket).Put([]byte("key 0000"), bytes.Repeat([]byte{'v'}, 100))
	}); err != nil {
		t.Fatal(err)
	}
	db.Close()
	s := mustOpen(t, path)
	defer s.Close()
	if dump(t, s) != want {
		t.Error("other records than before")
	}
	put(t, s, "k", "1")
}

// What bbolt writes is never called damaged, whatever the order of writes.
func TestSoundAfterManyWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gate.db")
	s := mustOpen(t, path)
	defer s.Close()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	for round := range 150 {
		size, deletes := 1+rng.IntN(3000), rng.IntN(100) // phases of growing and shrinking
		_ = s.Update(t.Context(), func(tx store.Txn) error {
			for range 1 + rng.IntN(200) {
				key := strings.Repeat("k", rng.IntN(30)) + strconv.Itoa(rng.IntN(2000))
				if rng.IntN(100) < deletes {
					_ = tx.Delete(key)
				} else if err := tx.Put(key, make([]byte, 1+rng.IntN(size))); err != nil {
					t.Error(err)
				}
			}
			if round%5 == 0 {
				return errors.New("taken back, beside others")
			}
			return tx.Put("round", []byte{byte(round)})
		})
		info, err := file.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if err := checkFile(file, info.Size()); err != nil {
			t.Fatalf("after %d rounds: %v", round+1, err)
		}
	}
}

// Every kind of damage is one sentence, and changes nothing.
func TestDamaged(t *testing.T) {
	sound := mustRead(t, filled(t))
	used := usedPages(t, sound)
	tests := map[string]func(data []byte) []byte{
		"empty":               func([]byte) []byte { return nil },
		"text":                func([]byte) []byte { return []byte("not a database\n") },
		"long text":           func([]byte) []byte { return bytes.Repeat([]byte("not a database\n"), 5000) },
		"zeros":               func(d []byte) []byte { return make([]byte, len(d)) },
		"cut to one page":     func(d []byte) []byte { return d[:pageSize] },
		"cut to its head":     func(d []byte) []byte { return d[:2*pageSize] },
		"cut in the middle":   func(d []byte) []byte { return d[:used/2*pageSize] },
		"cut within a page":   func(d []byte) []byte { return d[:used*pageSize-1] },
		"first page overrun":  func(d []byte) []byte { fill(d[:pageSize]); return d },
		"second page overrun": func(d []byte) []byte { fill(d[pageSize : 2*pageSize]); return d },
		"both heads overrun":  func(d []byte) []byte { fill(d[:2*pageSize]); return d },
		"all but heads":       func(d []byte) []byte { fill(d[2*pageSize:]); return d },
		"pages missing at the end": func(d []byte) []byte {
			for _, meta := range []int{headerBytes, pageSize + headerBytes} {
				order.PutUint64(d[meta+40:], uint64(len(d)/pageSize+1))
			}
			fixSums(d)
			return d
		},
		"both checksums wrong": func(d []byte) []byte { d[headerBytes+metaSumBytes]++; d[pageSize+headerBytes+metaSumBytes]++; return d },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "gate.db")
			if err := os.WriteFile(path, spoil(bytes.Clone(sound)), 0o600); err != nil {
				t.Fatal(err)
			}
			refused(t, path, ErrDamaged)
		})
	}
}

// A power cut while the head was being written: its transaction was never
// answered, and the one before is whole.
func TestTornHead(t *testing.T) {
	path := filled(t)
	before := func() string { s := mustOpen(t, path); defer s.Close(); return dump(t, s) }()
	s := mustOpen(t, path)
	put(t, s, "last", "1")
	s.Close()
	data := mustRead(t, path)
	newer := 0
	if order.Uint64(data[pageSize+headerBytes+48:]) > order.Uint64(data[headerBytes+48:]) {
		newer = pageSize
	}
	data[newer+headerBytes+metaSumBytes]++
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, path)
	defer s.Close()
	if dump(t, s) != before {
		t.Error("not the state of the commit before")
	}
}

// FuzzOpen: whatever the bytes, Open refuses in a sentence or opens a database
// that can be read and written through. It never panics and, refusing, never
// changes the file.
func FuzzOpen(f *testing.F) {
	sound := mustRead(f, filled(f))
	f.Add(uint32(0), []byte{0xff})
	f.Add(uint32(2*pageSize+8), []byte{1, 0})              // another kind of page
	f.Add(uint32(3*pageSize+10), []byte{0xff, 0xff})       // more elements than fit
	f.Add(uint32(4*pageSize+12), []byte{0xff, 0xff, 0xff}) // overflow beyond the file
	f.Add(uint32(4*pageSize+headerBytes+4), []byte{0xff, 0xff, 0xff, 0xff})
	f.Add(uint32(4*pageSize+headerBytes+8), []byte{48})                     // a page that was free
	f.Add(uint32(5*pageSize+headerBytes+8), []byte{2, 0, 0, 0, 0, 0, 0, 0}) // a page used twice
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		data := bytes.Clone(sound)
		copy(data[int(at)%len(data):], patch)
		if int(at)%len(data) < 2*pageSize { // make the heads pass their checksum
			fixSums(data)
		}
		path := filepath.Join(t.TempDir(), "gate.db")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(path, Options{})
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNewer) {
				t.Errorf("Open: %v", err)
			}
			if !bytes.Equal(mustRead(t, path), data) {
				t.Error("a refused file was changed")
			}
			return
		}
		defer s.Close()
		dump(t, s)
		put(t, s, "k", "1")
		err = s.Update(t.Context(), func(tx store.Txn) error {
			for i := range filledRecords {
				if err := tx.Delete(fmt.Sprintf("key %04d", i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Errorf("deleting everything: %v", err)
		}
	})
}

// filledRecords make a tree with a branch, and a few values longer than a page.
const filledRecords = 600

// filled returns the path of a sound, closed database with records in it.
func filled(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gate.db")
	s := mustOpen(t, path)
	defer s.Close()
	for range 2 { // the second time over pages that became free
		err := s.Update(t.Context(), func(tx store.Txn) error {
			for i := range filledRecords {
				size := 100
				if i%200 == 199 {
					size = 3 * pageSize
				}
				if err := tx.Put(fmt.Sprintf("key %04d", i), bytes.Repeat([]byte{'v'}, size)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// refused checks that Open fails with want, in one line, and leaves the file.
func refused(t *testing.T, path string, want error) {
	t.Helper()
	before := mustRead(t, path)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, Options{})
	if err == nil {
		s.Close()
	}
	if !errors.Is(err, want) || !strings.Contains(fmt.Sprint(err), path) || strings.Contains(fmt.Sprint(err), "\n") {
		t.Errorf("Open: %v, want one line with the path and %q", err, want)
	}
	after, statErr := os.Stat(path)
	if statErr != nil || !after.ModTime().Equal(info.ModTime()) || !bytes.Equal(mustRead(t, path), before) {
		t.Error("the refused file was changed")
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("the folder holds %v, want the database alone", left)
	}
}

// rawUpdate changes the file past the Store.
func rawUpdate(t *testing.T, path string, fn func(*bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{Timeout: lockWait, NoFreelistSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(fn), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func usedPages(t *testing.T, data []byte) int {
	t.Helper()
	m, err := (&checker{file: bytes.NewReader(data)}).liveMeta()
	if err != nil {
		t.Fatal(err)
	}
	return int(m.pages)
}

func fill(b []byte) {
	for i := range b {
		b[i] = byte(i*131 + 7)
	}
}

// fixSums gives both heads the checksum of what they hold.
func fixSums(data []byte) {
	for _, at := range []int{headerBytes, pageSize + headerBytes} {
		sum := metaSum(data[at:])
		order.PutUint64(data[at+metaSumBytes:], sum)
	}
}

package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// december is a month later than noon.
var december = noon.AddDate(0, 1, 0)

// Each month has its own file; the chain runs on across them, also over a
// restart in each, and an entry that comes late starts no file.
func TestNewMonthNewFile(t *testing.T) {
	dir := t.TempDir()
	v := newVault()
	months := []time.Time{noon, noon, december, noon, december, december.AddDate(0, 1, 0), december.AddDate(1, 0, 0)}
	for i, at := range months {
		l := mustOpenWith(t, dir, v)
		mustAppend(t, l, Entry{Event: fmt.Sprint("e", i), Time: at})
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// The restart after the late entry has forgotten December: one more file.
	for n, want := range []int{2, 2, 1, 1, 1} {
		if got := bytes.Count(mustRead(t, filePath(dir, n+1)), []byte("\n")); got != want {
			t.Errorf("file %d has %d lines, want %d", n+1, got, want)
		}
	}
	if lines := chain(t, dir); len(lines) != len(months) {
		t.Errorf("%d lines, want %d", len(lines), len(months))
	}
	l := mustOpenWith(t, dir, v)
	for n := range len(months) + 1 {
		entries, err := l.Search(t.Context(), Query{Last: n})
		if err != nil || len(entries) != n || n > 0 && entries[0].Seq != uint64(len(months)-n+1) {
			t.Errorf("the last %d: %v, %v", n, entries, err)
		}
	}
}

// One group of parallel entries over the end of a month: none is lost, and no
// file holds a later month's.
func TestParallelOverTheMonth(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	var all sync.WaitGroup
	const each = 200
	for i := range 8 {
		all.Go(func() {
			for n := range each {
				at := noon
				if n >= each/2 {
					at = december
				}
				mustAppend(t, l, Entry{Event: "verify", User: fmt.Sprintf("%d.%d", i, n), Time: at})
			}
		})
	}
	all.Wait()
	if lines := chain(t, dir); len(lines) != 8*each {
		t.Errorf("%d lines, want %d", len(lines), 8*each)
	}
	if bytes.Contains(mustRead(t, filePath(dir, 1)), []byte(`"time":"2026-12`)) {
		t.Error("the file of November has an entry of December")
	}
}

func TestFullFile(t *testing.T) {
	dir := t.TempDir()
	grow(t, dir, 1, MaxFileBytes)
	before := mustRead(t, filePath(dir, 1))
	v := newVault()
	l := mustOpenWith(t, dir, v)
	last := l.end.Load().seq
	mustAppend(t, l, Entry{Event: "next"})
	mustAppend(t, l, Entry{Event: "next"})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(mustRead(t, filePath(dir, 1)), before) {
		t.Error("the full file has changed")
	}
	if got := bytes.Count(mustRead(t, filePath(dir, 2)), []byte("next")); got != 2 {
		t.Errorf("%d entries in the new file, want 2", got)
	}
	report, err := Verify(t.Context(), dir, Check{Key: v.public(), Head: v.newest()})
	if err != nil || report.Last != last+2 || report.Files != 2 || report.Signed != last+2 {
		t.Errorf("Verify: %+v, %v", report, err)
	}
	// The end of a file is signed for, so that it can be put away.
	if !strings.Contains(string(mustRead(t, filepath.Join(dir, headsName))), fmt.Sprintf(`"seq":%d,`, last)) {
		t.Error("no head at the end of the full file")
	}
}

// A kill at any moment of a rotation or in the first group of the new file.
func TestKillAtRotation(t *testing.T) {
	dir := t.TempDir()
	v := newVault()
	l := mustOpenWith(t, dir, v)
	mustAppend(t, l, Entry{Event: "old"})
	mustAppend(t, l, Entry{Event: "new", Time: december})
	l.Close()
	whole := mustRead(t, filePath(dir, 2))
	for _, left := range []int{0, 1, len(whole) - 1, len(whole)} {
		mustWrite(t, filePath(dir, 2), whole[:left])
		lost := newVault() // the head was to be saved later
		l := mustOpenWith(t, dir, lost)
		if entries, err := l.Search(t.Context(), Query{Last: 10}); err != nil || len(entries) != 1+left/len(whole) {
			t.Errorf("%d bytes left: %d entries, %v", left, len(entries), err)
		}
		mustAppend(t, l, Entry{Event: "after", Time: december})
		if lines := chain(t, dir); !strings.Contains(lines[len(lines)-1], "after") {
			t.Errorf("%d bytes left: the log ends with %s", left, lines[len(lines)-1])
		}
		l.Close()
	}
}

func TestOldFileTorn(t *testing.T) {
	dir := t.TempDir()
	mustAppend(t, mustOpen(t, dir), Entry{Event: "old"})
	whole := mustRead(t, filePath(dir, 1))
	other := t.TempDir()
	mustWrite(t, filePath(other, 1), whole[:len(whole)-1])
	mustWrite(t, filePath(other, 2), nil)
	if _, err := Open(other, newVault().options()); !errors.Is(err, ErrDamaged) {
		t.Errorf("Open: %v, want ErrDamaged", err)
	}
}

func TestMissingFile(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	for i := range 3 {
		mustAppend(t, l, Entry{Event: "one", Time: noon.AddDate(0, i, 0)})
	}
	l.Close()
	if err := os.Remove(filePath(dir, 2)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, newVault().options()); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), filePath(dir, 2)+" is missing") {
		t.Errorf("Open: %v", err)
	}
	if err := os.Remove(filePath(dir, 1)); err != nil { // put away
		t.Fatal(err)
	}
	l = mustOpen(t, dir)
	mustAppend(t, l, Entry{Event: "four"})
	if entries, err := l.Search(t.Context(), Query{Last: 10}); err != nil || len(entries) != 2 || entries[1].Seq != 4 {
		t.Errorf("Search: %v, %v", entries, err)
	}
}

// A file that stops rotation breaks the log, and nothing is written over it.
func TestRotationFails(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	mustAppend(t, l, Entry{Event: "one"})
	mustWrite(t, filePath(dir, 2), []byte("someone's"))
	if err := l.Append(t.Context(), Entry{Event: "two", Time: december}); !errors.Is(err, ErrBroken) {
		t.Errorf("Append: %v, want ErrBroken", err)
	}
	if err := l.Append(t.Context(), Entry{Event: "three"}); !errors.Is(err, ErrBroken) {
		t.Errorf("Append: %v, want ErrBroken", err)
	}
	if got := string(mustRead(t, filePath(dir, 2))); got != "someone's" {
		t.Errorf("file 2 is now %q", got)
	}
}

// The first entry has its head at once, later ones within the interval, all at
// Close; a log that rests isn't signed again.
func TestHeadsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		v := newVault()
		l, err := Open(dir, v.options())
		if err != nil {
			t.Fatal(err)
		}
		heads := func() int { return bytes.Count(mustRead(t, filepath.Join(dir, headsName)), []byte("\n")) }
		expect := func(seq uint64, lines int) {
			t.Helper()
			synctest.Wait()
			if h := v.newest(); h.Seq != seq || l.Head().Seq != seq || heads() != lines {
				t.Errorf("head of %d, saved %d, %d lines; want %d, %d", l.Head().Seq, h.Seq, heads(), seq, lines)
			}
		}
		mustAppend(t, l, Entry{Event: "one"})
		expect(1, 1)
		mustAppend(t, l, Entry{Event: "two"})
		time.Sleep(headInterval / 2)
		mustAppend(t, l, Entry{Event: "three"})
		expect(1, 1)
		time.Sleep(headInterval / 2)
		expect(3, 2)
		time.Sleep(100 * headInterval)
		expect(3, 2)
		mustAppend(t, l, Entry{Event: "four"})
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		expect(4, 3)
		if h := v.newest(); !h.SignedBy(v.public()) || h.Hash != l.end.Load().hash {
			t.Errorf("the head %+v isn't the log's", h)
		}
		l, err = Open(dir, v.options())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * headInterval)
		l.Close()
		expect(4, 3)
	})
}

// Under load a head doesn't wait for the interval.
func TestHeadsUnderLoad(t *testing.T) {
	dir := t.TempDir()
	v := newVault()
	l := mustOpenWith(t, dir, v)
	mustAppend(t, l, Entry{Event: "first"})
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			for range headEntries/200 + 1 {
				mustAppend(t, l, Entry{Event: "verify"})
			}
		})
	}
	all.Wait()
	for deadline := time.Now().Add(headInterval / 3); v.newest().Seq < headEntries/2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the newest head is of entry %d", v.newest().Seq)
		}
	}
}

// Where no head can be kept, nothing more is accepted.
func TestHeadThatCannotBeKept(t *testing.T) {
	dir := t.TempDir()
	o := newVault().options()
	full := errors.New("no space")
	o.Save = func(context.Context, Head) error { return full }
	l, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, Entry{Event: "one"})
	l.Close()
	if err := l.Err(); !errors.Is(err, ErrBroken) || !errors.Is(err, full) {
		t.Errorf("Err: %v, want ErrBroken and why", err)
	}
	if h := l.Head(); h.Seq != 0 {
		t.Errorf("Head: %+v, though it wasn't saved", h)
	}
}

// What was signed and saved must be there at the next start.
func TestOpenFindsWhatIsGone(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, dir string){
		"end cut off with its heads": func(t *testing.T, dir string) {
			cutLines(t, filePath(dir, 2), 1)
			cutLines(t, filepath.Join(dir, headsName), 1)
		},
		"last file removed": func(t *testing.T, dir string) { mustRemove(t, filePath(dir, 2)) },
		"all removed":       func(t *testing.T, dir string) { mustRemove(t, dir) },
		"last entry changed": func(t *testing.T, dir string) {
			replaceIn(t, filePath(dir, 2), "five", "FIVE")
		},
		"another, with the chain made to fit": func(t *testing.T, dir string) {
			replaceIn(t, filePath(dir, 2), "four", "FOUR")
			rechain(t, dir)
		},
		"an unsigned entry changed": func(t *testing.T, dir string) {
			l := mustOpen(t, dir)
			mustAppend(t, l, Entry{Event: "six", Time: december})
			mustAppend(t, l, Entry{Event: "seven", Time: december})
			l.Close()
			replaceIn(t, filePath(dir, 2), "six", "SIX")
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "audit")
			v := fill(t, dir)
			harm(t, dir)
			if _, err := Open(dir, v.options()); !errors.Is(err, ErrTampered) {
				t.Errorf("Open: %v, want ErrTampered", err)
			}
		})
	}
}

// The head may be behind the log, as a kill leaves it; heads go on from there.
func TestOpenWithAnOlderHead(t *testing.T) {
	dir := t.TempDir()
	v := fill(t, dir)
	h, err := decodeHead(lines(mustRead(t, filepath.Join(dir, headsName)))[0])
	if err != nil {
		t.Fatal(err)
	}
	v.head = h
	cutLines(t, filepath.Join(dir, headsName), 2)
	mustOpenWith(t, dir, v).Close()
	if got := v.newest().Seq; got != 5 {
		t.Errorf("the newest head is of entry %d, want 5", got)
	}
	if _, err := Verify(t.Context(), dir, Check{Head: v.newest()}); err != nil {
		t.Errorf("Verify: %v", err)
	}
}

func TestOtherKey(t *testing.T) {
	dir := t.TempDir()
	mustOpen(t, dir).Close()
	before := mustRead(t, filepath.Join(dir, keyName))
	v := newVault()
	v.key = newKey(8)
	if _, err := Open(dir, v.options()); !errors.Is(err, ErrOtherKey) {
		t.Errorf("Open: %v, want ErrOtherKey", err)
	}
	if !bytes.Equal(before, mustRead(t, filepath.Join(dir, keyName))) {
		t.Error("audit.pub was written over")
	}
	mustWrite(t, filepath.Join(dir, keyName), []byte("garbage"))
	if _, err := Open(dir, newVault().options()); !errors.Is(err, ErrNoKey) {
		t.Errorf("Open: %v, want ErrNoKey", err)
	}
}

// A log of the first version goes on as it is, and is signed from then on.
func TestFirstVersion(t *testing.T) {
	dir := t.TempDir()
	old := mustRead(t, filepath.FromSlash("../../cmd/otpgate/testdata/schema1/audit-000001.jsonl"))
	mustWrite(t, filePath(dir, 1), old)
	v := newVault()
	l := mustOpenWith(t, dir, v)
	mustAppend(t, l, Entry{Event: "now", Time: time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC)})
	l.Close()
	if !bytes.HasPrefix(mustRead(t, filePath(dir, 1)), old) {
		t.Error("the old lines have changed")
	}
	report, err := Verify(t.Context(), dir, Check{Head: v.newest()})
	if want := uint64(bytes.Count(old, []byte("\n")) + 1); err != nil || report.Signed != want || report.Files != 1 {
		t.Errorf("Verify: %+v, %v; want %d entries", report, err, want)
	}
}

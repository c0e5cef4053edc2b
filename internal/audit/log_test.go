package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 11, 2, 12, 0, 0, 0, time.FixedZone("JST", 9*3600))

func TestAppend(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "audit")
	l := mustOpen(t, dir)
	for i := range 3 {
		e := Entry{Seq: 77, Prev: "x", Event: "verify", User: fmt.Sprint("u", i), Outcome: "wrong"}
		if i == 2 {
			e.Time = noon.Add(time.Hour)
		}
		mustAppend(t, l, e)
	}
	lines := chain(t, dir)
	if len(lines) != 3 {
		t.Fatalf("%d lines, want 3", len(lines))
	}
	want := `{"seq":1,"prev":"","time":"2026-11-02T03:00:00Z","event":"verify","outcome":"wrong","user":"u0"}`
	if lines[0] != want {
		t.Errorf("the first line is\n%s\nwant\n%s", lines[0], want)
	}
	if !strings.Contains(lines[2], `"time":"2026-11-02T04:00:00Z"`) {
		t.Errorf("the entry's own time isn't in %s", lines[2])
	}
	for path, mode := range map[string]fs.FileMode{dir: fs.ModeDir | 0o700, filePath(dir, 1): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s: mode %v, %v; want %v", path, info.Mode(), err, mode)
		}
	}
}

// Every answered entry is in the file, once, in one unbroken chain, also over a
// restart.
func TestParallelAppend(t *testing.T) {
	dir := t.TempDir()
	const callers, each = 32, 25
	for range 2 {
		l := mustOpen(t, dir)
		var all sync.WaitGroup
		for i := range callers {
			all.Go(func() {
				for n := range each {
					mustAppend(t, l, Entry{Event: "verify", User: fmt.Sprintf("%d.%d", i, n)})
				}
			})
		}
		all.Wait()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	lines := chain(t, dir)
	if len(lines) != 2*callers*each {
		t.Errorf("%d lines, want %d", len(lines), 2*callers*each)
	}
	for i := range callers {
		for n := range each {
			if user := fmt.Sprintf(`"user":"%d.%d"}`, i, n); strings.Count(strings.Join(lines, "\n"), user) != 2 {
				t.Errorf("%s isn't there once for each run", user)
			}
		}
	}
}

// What strangers choose can't grow without bound, start a line, or pass for a
// whole name when it isn't.
func TestHostileStrings(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	hostile := map[string]string{
		"newline":     "a\n{\"seq\":9}",
		"terminal":    "\x1b[2J\x00\u2028",
		"not UTF-8":   "a\xff\xfeb",
		"huge":        strings.Repeat("あ", 100_000),
		"huge binary": strings.Repeat("\x80", 100_000),
		"huge quotes": strings.Repeat("\x01", 100_000),
	}
	for _, s := range hostile {
		mustAppend(t, l, Entry{Event: s, Outcome: s, Realm: s, User: s, Serial: s, Door: s, Client: s, From: s, Receipt: s, Form: s, Detail: s})
	}
	lines := chain(t, dir)
	if len(lines) != len(hostile) {
		t.Fatalf("%d lines, want %d", len(lines), len(hostile))
	}
	for _, line := range lines {
		if len(line) > maxLineBytes || !utf8.ValidString(line) || strings.ContainsAny(line, "\x00\x01\x1b\r") {
			t.Errorf("a line of %d bytes: %.200q", len(line), line)
		}
	}
	entries, err := l.Search(t.Context(), Query{Last: len(hostile)})
	if err != nil || len(entries) != len(hostile) {
		t.Errorf("Search: %d entries, %v", len(entries), err)
	}
}

func TestCut(t *testing.T) {
	for in, want := range map[string]string{
		"":                    "",
		"12345678":            "12345678",
		"123456789":           "12345678…(1 bytes more)",
		"ああい":                 "ああ…(3 bytes more)",
		"12345あい":             "12345あ…(3 bytes more)",
		"1234567あ":            "1234567…(3 bytes more)",
		"1234567\x80\x80\x80": "123456…(4 bytes more)",
	} {
		if got := cut(in, 8); got != want {
			t.Errorf("cut(%q) = %q, want %q", in, got, want)
		}
	}
}

// A kill in the middle of a write: the half line was never answered and goes,
// the chain goes on from the last whole one.
func TestTornLastLine(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	mustAppend(t, l, Entry{Event: "one"})
	mustAppend(t, l, Entry{Event: "two"})
	l.Close()
	path := filePath(dir, 1)
	whole := mustRead(t, path)
	firstEnd := bytes.IndexByte(whole, '\n') + 1
	for _, length := range []int{1, firstEnd - 1, firstEnd, firstEnd + 1, len(whole) - 1} {
		mustWrite(t, path, whole[:length])
		l := mustOpen(t, dir)
		mustAppend(t, l, Entry{Event: "after"})
		l.Close()
		want := 1
		if length >= firstEnd {
			want = 2
		}
		if lines := chain(t, dir); len(lines) != want || !strings.Contains(lines[want-1], "after") {
			t.Errorf("cut to %d bytes: the log is now %q", length, lines)
		}
	}
	// Space that a power cut left without content is no line either.
	mustWrite(t, path, append(bytes.Clone(whole), make([]byte, maxGroupBytes)...))
	l = mustOpen(t, dir)
	defer l.Close()
	mustAppend(t, l, Entry{Event: "after"})
	if lines := chain(t, dir); len(lines) != 3 {
		t.Errorf("%d lines, want 3", len(lines))
	}
}

func TestDamagedLastLine(t *testing.T) {
	good := `{"seq":1,"prev":"","time":"2026-11-02T03:00:00Z","event":"one"}` + "\n"
	for name, content := range map[string]string{
		"text":        good + "hello\n",
		"empty line":  good + "\n",
		"other JSON":  good + "{}\n",
		"cut in line": good + good[10:],
		"no prev":     good + strings.Replace(good, `"seq":1`, `"seq":2`, 1),
		"no newline":  strings.Repeat("x", tailBytes+1),
		"long line":   strings.Repeat("x", tailBytes+1) + "\n",
		"zeros":       good + strings.Repeat("\x00", tailBytes+1),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filePath(dir, 1)
			mustWrite(t, path, []byte(content))
			_, err := Open(dir, newVault().options())
			if !errors.Is(err, ErrDamaged) || !strings.Contains(fmt.Sprint(err), path) {
				t.Errorf("Open: %v, want ErrDamaged and the file's name", err)
			}
			if string(mustRead(t, path)) != content {
				t.Error("the refused file was changed")
			}
		})
	}
}

func TestInUse(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	if _, err := Open(dir, newVault().options()); !errors.Is(err, ErrInUse) {
		t.Errorf("a second Open: %v, want ErrInUse", err)
	}
	mustAppend(t, l, Entry{Event: "one"})
}

// After a failed write nothing more is appended, and everybody learns it.
func TestFailedWriteStopsTheLog(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	mustAppend(t, l, Entry{Event: "one"})
	if err := l.Err(); err != nil {
		t.Errorf("Err of a sound log: %v", err)
	}
	readOnly, err := os.Open(filePath(dir, 1))
	if err != nil {
		t.Fatal(err)
	}
	defer l.file.Close()
	l.file = readOnly // the disk says no; closed with the log
	errs := make([]error, 20)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { errs[i] = l.Append(t.Context(), Entry{Event: "two"}) })
	}
	all.Wait()
	for _, err := range append(errs, l.Append(t.Context(), Entry{Event: "three"}), l.Err()) {
		if !errors.Is(err, ErrBroken) {
			t.Errorf("got %v, want ErrBroken", err)
		}
	}
	if lines := chain(t, dir); len(lines) != 1 {
		t.Errorf("%d lines, want the one before", len(lines))
	}
	if entries, err := l.Search(t.Context(), Query{Last: 10}); err != nil || len(entries) != 1 {
		t.Errorf("Search: %d entries, %v", len(entries), err)
	}
}

// One entry that can't be written as JSON harms no other.
func TestImpossibleEntry(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	mustAppend(t, l, Entry{Event: "one"})
	if err := l.Append(t.Context(), Entry{Event: "two", Time: time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC)}); err == nil {
		t.Error("an entry of the year 20000 was appended")
	}
	mustAppend(t, l, Entry{Event: "three"})
	if lines := chain(t, dir); len(lines) != 2 {
		t.Errorf("%d lines, want 2", len(lines))
	}
}

// A Close under load lets nobody hang; what was answered is there, and what
// wasn't says so.
func TestClose(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	const callers = 16
	var answered [callers]int
	var all sync.WaitGroup
	running := make(chan struct{}, callers)
	for i := range callers {
		all.Go(func() {
			for {
				err := l.Append(t.Context(), Entry{Event: "verify", User: fmt.Sprint(i)})
				if err != nil {
					if !errors.Is(err, ErrClosed) {
						t.Errorf("Append: %v, want ErrClosed", err)
					}
					return
				}
				if answered[i]++; answered[i] == 2 {
					running <- struct{}{}
				}
			}
		})
	}
	for range callers {
		<-running
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	all.Wait()
	text := strings.Join(chain(t, dir), "\n")
	for i, n := range answered {
		if got := strings.Count(text, fmt.Sprintf(`"user":"%d"}`, i)); got < n || got > n+1 {
			t.Errorf("caller %d: %d answered, %d in the file", i, n, got)
		}
	}
}

// What waits in the queue at Close has happened already, so it is written.
func TestCloseEmptiesTheQueue(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	close(l.closing)
	<-l.stopped // now the queue can be filled before a writer sees it
	<-l.signed
	l.stopped = make(chan struct{})
	var queued []*pending
	for range 2 * maxGroup / 3 {
		p := &pending{entry: Entry{Event: "verify", Time: noon}, done: make(chan error, 1)}
		queued = append(queued, p)
		l.queue <- p
	}
	l.writeAll()
	l.close.Do(func() { _ = errors.Join(l.file.Close(), l.heads.Close()) })
	for _, p := range queued {
		select {
		case err := <-p.done:
			if err != nil {
				t.Fatalf("Append: %v", err)
			}
		default:
			t.Fatal("an entry was forgotten")
		}
	}
	if lines := chain(t, dir); len(lines) != len(queued) {
		t.Errorf("%d lines, want %d", len(lines), len(queued))
	}
}

// A caller who has gone doesn't take the record of what happened with him.
func TestContextOverStillAppends(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 {
		if err := l.Append(over, Entry{Event: "verify"}); err != nil {
			t.Fatalf("Append: %v", err)
		}
	}
	if lines := chain(t, dir); len(lines) != 50 {
		t.Errorf("%d lines, want 50", len(lines))
	}
}

func TestSearch(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	if entries, err := l.Search(t.Context(), Query{Last: 5}); err != nil || len(entries) != 0 {
		t.Errorf("of an empty log: %v, %v", entries, err)
	}
	const total = 400 // over several blocks, with lines across their borders
	var all sync.WaitGroup
	for range total {
		all.Go(func() { mustAppend(t, l, Entry{Event: "verify", Detail: strings.Repeat("x", maxDetailBytes)}) })
	}
	all.Wait()
	for _, n := range []int{-1, 0, 1, 2, 55, 56, 57, 58, total - 1, total, total + 1, MaxLast + 1} {
		entries, err := l.Search(t.Context(), Query{Last: n})
		if want := max(0, min(n, total)); err != nil || len(entries) != want {
			t.Fatalf("Search(%d): %d entries, %v", n, len(entries), err)
		}
		for i, e := range entries {
			if want := uint64(total - len(entries) + i + 1); e.Seq != want {
				t.Fatalf("Search(%d): entry %d has seq %d, want %d", n, i, e.Seq, want)
			}
		}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Search(over, Query{Last: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("Search: %v, want context.Canceled", err)
	}
}

func TestSearchOfADamagedLog(t *testing.T) {
	good := func(seq int, prev string) string {
		return fmt.Sprintf(`{"seq":%d,"prev":"%s","time":"2026-11-02T03:00:00Z","event":"one"}`+"\n", seq, prev)
	}
	hash := strings.Repeat("ab", sha256.Size)
	for name, middle := range map[string]string{
		"text": "hello\n", "a long line": strings.Repeat("x", 3*blockBytes) + "\n", "zeros": strings.Repeat("\x00", 3*blockBytes) + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			mustWrite(t, filePath(dir, 1), []byte(good(1, "")+middle+good(3, hash)))
			l := mustOpen(t, dir)
			if entries, err := l.Search(t.Context(), Query{Last: 1}); err != nil || len(entries) != 1 || entries[0].Seq != 3 {
				t.Errorf("the line after the damage: %v, %v", entries, err)
			}
			if _, err := l.Search(t.Context(), Query{Last: 2}); !errors.Is(err, ErrDamaged) {
				t.Errorf("the damaged line: %v, want ErrDamaged", err)
			}
		})
	}
}

// FuzzOpen: whatever stands in the file, Open refuses it untouched or cuts a
// line without its end, and an entry can be appended and read.
func FuzzOpen(f *testing.F) {
	good := `{"seq":1,"prev":"","time":"2026-11-02T03:00:00Z","event":"one"}` + "\n"
	f.Add([]byte(good))
	f.Add([]byte(good + good))
	f.Add([]byte(good + `{"seq":`))
	f.Add([]byte("\n"))
	f.Add([]byte("{}\n\x00\x00"))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		path := filePath(dir, 1)
		mustWrite(t, path, content)
		l, err := Open(dir, newVault().options())
		if err != nil {
			if !errors.Is(err, ErrDamaged) || !bytes.Equal(mustRead(t, path), content) {
				t.Errorf("Open: %v; the file is now %q", err, mustRead(t, path))
			}
			return
		}
		defer l.Close()
		kept := mustRead(t, path)
		if !bytes.HasPrefix(content, kept) || bytes.IndexByte(content[len(kept):], '\n') >= 0 {
			t.Errorf("%q was cut to %q", content, kept)
		}
		mustAppend(t, l, Entry{Event: "after"})
		if entries, err := l.Search(t.Context(), Query{Last: 1}); err != nil || len(entries) != 1 || entries[0].Event != "after" {
			t.Errorf("Search: %v, %v", entries, err)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			l := mustOpen(b, b.TempDir())
			e := Entry{
				Event: "verify", Outcome: "accepted", Realm: "staff", User: "tanaka.hanako", Serial: "OG-00012345",
				Door: "radius", Client: "vpn", From: "192.0.2.17",
			}
			turns := make(chan struct{})
			var all sync.WaitGroup
			for range callers {
				all.Go(func() {
					for range turns {
						mustAppend(b, l, e)
					}
				})
			}
			for b.Loop() {
				turns <- struct{}{}
			}
			close(turns)
			all.Wait()
		})
	}
}

// chain returns the log's lines, of all its files, after following their hashes
// from the first.
func chain(t *testing.T, dir string) []string {
	t.Helper()
	numbers, err := listFiles(dir)
	if err != nil || missingFile(numbers) != 0 {
		t.Fatalf("files %v, %v", numbers, err)
	}
	var lines []string
	for _, n := range numbers {
		text := string(mustRead(t, filePath(dir, n)))
		if text == "" && n == numbers[len(numbers)-1] {
			break // new
		}
		text, ok := strings.CutSuffix(text, "\n")
		if !ok {
			t.Fatalf("file %d doesn't end with a newline", n)
		}
		lines = append(lines, strings.Split(text, "\n")...)
	}
	prev := ""
	for i, line := range lines {
		var got struct {
			Seq  int
			Prev string
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		if diff := cmp.Diff([]any{i + 1, prev}, []any{got.Seq, got.Prev}); diff != "" {
			t.Fatalf("line %d (-want +got):\n%s", i+1, diff)
		}
		prev = fmt.Sprintf("%x", sha256.Sum256([]byte(line)))
	}
	return lines
}

// vault keeps what a log's owner keeps: the key, and the newest head.
type vault struct {
	key  ed25519.PrivateKey
	mu   sync.Mutex
	head Head // under mu
}

// newVault's key is always the same: a log may be opened again with another
// vault that has lost the head.
func newVault() *vault {
	return &vault{key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))}
}

func (v *vault) save(_ context.Context, h Head) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.head = h
	return nil
}

func (v *vault) newest() Head {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.head
}

func (v *vault) options() Options {
	return Options{Now: func() time.Time { return noon }, Key: v.key, Saved: v.newest(), Save: v.save}
}

func (v *vault) public() ed25519.PublicKey { return v.key.Public().(ed25519.PublicKey) }

func mustOpen(t testing.TB, dir string) *Log { return mustOpenWith(t, dir, newVault()) }

func mustOpenWith(t testing.TB, dir string, v *vault) *Log {
	t.Helper()
	l, err := Open(dir, v.options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func mustAppend(t testing.TB, l *Log, e Entry) {
	t.Helper()
	if err := l.Append(t.Context(), e); err != nil {
		t.Errorf("Append: %v", err)
	}
}

func mustRead(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func mustWrite(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

package audit

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestSearchFor(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	for i := range 60 {
		mustAppend(t, l, Entry{
			Event: "verify", Realm: []string{"staff", "retail"}[i%2], User: []string{"taro", `ta"ro`, "tarotaro"}[i%3],
			Serial: fmt.Sprint("T", i%5), Receipt: fmt.Sprint(1000 + i), Detail: `"user":"taro"`, Time: noon.AddDate(0, i/20, 0),
		})
	}
	for _, c := range []struct {
		q    Query
		want []uint64
	}{
		{Query{User: "taro", Last: 2}, []uint64{55, 58}},
		{Query{User: `ta"ro`, Realm: "staff", Last: 2}, []uint64{53, 59}},
		{Query{User: "tarot", Last: 2}, nil},
		{Query{User: "taro", Realm: "nowhere", Last: 2}, nil},
		{Query{Receipt: "1007", Last: 10}, []uint64{8}},
		{Query{Receipt: "1007", Last: 10, Within: 53}, []uint64{8}},
		{Query{Receipt: "1007", Last: 10, Within: 52}, nil},
		{Query{Serial: "T0", User: "taro", Last: 10}, []uint64{1, 16, 31, 46}},
		{Query{Receipt: "1007", Last: 10, Except: "verify"}, nil},
		{Query{Receipt: "1007", Last: 10, Except: "token.create"}, []uint64{8}},
	} {
		entries, err := l.Search(t.Context(), c.q)
		var got []uint64
		for _, e := range entries {
			got = append(got, e.Seq)
		}
		if err != nil || fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%+v: %v, %v; want %v", c.q, got, err, c.want)
		}
	}
	// A name that was cut is found by what was asked for.
	long := strings.Repeat("あ", 1000)
	mustAppend(t, l, Entry{Event: "verify", User: long})
	if entries, err := l.Search(t.Context(), Query{User: long, Last: 1}); err != nil || len(entries) != 1 {
		t.Errorf("a long name: %v, %v", entries, err)
	}
}

func TestRange(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	for i := range 12 {
		at := noon.AddDate(0, i/3, i%3)
		if i == 7 {
			at = at.Add(-time.Minute) // late for its place
		}
		mustAppend(t, l, Entry{Event: "verify", Time: at})
	}
	read := func(since, until time.Time) (got []uint64, err error) {
		err = l.Range(t.Context(), since, until, func(e Entry) error { got = append(got, e.Seq); return nil })
		return got, err
	}
	for _, c := range []struct {
		since, until time.Time
		want         string
	}{
		{time.Time{}, time.Time{}, "[1 2 3 4 5 6 7 8 9 10 11 12]"},
		{noon.AddDate(0, 1, 0), time.Time{}, "[4 5 6 7 8 9 10 11 12]"},
		{noon.AddDate(0, 1, 0).Add(1), time.Time{}, "[5 6 7 8 9 10 11 12]"},
		{noon.AddDate(0, 1, 1), noon.AddDate(0, 2, 1), "[5 6 7 8]"},
		{noon.AddDate(0, 2, 1), noon.AddDate(0, 3, 0), "[9]"},
		{noon.AddDate(1, 0, 0), time.Time{}, "[]"},
		{noon, noon, "[]"},
	} {
		if got, err := read(c.since, c.until); err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("from %v to %v: %v, %v; want %s", c.since, c.until, got, err, c.want)
		}
	}
	enough := errors.New("enough")
	if err := l.Range(t.Context(), time.Time{}, time.Time{}, func(Entry) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("Range: %v, want the function's error", err)
	}
	replaceIn(t, filePath(dir, 2), `"seq":5`, `"seq":x`)
	if got, err := read(time.Time{}, time.Time{}); !errors.Is(err, ErrDamaged) || len(got) != 4 {
		t.Errorf("over a damaged line: %v, %v", got, err)
	}
}

// Entries that were written while our clock was wrong hide none that were written
// while it was right, before or after them.
func TestRangeOverAWrongClock(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	write := func(times ...time.Time) {
		for _, at := range times {
			mustAppend(t, l, Entry{Event: "verify", Time: at})
		}
	}
	write(noon, noon.AddDate(10, 0, 0), noon.Add(time.Minute))                      // two files: a later month begins one
	write(noon.AddDate(10, 1, 0), noon.AddDate(-40, 0, 0), noon.Add(2*time.Minute)) // and another
	for _, c := range []struct {
		since, until time.Time
		want         string
	}{
		{noon.Add(-time.Hour), noon.AddDate(0, 0, 1), "[1 3 6]"},
		{noon.Add(-time.Hour), time.Time{}, "[1 2 3 4 6]"},
		{noon.AddDate(9, 0, 0), time.Time{}, "[2 4]"},
		{noon.Add(time.Minute), noon.Add(2 * time.Minute), "[3]"},
	} {
		var got []uint64
		err := l.Range(t.Context(), c.since, c.until, func(e Entry) error { got = append(got, e.Seq); return nil })
		if err != nil || fmt.Sprint(got) != c.want {
			t.Errorf("from %v to %v: %v, %v; want %s", c.since, c.until, got, err, c.want)
		}
	}
}

// A file that begins while our clock is behind isn't taken for an old one.
func TestRangeFindsTheFileUnderAWrongClock(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	for month := range 3 {
		mustAppend(t, l, Entry{Event: "verify", Time: noon.AddDate(0, month, 0)})
		mustAppend(t, l, Entry{Event: "verify", Time: noon.AddDate(0, month, 0).Add(time.Minute)})
	}
	// The third file is made to begin in 1986; reading doesn't look at the chain.
	replaceIn(t, filePath(dir, 3), noon.AddDate(0, 2, 0).UTC().Format(time.RFC3339), noon.AddDate(-40, 0, 0).UTC().Format(time.RFC3339))
	var got []uint64
	err := l.Range(t.Context(), noon.AddDate(0, 1, 0), time.Time{}, func(e Entry) error { got = append(got, e.Seq); return nil })
	if err != nil || fmt.Sprint(got) != "[3 4 6]" {
		t.Errorf("%v, %v", got, err)
	}
}

// An export of many megabytes takes no more memory than one of one.
func TestRangeIsFlat(t *testing.T) {
	dir := t.TempDir()
	for n := range 3 {
		grow(t, dir, n+1, MaxFileBytes/8)
	}
	l := mustOpen(t, dir)
	var m runtime.MemStats
	heap := func() uint64 {
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, most, n := heap(), uint64(0), 0
	err := l.Range(t.Context(), time.Time{}, time.Time{}, func(Entry) error {
		if n++; n%5_000 == 0 {
			most = max(most, heap())
		}
		return nil
	})
	if err != nil || uint64(n) != l.end.Load().seq {
		t.Fatalf("%d of %d entries, %v", n, l.end.Load().seq, err)
	}
	if most > before+1<<20 {
		t.Errorf("the heap grew by %d KiB", (most-before)>>10)
	}
}

// A follower sees every entry once, in order, from the last ones on, over the
// ends of files, until the log is closed.
func TestFollow(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	for range 5 {
		mustAppend(t, l, Entry{Event: "before"})
	}
	const total = 5 + 4*100
	var followers, writers sync.WaitGroup
	begun := make(chan struct{}, 3)
	for range cap(begun) {
		followers.Go(func() {
			next := uint64(4)
			err := l.Follow(t.Context(), Query{Last: 2}, func(e Entry) error {
				if e.Seq != next {
					t.Errorf("entry %d, want %d", e.Seq, next)
				}
				if next++; next == 6 {
					begun <- struct{}{}
				}
				return nil
			})
			if err != nil || next != total+1 {
				t.Errorf("Follow: %v after entry %d, want nil after %d", err, next-1, total)
			}
		})
	}
	for range cap(begun) {
		<-begun
	}
	for range 4 {
		writers.Go(func() {
			for n := range 100 {
				mustAppend(t, l, Entry{Event: "verify", Time: noon.AddDate(0, n/25, 0)})
			}
		})
	}
	writers.Wait()
	l.Close()
	followers.Wait()
}

func TestFollowEnds(t *testing.T) {
	l := mustOpen(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	seen := make(chan string, 10)
	go func() {
		done <- l.Follow(ctx, Query{User: "taro", Last: 0}, func(e Entry) error { seen <- e.User; return nil })
	}()
	for len(seen) == 0 { // until the follower is there
		mustAppend(t, l, Entry{Event: "verify", User: "jiro"})
		mustAppend(t, l, Entry{Event: "verify", User: "taro"})
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Follow: %v, want context.Canceled", err)
	}
	close(seen)
	for user := range seen {
		if user != "taro" {
			t.Errorf("saw %s", user)
		}
	}
}

func BenchmarkSearch(b *testing.B) {
	dir := b.TempDir()
	grow(b, dir, 1, MaxFileBytes)
	l := mustOpen(b, dir)
	b.SetBytes(MaxFileBytes)
	for b.Loop() {
		if _, err := l.Search(b.Context(), Query{User: "nobody", Last: 1}); err != nil {
			b.Fatal(err)
		}
	}
}

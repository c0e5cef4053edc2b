package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"
)

const (
	// MaxLast is the most entries that Search returns: a screenful many times
	// over, and some megabytes of memory.
	MaxLast = 10_000
	// clockSlack is how far entries may lie out of the order of their times: they
	// are timed before they queue, and clocks are put back a little.
	clockSlack = time.Hour
)

// Query says which entries are wanted. An empty field matches any value.
type Query struct {
	Realm, User, Serial, Receipt string
	// Except is an event that isn't wanted.
	Except string

	// Last is how many are wanted, the newest; at most MaxLast.
	Last int
	// Within is how many of the newest entries are looked at; 0 for all.
	Within int
}

// Search returns the last entries that match q and are on disk, the newest last.
// ErrDamaged for a line that can't be read. It reads backwards, and decodes only
// what may match: some million entries a second.
func (l *Log) Search(ctx context.Context, q Query) ([]Entry, error) {
	return l.search(ctx, q, l.end.Load())
}

func (l *Log) search(ctx context.Context, q Query, from *end) ([]Entry, error) {
	want, err := q.needles()
	if err != nil {
		return nil, err
	}
	lines := l.backwards(from)
	defer lines.close()
	var found []Entry
	for seen := 1; len(found) < min(q.Last, MaxLast) && (q.Within == 0 || seen <= q.Within); seen++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		line, err := lines.next()
		if errors.Is(err, io.EOF) {
			break
		}
		var e Entry
		if err == nil && want.in(line) {
			if e, err = decode(line); err == nil && q.Matches(e) {
				found = append(found, e)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("audit log %s, %d lines from the log's end: %w", lines.path(), seen, err)
		}
	}
	slices.Reverse(found)
	return found, nil
}

// Matches reports whether e is of the realm, user, serial and receipt in q.
func (q Query) Matches(e Entry) bool {
	is := func(want, got string) bool { return want == "" || cut(want, maxFieldBytes) == got }
	return is(q.Realm, e.Realm) && is(q.User, e.User) && is(q.Serial, e.Serial) && is(q.Receipt, e.Receipt) &&
		(q.Except == "" || e.Event != q.Except)
}

// needles are what the line of every matching entry contains.
type needles [][]byte

func (q Query) needles() (needles, error) {
	var all needles
	for name, value := range map[string]string{"realm": q.Realm, "user": q.User, "serial": q.Serial, "receipt": q.Receipt} {
		if value == "" {
			continue
		}
		text, err := json.Marshal(map[string]string{name: cut(value, maxFieldBytes)})
		if err != nil {
			return nil, err
		}
		all = append(all, text[1:len(text)-1]) // without its braces
	}
	return all, nil
}

func (n needles) in(line []byte) bool {
	return !slices.ContainsFunc(n, func(needle []byte) bool { return !bytes.Contains(line, needle) })
}

// Range calls fn for each entry of a time from since on and before until (if
// that isn't zero), in the order of the log, up to what is on disk when it
// begins. It holds one block. An error of fn ends it and is returned.
//
// It reads on behind until: one entry that was written while our clock was ahead
// says nothing about those after it.
func (l *Log) Range(ctx context.Context, since, until time.Time, fn func(Entry) error) error {
	to := l.end.Load()
	first, err := l.fileBefore(since.Add(-clockSlack))
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	r := l.reader(first, 0)
	defer r.close()
	return r.to(ctx, to, func(e Entry) error {
		if e.Time.Before(since) || !until.IsZero() && !e.Time.Before(until) {
			return nil
		}
		return fn(e)
	})
}

// Follow calls fn for the last entries that match q, as Search finds them, and
// then for each new one that matches, until ctx ends, fn returns an error, or
// the log is closed: only then it returns nil.
func (l *Log) Follow(ctx context.Context, q Query, fn func(Entry) error) error {
	at := l.end.Load()
	recent, err := l.search(ctx, q, at)
	if err != nil {
		return err
	}
	for _, e := range recent {
		if err := fn(e); err != nil {
			return err
		}
	}
	r := l.reader(at.file, at.size)
	defer r.close()
	for {
		select {
		case <-at.more:
		case <-l.stopped:
			if l.end.Load() == at {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		at = l.end.Load()
		if err := r.to(ctx, at, func(e Entry) error {
			if !q.Matches(e) {
				return nil
			}
			return fn(e)
		}); err != nil {
			return err
		}
	}
}

// fileBefore returns the newest file whose first entry is older than t, else the
// oldest. A file whose first entry is older than one before it doesn't count:
// our clock was wrong for one of the two.
func (l *Log) fileBefore(t time.Time) (int, error) {
	numbers, err := listFiles(l.dir)
	if err != nil {
		return 0, err
	}
	found := numbers[0] // an open log has one
	var latest time.Time
	for _, n := range numbers {
		e, err := firstEntry(filePath(l.dir, n))
		switch {
		case errors.Is(err, io.EOF): // its first line is on its way
		case err != nil:
			return 0, err
		case !e.Time.Before(latest):
			latest = e.Time
			if latest.Before(t) {
				found = n
			}
		}
	}
	return found, nil
}

func firstEntry(path string) (Entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return Entry{}, err
	}
	defer f.Close()
	line, err := newForwards(f, 0).next()
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF // half written
	}
	if err != nil {
		return Entry{}, fmt.Errorf("%s: %w", path, err)
	}
	e, err := decode(line)
	if err != nil {
		return Entry{}, fmt.Errorf("%s, line 1: %w", path, err)
	}
	return e, nil
}

// reader reads the log forwards from a place in it, over the ends of files.
type reader struct {
	dir    string
	number int
	offset int64 // where to begin in that file
	file   *os.File
	lines  *forwards
}

func (l *Log) reader(number int, offset int64) *reader {
	return &reader{dir: l.dir, number: number, offset: offset}
}

// to calls fn for each entry from where the reader stands to an end of the log.
func (r *reader) to(ctx context.Context, to *end, fn func(Entry) error) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if r.file == nil {
			f, err := os.Open(filePath(r.dir, r.number))
			if err == nil {
				_, err = f.Seek(r.offset, io.SeekStart)
			}
			if err != nil {
				return fmt.Errorf("audit log: %w", err)
			}
			r.file, r.lines = f, newForwards(f, r.offset)
		}
		if r.number == to.file && r.lines.at >= to.size {
			return nil
		}
		line, err := r.lines.next()
		if errors.Is(err, io.EOF) && r.number < to.file {
			r.close()
			r.number, r.offset = r.number+1, 0
			continue
		}
		var e Entry
		if err == nil {
			e, err = decode(line)
		}
		if err != nil {
			return fmt.Errorf("audit log %s, at byte %d: %w", filePath(r.dir, r.number), r.lines.at, err)
		}
		if err := fn(e); err != nil {
			return err
		}
	}
}

func (r *reader) close() {
	if r.file != nil {
		_ = r.file.Close() // only read from
		r.file = nil
	}
}

// backReader reads the log's lines backwards from an end of it, over the ends of
// files.
type backReader struct {
	dir    string
	number int
	size   int64 // of the file to begin with
	file   *os.File
	lines  backwards
}

func (l *Log) backwards(from *end) *backReader {
	return &backReader{dir: l.dir, number: from.file, size: from.size}
}

// next returns the line before the last that it returned, valid until the next
// call, and io.EOF before the oldest.
func (r *backReader) next() ([]byte, error) {
	for {
		if r.file == nil {
			f, err := os.Open(r.path())
			if err != nil {
				return nil, err
			}
			r.file, r.lines = f, backwards{file: f, at: r.size}
		}
		line, err := r.lines.next()
		if !errors.Is(err, io.EOF) || r.number == 1 {
			return line, err
		}
		info, err := os.Stat(filePath(r.dir, r.number-1))
		if errors.Is(err, fs.ErrNotExist) { // older ones have been put away
			return nil, io.EOF
		}
		if err != nil {
			return nil, err
		}
		r.close()
		r.number, r.size = r.number-1, info.Size()
	}
}

func (r *backReader) path() string { return filePath(r.dir, r.number) }

func (r *backReader) close() {
	if r.file != nil {
		_ = r.file.Close() // only read from
		r.file = nil
	}
}

package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// ErrClosed is returned by Append after Close.
	ErrClosed = errors.New("audit: closed")
	// ErrBroken is returned by every Append after a failed write: what is in
	// the file is unknown, so nothing may be put behind it.
	ErrBroken = errors.New("audit: a write failed, the log has stopped")
	// ErrInUse is returned by Open if another process writes to the log.
	ErrInUse = errors.New("another process is writing to it; stop that one first")
	// ErrDamaged is returned for a line that no Log has written.
	ErrDamaged = errors.New("the line is damaged")
)

const (
	// maxGroup bounds the entries that share one write and flush; it is also
	// the length of the queue behind it.
	maxGroup = 1024
	// maxGroupBytes bounds the same in bytes: room for as many entries of the
	// usual 300, and, with a line more, the most that a kill leaves half written.
	maxGroupBytes = 512 << 10
)

// Log is an open audit log. Safe for concurrent use.
type Log struct {
	now  func() time.Time
	path string
	file *os.File // read by Tail, written by the writer alone

	queue   chan *pending
	closing chan struct{} // closed by the first Close
	stopped chan struct{} // closed by the writer when it has ended

	size     atomic.Int64          // bytes that are on disk; set by the writer
	broken   atomic.Pointer[error] // set once, by the writer
	close    sync.Once
	closeErr error // written under close

	// The writer's own.
	seq   uint64 // of the last line
	prev  string // its hash, hex
	group []byte // lines of the group being made, kept for its memory
}

// pending is an entry that waits to be on disk.
type pending struct {
	entry Entry
	done  chan error
}

// Append writes e and returns when it is on disk. Seq and Prev are set here, and
// Time if it is zero. ctx bounds the wait for a place in the queue only: an entry
// that has one is written. An error means that it may not be on disk.
func (l *Log) Append(ctx context.Context, e Entry) error {
	if err := l.unusable(); err != nil {
		return err
	}
	if e.Time.IsZero() {
		e.Time = l.now()
	}
	bound(&e)
	p := &pending{entry: e, done: make(chan error, 1)}
	select {
	case l.queue <- p:
	default: // full: only now may the wait end early
		select {
		case l.queue <- p:
		case <-ctx.Done():
			return ctx.Err()
		case <-l.stopped:
			return l.unusable()
		}
	}
	select {
	case err := <-p.done:
		return err
	case <-l.stopped:
	}
	select {
	case err := <-p.done: // answered by the writer's last group
		return err
	default:
		return l.unusable()
	}
}

// Err returns nil while entries can be appended, else why they can't. It is what
// a readiness check asks.
func (l *Log) Err() error { return l.unusable() }

// Close writes what is being appended and closes the file.
func (l *Log) Close() error {
	l.close.Do(func() {
		close(l.closing)
		<-l.stopped
		if err := l.file.Close(); err != nil {
			l.closeErr = fmt.Errorf("audit log: %w", err)
		}
	})
	return l.closeErr
}

// unusable returns the error that every Append gets from now on, or nil.
func (l *Log) unusable() error {
	if err := l.broken.Load(); err != nil {
		return *err
	}
	select {
	case <-l.closing:
		return ErrClosed
	default:
		return nil
	}
}

// writeAll is the writer. After Close it empties the queue: an entry in it tells
// of what has already happened.
func (l *Log) writeAll() {
	defer close(l.stopped)
	for {
		var first *pending
		select {
		case first = <-l.queue:
		case <-l.closing:
			if first = l.waiting(); first == nil {
				return
			}
		}
		if !l.writeGroup(first) {
			return
		}
	}
}

// writeGroup writes first, and whoever else waits by then, flushes once and
// answers them. It reports whether the log can go on.
func (l *Log) writeGroup(first *pending) bool {
	l.group = l.group[:0]
	var written []*pending
	for p := first; p != nil; {
		if err := l.addLine(p.entry); err != nil {
			p.done <- err
		} else {
			written = append(written, p)
		}
		if p = nil; len(written) < maxGroup && len(l.group) < maxGroupBytes {
			p = l.waiting()
		}
	}
	err := l.flush()
	for _, p := range written {
		p.done <- err
	}
	return err == nil
}

// addLine puts the next line of the chain into the group.
func (l *Log) addLine(e Entry) error {
	e.Seq, e.Prev = l.seq+1, l.prev
	line, err := encode(e)
	if err != nil {
		return fmt.Errorf("audit: entry %q: %w", e.Event, err)
	}
	l.seq, l.prev = e.Seq, hashOf(line)
	l.group = append(append(l.group, line...), '\n')
	return nil
}

// flush writes the group and waits for the disk. After an error the log is
// broken.
func (l *Log) flush() error {
	if len(l.group) == 0 {
		return nil
	}
	_, err := l.file.Write(l.group)
	if err == nil {
		err = l.file.Sync() // no dearer than fdatasync for a file that grows
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrBroken, err)
		l.broken.Store(&err)
		return err
	}
	l.size.Add(int64(len(l.group)))
	return nil
}

// waiting returns the next entry in the queue, or nil.
func (l *Log) waiting() *pending {
	select {
	case p := <-l.queue:
		return p
	default:
		return nil
	}
}

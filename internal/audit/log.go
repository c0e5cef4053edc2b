package audit

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"otpgate/internal/durable"
)

var (
	// ErrClosed is returned by Append after Close.
	ErrClosed = errors.New("audit: closed")
	// ErrBroken is returned by every Append after a failed write of an entry or
	// a head: what is in the file is unknown, so nothing may be put behind it.
	ErrBroken = errors.New("audit: a write failed, the log has stopped")
	// ErrTampered is returned by Open if the log doesn't hold what its saved head
	// says: entries were cut off or changed, or older files were put back.
	ErrTampered = errors.New("the log isn't as it was written")
	// ErrOtherKey is returned if the log's folder belongs to another signing key,
	// so to another database.
	ErrOtherKey = errors.New("it isn't the public half of this gateway's signing key")
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
	dir  string
	now  func() time.Time
	key  ed25519.PrivateKey
	save func(context.Context, Head) error

	queue    chan *pending
	due      chan *end     // to be signed now: a file has ended, or headEntries are unsigned
	unsigned chan struct{} // holds one when there is an entry without a head
	closing  chan struct{} // closed by the first Close
	stopped  chan struct{} // closed by the writer when it has ended
	signed   chan struct{} // closed by the signer when it has ended, after the writer

	end      atomic.Pointer[end]   // set by the writer alone
	head     atomic.Pointer[Head]  // newest saved; set by the signer alone
	broken   atomic.Pointer[error] // set once
	close    sync.Once
	closeErr error // written under close

	// The writer's own.
	file    *os.File
	number  int    // of the file
	size    int64  // of the file
	month   int    // the latest in the file, see monthOf; 0 in an empty one
	seq     uint64 // of the last line
	prev    string // its hash, hex
	group   []byte // lines of the group being made, kept for its memory
	lastDue uint64 // entry that a head was last ordered for

	// The signer's own.
	heads      *os.File
	lastSigned uint64
	headFault  bool
}

// end is how far the log reaches on disk: the last line, and where it ends. It
// doesn't change; the writer puts a new one in its place.
type end struct {
	file int   // number
	size int64 // of that file
	seq  uint64
	hash string
	more chan struct{} // closed when there is a newer end
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

// PublicKey is what the log's heads are checked with; audit.pub holds it.
func (l *Log) PublicKey() ed25519.PublicKey { return l.key.Public().(ed25519.PublicKey) }

// Close writes what is being appended, signs the last head and closes the files.
func (l *Log) Close() error {
	l.close.Do(func() {
		close(l.closing)
		<-l.stopped
		<-l.signed
		if err := errors.Join(l.file.Close(), l.heads.Close()); err != nil {
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

// fail breaks the log, unless it is broken already, and returns why.
func (l *Log) fail(err error) error {
	err = fmt.Errorf("%w: %w", ErrBroken, err)
	l.broken.CompareAndSwap(nil, &err)
	return err
}

// writeAll is the writer. After Close it empties the queue: an entry in it tells
// of what has already happened.
func (l *Log) writeAll() {
	defer close(l.stopped)
	var first *pending
	for ok := true; ok; {
		if first == nil {
			select {
			case first = <-l.queue:
			case <-l.closing:
				if first = l.waiting(); first == nil {
					return
				}
			}
		}
		first, ok = l.writeGroup(first)
	}
}

// writeGroup writes first, and whoever else waits by then, flushes once and
// answers them. A group lies in one file: an entry that belongs into the next
// is returned, to be the first of the next group. ok is whether the log can go
// on.
func (l *Log) writeGroup(first *pending) (next *pending, ok bool) {
	l.group = l.group[:0]
	if l.fileIsOver(first.entry) {
		if err := l.rotate(); err != nil {
			first.done <- l.fail(err)
			return nil, false
		}
	}
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
		if p != nil && l.fileIsOver(p.entry) {
			next, p = p, nil
		}
	}
	err := l.flush()
	for _, p := range written {
		p.done <- err
	}
	return next, err == nil
}

// fileIsOver reports whether e belongs into a new file: this one is full, or e
// is the first of a new month. Months are what archives are kept and destroyed
// by, and a file for each quiet day would be a drawer full of scraps. A clock
// that goes back starts no file.
func (l *Log) fileIsOver(e Entry) bool {
	size := l.size + int64(len(l.group))
	return size > 0 && (size >= MaxFileBytes || monthOf(e.Time) > l.month)
}

// rotate goes on to a new file. The chain runs on: its first line holds the hash
// of the last one here. The head at the end of a file lets it be put away and
// still be checked alone.
func (l *Log) rotate() error {
	f, err := os.OpenFile(filePath(l.dir, l.number+1), os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, fileMode)
	if err != nil {
		return err
	}
	// Its name must be on disk before its first line is.
	if err := errors.Join(durable.SyncDir(l.dir), l.file.Close()); err != nil {
		return errors.Join(err, f.Close())
	}
	l.order(l.end.Load())
	l.file, l.number, l.size, l.month = f, l.number+1, 0, 0
	return nil
}

// order has a head signed for e at once.
func (l *Log) order(e *end) {
	l.lastDue = e.seq
	select {
	case l.due <- e:
	default:
	}
}

// addLine puts the next line of the chain into the group.
func (l *Log) addLine(e Entry) error {
	e.Seq, e.Prev = l.seq+1, l.prev
	line, err := encode(e)
	if err != nil {
		return fmt.Errorf("audit: entry %q: %w", e.Event, err)
	}
	l.seq, l.prev = e.Seq, hashOf(line)
	l.month = max(l.month, monthOf(e.Time))
	l.group = append(append(l.group, line...), '\n')
	return nil
}

// flush writes the group, waits for the disk, and tells whoever waits for more.
// After an error the log is broken.
func (l *Log) flush() error {
	if len(l.group) == 0 {
		return nil
	}
	_, err := l.file.Write(l.group)
	if err == nil {
		err = l.file.Sync() // no dearer than fdatasync for a file that grows
	}
	if err != nil {
		return l.fail(err)
	}
	l.size += int64(len(l.group))
	before := l.end.Load()
	now := &end{file: l.number, size: l.size, seq: l.seq, hash: l.prev, more: make(chan struct{})}
	l.end.Store(now)
	close(before.more)
	if now.seq-l.lastDue >= headEntries {
		l.order(now)
	}
	select {
	case l.unsigned <- struct{}{}:
	default:
	}
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

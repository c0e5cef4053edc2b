package audit

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"otpgate/internal/durable"
)

const (
	dirMode  = 0o700
	fileMode = 0o600
	// tailBytes is how much of the file's end Open reads: what a kill can leave
	// half written, and the line before it.
	tailBytes = maxGroupBytes + 2*maxLineBytes
)

// Options are what a log needs of its owner. All must be set, but that Saved is
// zero before the first head.
type Options struct {
	// Now is for entries without a time, and for heads.
	Now func() time.Time
	// Key signs the heads. A log keeps to one key.
	Key ed25519.PrivateKey
	// Saved is the newest head that Save was given.
	Saved Head
	// Save keeps a head where whoever can edit the log's files can't change it.
	// The head is durable when it returns nil. Called by one goroutine.
	Save func(context.Context, Head) error
}

// Open opens the log in the folder dir, made if it isn't there, and goes on
// where it ended. ErrInUse, ErrOtherKey, ErrDamaged or ErrTampered if that can't
// be: no line was changed then.
func Open(dir string, o Options) (*Log, error) {
	l := &Log{
		dir: dir, now: o.Now, key: o.Key, save: o.Save,
		queue:    make(chan *pending, maxGroup),
		due:      make(chan *end, maxDue),
		unsigned: make(chan struct{}, 1),
		closing:  make(chan struct{}),
		stopped:  make(chan struct{}),
		signed:   make(chan struct{}),
	}
	l.head.Store(&o.Saved)
	if err := l.open(o.Saved); err != nil {
		errs := []error{fmt.Errorf("audit log: %w", err)}
		for _, f := range []*os.File{l.file, l.heads} {
			if f != nil {
				errs = append(errs, f.Close())
			}
		}
		return nil, errors.Join(errs...)
	}
	go l.writeAll()
	go l.signAll()
	return l, nil
}

// Unsigned reports whether dir holds a log of the first version: with entries, and
// with neither a signed head nor a key.
func Unsigned(dir string) (bool, error) {
	for _, name := range []string{headsName, keyName} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	info, err := os.Stat(filePath(dir, 1))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Size() > 0, err
}

// open takes the folder for this process, reads where the log ended, and only
// when all is well mends what a kill has left.
func (l *Log) open(saved Head) error {
	if err := os.MkdirAll(l.dir, dirMode); err != nil {
		return err
	}
	if err := l.openHeads(); err != nil {
		return err
	}
	keyThere, err := checkPublicKey(l.dir, l.PublicKey())
	if err != nil {
		return err
	}
	fileEnd, err := l.resume()
	if err != nil {
		return err
	}
	headsEnd, err := l.resumeHeads()
	if err != nil {
		return err
	}
	if err := l.checkSaved(saved); err != nil {
		return err
	}
	if !keyThere {
		if err := writePublicKey(l.dir, l.PublicKey()); err != nil {
			return err
		}
	}
	if l.seq > l.lastSigned {
		l.unsigned <- struct{}{}
	}
	// The syncs are also for new files: a name must be on disk before a line is.
	return errors.Join(
		truncate(l.file, fileEnd), truncate(l.heads, headsEnd),
		durable.SyncDir(l.dir), durable.SyncDir(filepath.Dir(l.dir)),
	)
}

// openHeads opens heads.jsonl and locks it: of all the log's files it alone
// stays the same one.
func (l *Log) openHeads() (err error) {
	l.heads, err = os.OpenFile(filepath.Join(l.dir, headsName), os.O_RDWR|os.O_CREATE|os.O_APPEND, fileMode)
	if err != nil {
		return err
	}
	err = unix.Flock(int(l.heads.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%s: %w", l.dir, ErrInUse)
	}
	return err
}

// resume opens the newest file and continues the chain from its last whole line,
// whose end it returns.
func (l *Log) resume() (fileEnd int64, err error) {
	numbers, err := listFiles(l.dir)
	if err != nil {
		return 0, err
	}
	if n := missingFile(numbers); n > 0 {
		return 0, fmt.Errorf("%s is missing (%w): put it back, or put all older ones away with it", filePath(l.dir, n), ErrDamaged)
	}
	l.number = 1
	if len(numbers) > 0 {
		l.number = numbers[len(numbers)-1]
	}
	path := filePath(l.dir, l.number)
	if l.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, fileMode); err != nil {
		return 0, err
	}
	info, err := l.file.Stat()
	if err != nil {
		return 0, err
	}
	last, fileEnd, err := lastLine(l.file, info.Size())
	if err == nil && last == nil && len(numbers) > 1 { // killed between a new file and its first line
		path = filePath(l.dir, l.number-1)
		last, err = endOfFile(path)
	} else if err == nil && last != nil {
		l.size = fileEnd
	}
	if err == nil && last != nil {
		err = l.continueFrom(last)
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	l.end.Store(&end{file: l.number, size: l.size, seq: l.seq, hash: l.prev, more: make(chan struct{})})
	l.lastDue = l.seq
	return fileEnd, nil
}

func (l *Log) continueFrom(last []byte) error {
	e, err := decode(last)
	if err != nil {
		return fmt.Errorf("its last line: %w; keep the file as evidence, move it out of its folder, and a new chain begins", err)
	}
	l.seq, l.prev = e.Seq, hashOf(last)
	if l.size > 0 {
		l.month = monthOf(e.Time) // that of an earlier line may be later; then one file more begins
	}
	return nil
}

// endOfFile returns the last line of a file that nobody writes to any more.
func endOfFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	last, end, err := lastLine(f, info.Size())
	if err == nil && (last == nil || end != info.Size()) {
		err = fmt.Errorf("%w: it doesn't end with a whole one", ErrDamaged)
	}
	return last, err
}

// resumeHeads reads the newest head, so that none is signed twice, and returns
// where it ends.
func (l *Log) resumeHeads() (headsEnd int64, err error) {
	info, err := l.heads.Stat()
	if err != nil {
		return 0, err
	}
	last, headsEnd, err := lastLine(l.heads, info.Size())
	if err != nil {
		return 0, fmt.Errorf("%s: %w", l.heads.Name(), err)
	}
	if last == nil {
		return headsEnd, nil
	}
	h, err := decodeHead(last)
	if err != nil {
		return 0, fmt.Errorf("%s: its last line: %w; keep the file as evidence, move it out of its folder, and a new one begins", l.heads.Name(), err)
	}
	if h.SignedBy(l.PublicKey()) { // a forged one must not keep the signer from its work
		l.lastSigned = min(h.Seq, l.seq)
	}
	return headsEnd, nil
}

// checkSaved follows the chain from the log's end back to the saved head. A kill
// may leave the head behind the log, never before it.
func (l *Log) checkSaved(saved Head) error {
	if saved.Seq == 0 {
		return nil
	}
	if l.seq < saved.Seq {
		return fmt.Errorf("%w: it ends at entry %d, and entry %d was written and signed at %s",
			ErrTampered, l.seq, saved.Seq, saved.Time.Format(time.RFC3339))
	}
	lines := l.backwards(l.end.Load())
	defer lines.close()
	hash := l.prev
	for seq := l.seq; ; seq-- {
		line, err := lines.next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: entry %d was signed and isn't in it", ErrTampered, saved.Seq)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", lines.path(), err)
		}
		e, err := decode(line)
		if err != nil {
			return fmt.Errorf("%s: entry %d: %w: %w", lines.path(), seq, ErrTampered, err)
		}
		switch {
		case e.Seq != seq || hashOf(line) != hash:
			return fmt.Errorf("%s: %w: entry %d was changed, removed or put in", lines.path(), ErrTampered, seq)
		case seq == saved.Seq && hash != saved.Hash:
			return fmt.Errorf("%s: %w: entry %d isn't the one that was signed", lines.path(), ErrTampered, seq)
		case seq == saved.Seq:
			return nil
		}
		hash = e.Prev
	}
}

// truncate cuts f to size, if it is longer, and waits for the disk.
func truncate(f *os.File, size int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() > size {
		if err := f.Truncate(size); err != nil {
			return err
		}
	}
	return f.Sync()
}

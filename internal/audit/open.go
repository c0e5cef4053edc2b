package audit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	fileName = "audit-000001.jsonl"
	dirMode  = 0o700
	fileMode = 0o600
	// tailBytes is how much of the file's end Open reads: what a kill can leave
	// half written, and the line before it.
	tailBytes = maxGroupBytes + 2*maxLineBytes
)

// Open opens the log in the folder dir, made if it isn't there, and goes on
// where it ended. now is for entries without a time.
func Open(dir string, now func() time.Time) (*Log, error) {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	path := filepath.Join(dir, fileName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, fileMode)
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	l := &Log{
		now:     now,
		path:    path,
		file:    f,
		queue:   make(chan *pending, maxGroup),
		closing: make(chan struct{}),
		stopped: make(chan struct{}),
	}
	if err := l.resume(); err != nil {
		return nil, errors.Join(fmt.Errorf("audit log %s: %w", path, err), f.Close())
	}
	go l.writeAll()
	return l, nil
}

// resume takes the file for this process, removes a half-written line and
// continues the chain.
func (l *Log) resume() error {
	err := unix.Flock(int(l.file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrInUse
	}
	if err != nil {
		return err
	}
	info, err := l.file.Stat()
	if err != nil {
		return err
	}
	last, end, err := lastLine(l.file, info.Size())
	if err != nil {
		return err
	}
	if last != nil {
		e, err := decode(last)
		if err != nil {
			return fmt.Errorf("its last line: %w; keep the file as evidence, move it out of its folder, and a new chain begins", err)
		}
		l.seq, l.prev = e.Seq, hashOf(last)
	}
	l.size.Store(end)
	if end < info.Size() {
		if err := l.file.Truncate(end); err != nil {
			return err
		}
	}
	// Also for a new file: its name must be on disk before its first line is.
	return errors.Join(l.file.Sync(), syncDir(filepath.Dir(l.path)), syncDir(filepath.Dir(filepath.Dir(l.path))))
}

// lastLine returns the last whole line of a log of the given size, nil if there
// is none, and where it ends. What follows was never answered.
func lastLine(f *os.File, size int64) (line []byte, end int64, err error) {
	start := max(0, size-tailBytes)
	tail := make([]byte, size-start)
	if _, err := f.ReadAt(tail, start); err != nil {
		return nil, 0, err
	}
	newline := bytes.LastIndexByte(tail, '\n')
	if newline < 0 && start > 0 {
		return nil, 0, fmt.Errorf("no line ends in its last %d bytes: %w", tailBytes, ErrDamaged)
	}
	if newline < 0 {
		return nil, 0, nil
	}
	line = tail[:newline]
	before := bytes.LastIndexByte(line, '\n')
	if before < 0 && start > 0 {
		return nil, 0, fmt.Errorf("its last line is longer than %d bytes: %w", maxLineBytes, ErrDamaged)
	}
	return line[before+1:], start + int64(newline) + 1, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

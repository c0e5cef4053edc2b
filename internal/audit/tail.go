package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
)

const (
	// MaxTail is the most entries that Tail returns: a screenful many times
	// over, and some megabytes of memory.
	MaxTail = 10_000
	// blockBytes is the size of one read backwards.
	blockBytes = 64 << 10
)

// Tail returns the last n entries that are on disk (at most MaxTail), the newest
// last. ErrDamaged for a line that can't be read.
func (l *Log) Tail(ctx context.Context, n int) ([]Entry, error) {
	n = min(n, MaxTail)
	var entries []Entry
	lines := backwards{file: l.file, at: l.size.Load()}
	for len(entries) < n {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		line, err := lines.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			var e Entry
			if e, err = decode(line); err == nil {
				entries = append(entries, e)
				continue
			}
		}
		return nil, fmt.Errorf("audit log %s, %d lines from its end: %w", l.path, len(entries)+1, err)
	}
	slices.Reverse(entries)
	return entries, nil
}

// backwards reads a file's lines from its end. It holds one block and what it
// has of the line that begins before it.
type backwards struct {
	file io.ReaderAt
	at   int64  // where held begins in the file
	held []byte // read and not yet returned; ends with a newline, if not empty
}

// next returns the line before the last one that it returned, without its
// newline, and io.EOF before the first. The line is valid until the next call.
func (b *backwards) next() ([]byte, error) {
	for {
		if n := len(b.held); n > 0 {
			start := bytes.LastIndexByte(b.held[:n-1], '\n') + 1
			if start > 0 || b.at == 0 {
				line := b.held[start : n-1]
				b.held = b.held[:start]
				return line, nil
			}
			if n > maxLineBytes {
				return nil, fmt.Errorf("%w: it is too long", ErrDamaged)
			}
		} else if b.at == 0 {
			return nil, io.EOF
		}
		size := min(b.at, blockBytes)
		block := make([]byte, size, int(size)+len(b.held))
		if _, err := b.file.ReadAt(block, b.at-size); err != nil {
			return nil, err
		}
		b.at -= size
		b.held = append(block, b.held...)
	}
}

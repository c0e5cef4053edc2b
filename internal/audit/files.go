package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MaxFileBytes ends a file, at the first whole line from there on: some 200,000
// entries, which an editor still opens and a mail still carries.
const MaxFileBytes = 64 << 20

const (
	// blockBytes is the size of one read, either way.
	blockBytes = 64 << 10

	headsName = "heads.jsonl"
	keyName   = "audit.pub"

	filePrefix, fileSuffix = "audit-", ".jsonl"
	maxFileNumber          = 999_999_999 // what nine digits hold; also in a name that somebody made up
)

// filePath is where file n of the log in dir is.
func filePath(dir string, n int) string {
	return filepath.Join(dir, fmt.Sprintf("%s%06d%s", filePrefix, n, fileSuffix))
}

// listFiles returns the numbers of the log's files in ascending order. Other
// names in dir are nobody's business.
func listFiles(dir string) ([]int, error) {
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, d := range names {
		digits := strings.TrimSuffix(strings.TrimPrefix(d.Name(), filePrefix), fileSuffix)
		n, err := strconv.Atoi(digits)
		if err == nil && n > 0 && n <= maxFileNumber && d.Name() == filepath.Base(filePath(dir, n)) {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// missingFile returns the first number that is missing between others, or 0.
// The oldest files may have been put away.
func missingFile(numbers []int) int {
	for i := 1; i < len(numbers); i++ {
		if numbers[i] != numbers[i-1]+1 {
			return numbers[i-1] + 1
		}
	}
	return 0
}

// monthOf numbers the months of the calendar (UTC).
func monthOf(t time.Time) int { return t.UTC().Year()*12 + int(t.UTC().Month()) - 1 }

// forwards reads a file's lines from where it stands to its end.
type forwards struct {
	r  *bufio.Reader
	at int64 // where the next line begins in the file
}

func newForwards(r io.Reader, at int64) *forwards {
	return &forwards{r: bufio.NewReaderSize(r, blockBytes), at: at}
}

// next returns the next line without its newline, valid until the next call.
// io.EOF after the last, io.ErrUnexpectedEOF for one without a newline,
// ErrDamaged for one that is too long.
func (f *forwards) next() ([]byte, error) {
	line, err := f.r.ReadSlice('\n')
	switch {
	case errors.Is(err, io.EOF) && len(line) > 0:
		return nil, io.ErrUnexpectedEOF
	case errors.Is(err, bufio.ErrBufferFull) || len(line) > maxLineBytes+1:
		return nil, fmt.Errorf("%w: it is too long", ErrDamaged)
	case err != nil:
		return nil, err
	}
	f.at += int64(len(line))
	return line[:len(line)-1], nil
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

// lastLine returns the last whole line of a file of the given size, nil if there
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

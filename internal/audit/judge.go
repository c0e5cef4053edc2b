package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// judge says what is wrong with the line this after the line before, if it
// doesn't continue the chain. The chain shows that one of the two isn't as it
// was written; which one, the line after them tells, or a head.
func (c *checker) judge(before, this item) (*Finding, error) {
	due := before.entry.Seq + 1
	if this.problem != "" {
		return this.finding(due, "%s", this.problem), nil
	}
	if before.entry.Seq == 0 {
		return c.judgeFirst(this), nil
	}
	seq, linked := this.entry.Seq, this.entry.Prev == before.hash
	if linked && seq == due {
		return nil, nil
	}
	next, err := c.lines.peek()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	genuine := next != nil && next.entry.Prev == this.hash
	if h, err := c.heads.peek(); err == nil && h.problem == "" && h.Seq == seq && h.Hash == this.hash {
		genuine = true
	}
	switch {
	case linked:
		return this.finding(due, "it was changed: it has the number %d", seq), nil
	case seq == due && genuine:
		return before.finding(before.entry.Seq, "it was changed: the entry after it follows another one"), nil
	case seq == due:
		return this.finding(due, "it doesn't follow the entry before it: one of the two was changed, or put in another's place"), nil
	case seq > due && next != nil && next.entry.Seq == due:
		return this.finding(due, "entry %d stands in its place: the lines were put in another order", seq), nil
	case seq > due:
		return this.finding(due, "%s missing here: removed", entries(due, seq-1)), nil
	case seq == before.entry.Seq && genuine && this.hash != before.hash:
		return before.finding(seq, "it was put in: the entry with its number that the others follow stands behind it"), nil
	}
	return this.finding(seq, "it was put in or moved here: entry %d was due", due), nil
}

func (c *checker) judgeFirst(this item) *Finding {
	seq := this.entry.Seq
	switch {
	case seq > 1 && !c.Archived:
		return this.finding(1, "%s missing: removed, or put away with the oldest files (then --archived)", entries(1, seq-1))
	case seq == 1 && this.entry.Prev != "":
		return this.finding(1, "it was changed: the first entry follows no other")
	}
	return nil
}

func entries(from, to uint64) string {
	if from == to {
		return fmt.Sprintf("entry %d is", from)
	}
	return fmt.Sprintf("entries %d to %d are", from, to)
}

// item is one line of the log, or what stands in the place of one.
type item struct {
	file    string // name
	line    int
	entry   Entry
	hash    string
	problem string // why there is no entry
	torn    bool   // half a line at the log's end
}

func (i item) finding(seq uint64, problem string, args ...any) *Finding {
	return &Finding{File: i.file, Line: i.line, Seq: seq, Problem: fmt.Sprintf(problem, args...)}
}

// walker reads a log's lines from the first file to the last, one line ahead.
type walker struct {
	dir     string
	numbers []int // files still to read; the first is open, if file isn't nil
	before  int   // number of the last one that was read
	file    *os.File
	lines   *forwards
	line    int
	ahead   *item
}

func (w *walker) next() (item, error) {
	if i := w.ahead; i != nil {
		w.ahead = nil
		return *i, nil
	}
	return w.read()
}

// peek returns the line after the last that next returned; nil and io.EOF after
// the last.
func (w *walker) peek() (*item, error) {
	if w.ahead == nil {
		i, err := w.read()
		if err != nil {
			return nil, err
		}
		w.ahead = &i
	}
	return w.ahead, nil
}

func (w *walker) read() (item, error) {
	for len(w.numbers) > 0 {
		number := w.numbers[0]
		if w.before > 0 && number > w.before+1 {
			w.before++
			return item{file: filepath.Base(filePath(w.dir, w.before)), problem: "the file is missing"}, nil
		}
		if w.file == nil {
			f, err := os.Open(filePath(w.dir, number))
			if err != nil {
				return item{}, err
			}
			w.file, w.lines, w.line = f, newForwards(f, 0), 0
		}
		text, err := w.lines.next()
		if errors.Is(err, io.EOF) {
			w.close()
			w.numbers, w.before = w.numbers[1:], number
			continue
		}
		w.line++
		i := item{file: filepath.Base(w.file.Name()), line: w.line}
		if err == nil {
			i.hash = hashOf(text)
			i.entry, err = decode(text)
		}
		switch {
		case err == nil:
		case errors.Is(err, io.ErrUnexpectedEOF) && len(w.numbers) == 1:
			i.torn = true
		case errors.Is(err, io.ErrUnexpectedEOF):
			i.problem = "the file ends within it: its end was cut off"
		case errors.Is(err, ErrDamaged):
			i.problem = err.Error()
		default:
			return item{}, err
		}
		return i, nil
	}
	return item{}, io.EOF
}

func (w *walker) close() {
	if w.file != nil {
		_ = w.file.Close() // only read from
		w.file = nil
	}
}

package verifier

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// maxCSVLine bounds a line in bytes: the longest key in hexadecimal has 256
	// digits, the largest card 200 cells of up to three full-width ones, and a name
	// 255 bytes.
	maxCSVLine = 4 << 10
	// csvRead is what the CSV reader may read ahead of the line it returns.
	csvRead = 4 << 10
)

// csvTable reads a CSV file in UTF-8 whose first line names the columns, one line
// after the other. It is at the line that next has read.
type csvTable struct {
	in   *lineLimit
	rows *csv.Reader
	at   map[string]int // the place of each column
	row  []string
}

// openCSV reads the first line. A *Refusal unless it names the needed columns,
// and of those that are known each but once.
func openCSV(r io.Reader, known, needed []string) (*csvTable, error) {
	in := &lineLimit{r: skipBOM(r), left: maxCSVLine + csvRead}
	t := &csvTable{in: in, rows: csv.NewReader(in), at: map[string]int{}}
	t.rows.FieldsPerRecord, t.rows.ReuseRecord = -1, true // said below in our own words
	head, err := t.rows.Read()
	if errors.Is(err, io.EOF) {
		return nil, refuse("its first line names the columns: "+strings.Join(known, ", "), "the file is empty")
	}
	if err != nil {
		return nil, csvFault(err)
	}
	for i, name := range head {
		name = strings.ToLower(strings.TrimSpace(name))
		if _, twice := t.at[name]; twice || !slices.Contains(known, name) {
			return nil, refuse("the columns are "+strings.Join(known, ", ")+", each once", "the first line has a column %.40q", name)
		}
		t.at[name] = i
	}
	for _, name := range needed {
		if _, ok := t.at[name]; !ok {
			return nil, refuse("the first line names the columns", "the file has no column %s", name)
		}
	}
	return t, nil
}

// next reads a line and returns its number. The error is an *EntryError, after
// which there may be more, or the last: io.EOF, a *Refusal, or the file's.
func (t *csvTable) next() (line int, err error) {
	t.in.left = maxCSVLine + csvRead
	if t.row, err = t.rows.Read(); err != nil {
		return 0, csvFault(err)
	}
	line, _ = t.rows.FieldPos(0)
	for _, field := range t.row {
		if !utf8.ValidString(field) {
			return line, refuse("save it as CSV UTF-8", "line %d: the file is no UTF-8 text", line)
		}
	}
	if len(t.row) != len(t.at) {
		return line, &EntryError{Line: line, Problem: fmt.Sprintf("it has %d fields, and the first line %d", len(t.row), len(t.at))}
	}
	return line, nil
}

// field is what a column holds; "" if the file has no such column. It is valid
// until next.
func (t *csvTable) field(name string) string {
	if i, ok := t.at[name]; ok {
		return strings.TrimSpace(t.row[i])
	}
	return ""
}

// csvFault says in words why the file can't be read on.
func csvFault(err error) error {
	var broken *csv.ParseError
	switch {
	case errors.Is(err, errLongLine):
		return refuse("a quote that isn't closed makes one of many", "a line of the file is longer than %d bytes", maxCSVLine)
	case errors.As(err, &broken):
		return refuse("nothing behind it can be read", "line %d: the quotes are not those of a CSV file", broken.StartLine)
	}
	return err
}

// skipBOM drops the mark that spreadsheets put before UTF-8.
func skipBOM(r io.Reader) io.Reader {
	b := bufio.NewReader(r)
	if head, err := b.Peek(3); err == nil && string(head) == "\uFEFF" {
		_, _ = b.Discard(3) // they are there
	}
	return b
}

var errLongLine = errors.New("line too long")

// lineLimit lets at most left bytes through: the CSV reader holds a whole line,
// and a quoted field may run on over many.
type lineLimit struct {
	r    io.Reader
	left int
}

// Read implements io.Reader.
func (l *lineLimit) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, errLongLine
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// maxFaults bounds what one file can be told at once. Nobody reads further,
// and a file of the wrong kind has a fault on every line.
const maxFaults = 100

// Fault is one thing that is wrong with gateway.yaml.
type Fault struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`   // from 1; 0: the file as a whole
	Column  int    `json:"column,omitempty"` // from 1, in characters
	Path    string `json:"path,omitempty"`   // radius.clients[0].realm
	Problem string `json:"problem"`          // what is wrong, and what was expected
}

// String is file:line:column: path: problem.
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.File)
	if f.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", f.Line, f.Column)
	}
	b.WriteString(": ")
	if f.Path != "" {
		b.WriteString(f.Path + ": ")
	}
	b.WriteString(f.Problem)
	return b.String()
}

// Faults is everything that is wrong, in the order of the file.
type Faults []Fault

// Error has one fault a line.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// faultAt records a fault at a place in the file.
func (d *decoder) faultAt(line, column int, path, format string, args ...any) {
	if len(d.faults) > maxFaults {
		return
	}
	d.faults = append(d.faults, Fault{d.file, line, column, path, fmt.Sprintf(format, args...)})
}

// fault records a fault of the value at path. Where the file has no such
// value, it is laid at the one that should hold it.
func (d *decoder) fault(path, format string, args ...any) {
	for at := path; ; at = at[:max(0, strings.LastIndexAny(at, ".["))] {
		if n := d.at[at]; n != nil {
			d.faultAt(n.Line, n.Column, path, format, args...)
			return
		}
		if at == "" {
			d.faultAt(0, 0, path, format, args...)
			return
		}
	}
}

// sorted returns what was recorded, in the order of the file.
func (d *decoder) sorted() Faults {
	more := len(d.faults) > maxFaults
	faults := d.faults[:min(len(d.faults), maxFaults)]
	slices.SortStableFunc(faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if more {
		faults = append(faults, Fault{File: d.file, Problem: "has more faults than these: correct them first"})
	}
	return faults
}

// reason is an error without the file name that the fault says already.
func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

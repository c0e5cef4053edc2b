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
)

// Check says what a log is checked against. The zero value is what the folder
// alone can tell.
type Check struct {
	// Key is the public key from elsewhere; nil: audit.pub in the folder. A
	// forger could have put that there with the rest.
	Key ed25519.PublicKey
	// Head is the newest head from elsewhere, if there is one: it tells of
	// entries that were cut off together with their heads.
	Head Head
	// Archived allows that the oldest files have been put away. The first line
	// that is there is believed then, unless a head stands for the one before.
	Archived bool
}

// Report is what Verify has seen.
type Report struct {
	Files    int       `json:"files"`
	Entries  uint64    `json:"entries"`
	First    uint64    `json:"first"` // entry numbers
	Last     uint64    `json:"last"`
	Heads    int       `json:"heads"`
	Signed   uint64    `json:"signed"` // entries up to this one are signed for
	SignedAt time.Time `json:"signed_at,omitzero"`
	// Torn: the log ends with half a line, which a kill has left or the gateway
	// is writing right now. It was never answered.
	Torn bool `json:"torn,omitempty"`
}

// Finding is the first fault of a log. It is an error that Verify returns.
type Finding struct {
	File    string `json:"file"`           // its name in the folder
	Line    int    `json:"line,omitempty"` // from 1; 0: the file as a whole
	Seq     uint64 `json:"seq,omitempty"`  // the first bad entry
	Problem string `json:"problem"`
}

func (f *Finding) Error() string {
	at := f.File
	if f.Line > 0 {
		at = fmt.Sprintf("%s, line %d", at, f.Line)
	}
	if f.Seq > 0 {
		at = fmt.Sprintf("%s, entry %d", at, f.Seq)
	}
	return at + ": " + f.Problem
}

// Verify reads the whole log in dir once and checks each line against the one
// before and against the signed heads. The first fault is returned as a
// *Finding; up to Report.Signed the log is good even so. It needs no gateway and
// holds no more than a few lines; the gateway may go on writing.
//
// What it can't find: a change among the newest entries that no head stands for
// yet (Report.Signed), made by somebody who also recomputed their chain.
func Verify(ctx context.Context, dir string, against Check) (Report, error) {
	c := &checker{dir: dir, Check: against}
	if err := c.openKey(); err != nil {
		return c.report, err
	}
	// The heads first: whatever they stand for by now, the log must hold.
	heads, err := openHeads(dir, c.Key)
	if err != nil {
		return c.report, err
	}
	defer heads.close()
	numbers, err := listFiles(dir)
	if err != nil {
		return c.report, fmt.Errorf("audit log: %w", err)
	}
	c.heads = heads
	c.lines = &walker{dir: dir, numbers: numbers}
	defer c.lines.close()
	c.report.Files = len(numbers)
	return c.report, c.run(ctx)
}

// checker goes through a log once.
type checker struct {
	Check
	dir    string
	heads  *headReader
	lines  *walker
	report Report
}

func (c *checker) openKey() error {
	stored, err := ReadPublicKey(filepath.Join(c.dir, keyName))
	switch {
	case c.Key == nil && errors.Is(err, fs.ErrNotExist):
		return &Finding{File: keyName, Problem: "there is no public key here to check signatures with; name a copy of it"}
	case c.Key == nil && err != nil:
		return &Finding{File: keyName, Problem: err.Error()}
	case c.Key == nil:
		c.Key = stored
	case err == nil && !stored.Equal(c.Key):
		return &Finding{File: keyName, Problem: "it is another key than the one to check with"}
	}
	return nil
}

func (c *checker) run(ctx context.Context) error {
	var before item
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		this, err := c.lines.next()
		if errors.Is(err, io.EOF) {
			return c.atEnd(before)
		}
		if err != nil {
			return fmt.Errorf("audit log: %w", err)
		}
		if this.torn {
			c.report.Torn = true
			continue
		}
		if f, err := c.judge(before, this); f != nil || err != nil {
			return errorOf(f, err)
		}
		if c.report.Entries++; c.report.Entries == 1 {
			c.report.First = this.entry.Seq
		}
		if f, err := c.againstHeads(before, this); f != nil || err != nil {
			return errorOf(f, err)
		}
		before, c.report.Last = this, this.entry.Seq
	}
}

// errorOf keeps a nil *Finding from becoming an error that isn't nil.
func errorOf(f *Finding, err error) error {
	if f != nil {
		return f
	}
	return err
}

// againstHeads compares an entry with what was signed for it.
func (c *checker) againstHeads(before, this item) (*Finding, error) {
	seq := this.entry.Seq
	for {
		h, err := c.heads.peek()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if h.problem == "" && before.entry.Seq == 0 && h.Seq < seq { // of an archived file
			if h.Seq == seq-1 && h.Hash != this.entry.Prev {
				return this.finding(seq, "it doesn't follow the entry %d that was signed at %s", h.Seq, h.Time.Format(time.RFC3339)), nil
			}
			c.heads.skip()
			continue
		}
		if h.Seq > seq {
			break
		}
		if h.problem != "" {
			f := &Finding{File: headsName, Line: h.line, Problem: h.problem}
			if c.report.Signed < seq { // from here on nothing is vouched for
				f.Seq = c.report.Signed + 1
			}
			return f, nil
		}
		if f := c.asSigned(h.Head, this); f != nil {
			return f, nil
		}
		c.heads.skip()
		c.report.Heads++
		c.report.Signed, c.report.SignedAt = h.Seq, h.Time
	}
	if c.Head.Seq == seq {
		return c.asSigned(c.Head, this), nil
	}
	return nil, nil
}

// asSigned compares an entry with the head for it. Up to here the chain fits: if
// the entry doesn't, then so that its hash had to be put into the next, or it is
// the last.
func (c *checker) asSigned(h Head, this item) *Finding {
	if h.Hash == this.hash {
		return nil
	}
	signed := "what was signed at " + h.Time.Format(time.RFC3339)
	next, _ := c.lines.peek()
	first := max(c.report.Signed+1, c.report.First)
	if next != nil && next.entry.Prev == h.Hash || first == this.entry.Seq {
		return this.finding(this.entry.Seq, "it was changed: it isn't %s", signed)
	}
	return this.finding(first, "the entries %d to %d aren't %s: one of them was changed, removed or put in, and the chain made to fit",
		first, this.entry.Seq, signed)
}

// atEnd looks for what should have followed the last entry.
func (c *checker) atEnd(last item) error {
	cutOff := func(h Head) error {
		name := last.file
		if name == "" {
			name = filepath.Base(filePath(c.dir, 1))
		}
		return &Finding{
			File: name, Line: last.line + 1, Seq: last.entry.Seq + 1,
			Problem: fmt.Sprintf("the log ends before it, but entry %d was written, and signed at %s: the end was cut off", h.Seq, h.Time.Format(time.RFC3339)),
		}
	}
	switch h, err := c.heads.peek(); {
	case err != nil && !errors.Is(err, io.EOF):
		return err
	case err == nil && h.problem != "":
		return &Finding{File: headsName, Line: h.line, Problem: h.problem}
	case err == nil:
		return cutOff(h.Head)
	}
	if c.Head.Seq > last.entry.Seq {
		return cutOff(c.Head)
	}
	if c.report.Entries > 0 && c.report.Heads == 0 {
		return &Finding{File: headsName, Problem: "no head is signed for any entry here: nothing proves that they are as they were written"}
	}
	return nil
}

// headReader reads heads.jsonl, one head ahead.
type headReader struct {
	key   ed25519.PublicKey
	file  *os.File // nil if there is none
	lines *forwards
	line  int
	last  uint64 // number of the newest entry that a good head stands for
	ahead *readHead
}

// readHead is a line of heads.jsonl; problem says why it is none to trust.
type readHead struct {
	Head
	line    int
	problem string
}

// openHeads opens heads.jsonl as it is now: what is added while the log is read
// may stand for entries that weren't read.
func openHeads(dir string, key ed25519.PublicKey) (*headReader, error) {
	f, err := os.Open(filepath.Join(dir, headsName))
	if errors.Is(err, fs.ErrNotExist) {
		return &headReader{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("audit log: %w", err), f.Close())
	}
	return &headReader{key: key, file: f, lines: newForwards(io.NewSectionReader(f, 0, info.Size()), 0)}, nil
}

// peek returns the next head without passing it; io.EOF after the last. Half a
// line at the end was left by a kill: the gateway removes it.
func (r *headReader) peek() (*readHead, error) {
	if r.ahead != nil {
		return r.ahead, nil
	}
	if r.file == nil {
		return nil, io.EOF
	}
	line, err := r.lines.next()
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, io.EOF
	}
	h := &readHead{line: r.line + 1}
	if err == nil {
		h.Head, err = decodeHead(line)
	}
	switch {
	case errors.Is(err, ErrDamaged):
		h.Seq, h.problem = r.last+1, err.Error()
	case err != nil:
		return nil, err
	case !h.SignedBy(r.key):
		h.problem = "it isn't signed with the gateway's key: it was changed or forged"
	case h.Seq < r.last:
		h.problem = "it stands behind a newer one: it was put in or moved"
	default:
		r.last = h.Seq
	}
	r.line, r.ahead = h.line, h
	return h, nil
}

func (r *headReader) skip() { r.ahead = nil }

func (r *headReader) close() {
	if r.file != nil {
		_ = r.file.Close() // only read from
	}
}

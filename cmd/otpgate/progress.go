package main

import (
	"fmt"
	"io"
	"strings"
	"sync/atomic"
)

// counted counts what is read through it.
type counted struct {
	r io.Reader
	n atomic.Int64
}

// Read implements io.Reader.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// bar shows a person before a terminal how far something is.
type bar struct {
	w     io.Writer
	on    bool // w is a terminal
	shown bool
}

// draw shows that done of something, a share of the whole, are what is said.
func (b *bar) draw(what string, done int, share float64) {
	if !b.on {
		return
	}
	const width = 30
	full := int(width * min(max(share, 0), 1))
	fmt.Fprintf(b.w, "\r[%s%s] %3.0f %%  %d %s", strings.Repeat("#", full), strings.Repeat(" ", width-full), 100*share, done, what)
	b.shown = true
}

// clear takes it away.
func (b *bar) clear() {
	if b.shown {
		fmt.Fprint(b.w, "\r\x1b[K")
		b.shown = false
	}
}

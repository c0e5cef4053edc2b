package directory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// maxIdle is how long a connection waits for its next use. Firewalls forget
// quiet connections after a few minutes, and what is sent then vanishes.
const maxIdle = time.Minute

var errClosed = errors.New("the directory was closed")

// pool keeps connections of one kind to one server. How many there can be,
// maxAsking says: each request has one at a time.
type pool struct {
	open func(ctx context.Context) (*connection, error)
	now  func() time.Time

	mu     sync.Mutex // guards the below
	idle   []idle     // the one used last at the end
	closed bool
}

type idle struct {
	c     *connection
	since time.Time
}

// use has do ask over a connection. If an idle one turns out to be broken, do
// asks once more, over a new one.
func (p *pool) use(ctx context.Context, do func(*connection) error) error {
	c, err := p.take()
	if err != nil {
		return err
	}
	if c != nil {
		if err := p.try(ctx, c, do); err == nil || answered(err) || ctx.Err() != nil {
			return err
		}
		// What broke it, most likely the server's restart, broke the others too.
		p.drop()
	}
	if c, err = p.open(ctx); err != nil {
		return late(ctx, err)
	}
	return p.try(ctx, c, do)
}

// try has do ask over c, which goes back afterwards if it is still good.
func (p *pool) try(ctx context.Context, c *connection, do func(*connection) error) error {
	c.wire.allow(maxAnswer)
	stop := context.AfterFunc(ctx, c.close)
	err := do(c)
	if inTime := stop(); !inTime || (err != nil && !answered(err)) {
		c.close()
		return late(ctx, err)
	}
	p.give(c)
	return err
}

// late names the time-out that closed a connection, if that is why err is.
func late(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("no answer in time: %w (%w)", ctx.Err(), err)
	}
	return err
}

// take returns the connection that was used last, or nil.
func (p *pool) take() (*connection, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed
	}
	for n := len(p.idle) - 1; n >= 0; n-- {
		last := p.idle[n]
		p.idle = p.idle[:n]
		if p.now().Sub(last.since) < maxIdle && !last.c.IsClosing() {
			return last.c, nil
		}
		last.c.close()
	}
	return nil, nil
}

// give takes c back. The ones that have waited too long are closed.
func (p *pool) give(c *connection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.close()
		return
	}
	now := p.now()
	for len(p.idle) > 0 && now.Sub(p.idle[0].since) >= maxIdle {
		p.idle[0].c.close()
		p.idle = p.idle[1:]
	}
	p.idle = append(p.idle, idle{c, now})
}

// drop closes what is idle.
func (p *pool) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range p.idle {
		i.c.close()
	}
	p.idle = nil
}

// close closes what is idle now, and what is in use when it comes back.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.drop()
}

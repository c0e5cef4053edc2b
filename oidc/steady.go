package oidc

import (
	"sync"
	"time"
)

// steadyClock is a wall clock that never goes back. A used assertion is
// forgotten when it has expired, so it must not become valid again because
// somebody sets this machine's clock back. While the real clock is behind, this
// one goes on by the monotonic clock. Safe for concurrent use.
type steadyClock struct {
	mu      sync.Mutex // guards the rest
	reading time.Time  // the latest that was seen, with its monotonic reading
	steady  time.Time  // what it was taken for
}

// read returns the steady time at now, a reading of the real clock.
func (c *steadyClock) read(now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.After(c.reading) {
		if !c.reading.IsZero() {
			c.steady = c.steady.Add(now.Sub(c.reading))
		}
		c.reading = now
	}
	if wall := now.Round(0); wall.After(c.steady) { // without its monotonic reading
		c.steady = wall
	}
	return c.steady
}

package oidc

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestSteadyClockNeverGoesBack(t *testing.T) {
	var c steadyClock
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	for _, test := range []struct{ wall, want int }{{100, 100}, {105, 105}, {60, 105}, {80, 105}, {110, 110}, {4000, 4000}, {110, 4000}} {
		if got := c.read(at(test.wall)); !got.Equal(at(test.want)) {
			t.Errorf("at %d it shows %v, want %d", test.wall, got.Unix(), test.want)
		}
	}
	// With a monotonic reading it goes on while the wall clock is behind.
	synctest.Test(t, func(t *testing.T) {
		var c steadyClock
		first := c.read(time.Now())
		c.steady = c.steady.Add(time.Hour) // as if the wall clock had been an hour ahead
		time.Sleep(time.Minute)
		if got := c.read(time.Now()).Sub(first); got != time.Hour+time.Minute {
			t.Errorf("a minute later it shows %v", got)
		}
	})
}

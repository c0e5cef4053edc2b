package verifier_test

import (
	"strings"
	"testing"
	"time"

	"otpgate/verifier"
)

// A restore knows of a clock that was ahead by years, and doesn't keep everybody
// out for as long; one that was ahead a little counts.
func TestFloorUnderAClockAhead(t *testing.T) {
	for _, c := range []struct {
		ahead, floor time.Duration
	}{
		{0, 0},
		{verifier.MaxClockAhead, verifier.MaxClockAhead},
		{verifier.MaxClockAhead + time.Minute, 0},
		{10 * 365 * 24 * time.Hour, 0},
	} {
		g := newGate(t)
		g.newToken("hanako", "T1")
		g.advance(c.ahead)
		g.expect("hanako", g.code("T1", 0), verifier.Accepted)
		g.advance(-c.ahead)
		g.must(verifier.SetFloor(t.Context(), g.Records, g.now))
		got, err := verifier.ReadClock(t.Context(), g.Records, g.now)
		if err != nil || got.Floor.Sub(g.now).Round(time.Second) != c.floor || got.Behind().Round(time.Second) != c.ahead {
			t.Errorf("%v ahead: %+v, %v", c.ahead, got, err)
		}
	}
}

// The floor falls when a clerk says that our clock is right, to now and no lower,
// and by nothing else.
func TestAClerkLowersTheFloor(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	g.must(verifier.SetFloor(t.Context(), g.Records, g.now.AddDate(10, 0, 0))) // restored while our clock was ahead
	g.must(verifier.SetFloor(t.Context(), g.Records, g.now))
	shown := g.code("T1", 0)
	g.expect("hanako", shown, verifier.Replayed)
	_, err := g.AcceptClock(t.Context(), because("the clock was ahead at the restore"))
	g.must(err)
	if d := g.log.last().Detail; !strings.Contains(d, "the floor of the restore from 2036") {
		t.Errorf("the log says %q", d)
	}
	g.expect("hanako", shown, verifier.Replayed) // perhaps used before the restore
	g.advance(3 * time.Minute)
	g.expect("hanako", g.code("T1", 0), verifier.Accepted)
	if got, err := verifier.ReadClock(t.Context(), g.Records, g.now); err != nil || !got.Floor.Before(got.Now) {
		t.Errorf("%+v, %v", got, err)
	}
}

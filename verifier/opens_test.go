package verifier_test

import (
	"testing"
	"time"

	"otpgate/verifier"
)

// What people are told of the end of a lock is when it does end.
func TestWhenALockOpens(t *testing.T) {
	g := newGate(t)
	g.setLockout(verifier.Lockout{Consecutive: 3, UnlockAfter: 30 * time.Minute, LongRun: 5})
	g.newToken("hanako", "T1")
	if a := g.account("hanako"); !a.OpensAt.IsZero() || a.Locked() {
		t.Errorf("not locked, and it opens at %v", a.OpensAt)
	}
	for range 3 {
		g.expect("hanako", g.wrong("T1"), verifier.Wrong)
	}
	opens, err := g.OpensAt(t.Context(), "retail", "hanako")
	if want := g.now.Add(30 * time.Minute).Truncate(time.Second); err != nil || !opens.Equal(want) {
		t.Errorf("it opens at %v, want %v (%v)", opens, want, err)
	}
	g.advance(opens.Sub(g.now))
	g.expect("hanako", g.code("T1", 0), verifier.Accepted)

	// The lock of the long run has no timer.
	for range 2 {
		g.expect("hanako", g.wrong("T1"), verifier.Wrong)
	}
	if a := g.account("hanako"); a.Service != verifier.ServiceLocked || !a.OpensAt.IsZero() {
		t.Errorf("%s, opens at %v", a.Service, a.OpensAt)
	}
}

package oidc_test

import (
	"net/http"
	"testing"
	"time"

	"otpgate/oidc"
)

// wantReplayRefused pushes with an assertion that was used before.
func wantReplayRefused(t *testing.T, p *portal, assertion string, status int, code string) {
	t.Helper()
	wantRefused(t, p.push(map[string]string{"client_assertion": assertion}), status, code)
}

// A restart forgets which assertions were used, but not that they were, though
// the portal's clock may be ahead of ours or behind it.
func TestAssertionReplayAfterARestart(t *testing.T) {
	for _, skew := range []time.Duration{-9 * time.Second, 0, 9 * time.Second} {
		t.Run(skew.String(), func(t *testing.T) {
			g := newGate(t)
			made := func() map[string]any {
				now := g.now().Add(skew)
				return map[string]any{"iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()}
			}
			var used []string
			for range 10 {
				a := g.portal.assertion(made())
				used = append(used, a)
				g.portal.requestURI(map[string]string{"client_assertion": a})
				g.advance(700 * time.Millisecond)
			}
			g.restart()
			for _, wait := range []time.Duration{0, 5 * time.Second, time.Minute} {
				g.advance(wait)
				for _, a := range used {
					wantReplayRefused(t, g.portal, a, http.StatusServiceUnavailable, "temporarily_unavailable")
				}
			}
		})
	}
}

// A portal has to wait for hardly longer than the restart takes, by its own
// clock, whatever that of another portal shows.
func TestPortalsGoOnAfterARestart(t *testing.T) {
	for _, skew := range []time.Duration{-9 * time.Second, 0, 9 * time.Second} {
		g := newGate(t)
		fresh := func() map[string]string {
			now := g.now().Add(skew)
			return map[string]string{"client_assertion": g.portal.assertion(map[string]any{"iat": now.Unix(), "exp": now.Add(time.Minute).Unix()})}
		}
		g.portal.requestURI(fresh())
		g.other.requestURI(nil)
		g.restart()
		g.advance(2 * time.Second)
		for _, a := range []answer{g.portal.push(fresh()), g.other.push(nil)} {
			if a.status != http.StatusCreated {
				t.Errorf("clock %s off: %d %s", skew, a.status, a.body)
			}
		}
	}
	// Nor at the first start.
	newGate(t).portal.requestURI(nil)
}

// A backup knows nothing of what was used after it was made.
func TestAssertionReplayAfterARestore(t *testing.T) {
	g := newGate(t)
	ahead := g.portal.assertion(map[string]any{"iat": g.now().Add(9 * time.Second).Unix()})
	if err := oidc.SetFloor(t.Context(), g.records, g.now()); err != nil {
		t.Fatal(err)
	}
	g.restart()
	g.advance(5 * time.Second)
	wantReplayRefused(t, g.portal, ahead, http.StatusServiceUnavailable, "temporarily_unavailable")
	g.advance(6 * time.Second)
	g.portal.requestURI(nil)
}

// An assertion that has expired, and is forgotten, stays so when this machine's
// clock is set back.
func TestAssertionReplayWithTheClockSetBack(t *testing.T) {
	g := newGate(t)
	used := g.portal.assertion(nil)
	g.portal.requestURI(map[string]string{"client_assertion": used})
	g.advance(80 * time.Second)
	g.portal.requestURI(nil)
	g.advance(-50 * time.Second)
	wantReplayRefused(t, g.portal, used, http.StatusUnauthorized, "invalid_client")

	g.portal.requestURI(map[string]string{"client_assertion": g.portal.assertion(map[string]any{"exp": g.now().Add(2 * time.Minute).Unix()})})
}

package verifier_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"otpgate/verifier"
)

// What happened elsewhere must not happen here: one row for each, by the name
// it is known under. Not here: an activation credential used twice
// (CVE-2026-73431) belongs to the token app; that no client sets the clock
// (privacyIDEA) is seen from Attempt, which has no time; failing open (Duo) is
// TestNoDecisionWhenSomethingFails.
func TestHistory(t *testing.T) {
	for name, replay := range map[string]func(*testing.T, *gate){
		"replay through resynchronisation (CVE-2019-12887)": func(t *testing.T, g *gate) {
			first := g.code("T1", 20)
			g.expect("hanako", first, verifier.NextCode)
			g.advance(time.Minute)
			second := g.code("T1", 20)
			g.expect("hanako", second, verifier.Accepted)
			g.never(second, first, second)
		},
		"replay through fractional steps (multiOTP 261)": func(t *testing.T, g *gate) {
			code := g.code("T1", 0)
			g.expect("hanako", code, verifier.Accepted)
			for range 60 {
				g.advance(time.Second)
				g.never(code)
			}
		},
		"a locked token opened by two codes in one field (multiOTP)": func(t *testing.T, g *gate) {
			g.lock("hanako", "T1")
			now, next := g.code("T1", 0), g.code("T1", 1)
			g.never(now+" "+next, now+next, now, next)
		},
		"failures counted for each session (AuthQuake)": func(t *testing.T, g *gate) {
			evaluated := 0
			for _, session := range []string{"a", "b", "c"} {
				for range 10 {
					r, err := g.Verify(t.Context(), verifier.Attempt{
						Realm: "retail", User: "hanako", Match: verifier.Typed(g.wrong("T1")), Door: "oidc", Login: session,
					})
					g.must(err)
					if r.Outcome == verifier.Wrong {
						evaluated++
					}
				}
			}
			if evaluated != 10 {
				t.Errorf("%d guesses were evaluated in three sessions", evaluated)
			}
		},
		"two parallel uses of one code (CVE-2026-107276)": func(t *testing.T, g *gate) {
			if n := g.parallel("hanako", 200, func(int) string { return g.code("T1", 0) })[verifier.Accepted]; n != 1 {
				t.Errorf("%d accepted", n)
			}
		},
		"another flow ignores the lock (CVE-2018-14657, CVE-2026-9798)": func(t *testing.T, g *gate) {
			g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T2"})
			g.lock("hanako", "T1")
			r, err := g.Start(t.Context(), because("model"), "T2", verifier.Typed(g.code("T2", 0)))
			if err != nil || r.Outcome != verifier.Locked {
				t.Errorf("a locked user started a token: %v, %v", r.Outcome, err)
			}
			g.never(g.code("T1", 0))
		},
		"an empty code is right (privacyIDEA 5876)": func(t *testing.T, g *gate) {
			g.expect("hanako", g.code("T1", 0), verifier.Accepted)
			g.never("", " ", "-", "\u3000", "ー")
		},
		"a right code at a blocked token is answered differently": func(t *testing.T, g *gate) {
			g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T2"})
			for state, block := range map[string]func(){
				"locked":    func() { g.lock("hanako", "T1") },
				"suspended": func() { g.setState("T1", verifier.TokenSuspended) },
				"lost":      func() { g.setState("T1", verifier.Lost) },
				"released":  func() { g.setState("T1", verifier.Released) },
			} {
				g.unlock("hanako")
				g.setState("T1", verifier.InService)
				block()
				right, err := g.try("hanako", g.code("T1", 0))
				g.must(err)
				wrong, err := g.try("hanako", g.wrong("T1"))
				g.must(err)
				if !cmp.Equal(right, wrong) {
					t.Errorf("%s: right is answered %+v, wrong %+v", state, right, wrong)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t)
			g.newToken("hanako", "T1")
			replay(t, g)
		})
	}
}

// never tries codes that must not be accepted.
func (g *gate) never(typed ...string) {
	g.t.Helper()
	for _, code := range typed {
		r, err := g.try("hanako", code)
		g.must(err)
		if r.Outcome == verifier.Accepted {
			g.t.Errorf("%q was accepted", code)
		}
	}
}

// lock types wrong codes until the user is locked.
func (g *gate) lock(user, serial string) {
	g.t.Helper()
	for {
		r, err := g.try(user, g.wrong(serial))
		g.must(err)
		if r.Locked {
			return
		}
	}
}

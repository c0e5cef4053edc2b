package verifier_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"otpgate/internal/store"
	"otpgate/verifier"
)

// retrying is a gate whose realm has a failover grace of 5 s, and a NAS that
// shows the code of T1 again.
func retrying(t *testing.T) (*gate, verifier.Attempt) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	g.setGrace(5 * time.Second)
	return g, verifier.Attempt{
		Realm: "retail", User: "hanako", Match: verifier.Typed(g.code("T1", 0)),
		Door: "radius", Client: "vpn", From: "192.0.2.7", Resends: true,
	}
}

func (g *gate) setGrace(d time.Duration) {
	realm := g.Realms["retail"]
	realm.FailoverGrace = d
	g.Realms["retail"] = realm
}

func (g *gate) show(a verifier.Attempt, want verifier.Outcome) {
	g.t.Helper()
	r, err := g.Verify(g.t.Context(), a)
	if err != nil || r.Outcome != want {
		g.t.Fatalf("%v, %v; want %v", r.Outcome, err, want)
	}
}

func TestFailoverGraceIsOffByDefault(t *testing.T) {
	g, a := retrying(t)
	g.setGrace(0)
	g.show(a, verifier.Accepted)
	g.show(a, verifier.Replayed)
}

func TestFailoverGraceAcceptsOnceMore(t *testing.T) {
	g, a := retrying(t)
	g.show(a, verifier.Accepted)
	if e := g.log.last(); strings.Contains(e.Detail, "failover_grace") {
		t.Errorf("the first one: %q", e.Detail)
	}
	g.advance(5 * time.Second)
	g.reopen() // it is in the database, not in memory
	g.show(a, verifier.Accepted)
	if e := g.log.last(); e.Outcome != "accepted" || e.Serial != "T1" || !strings.HasPrefix(e.Detail, "again within failover_grace: ") {
		t.Errorf("in the audit log: %+v", e)
	}
	g.show(a, verifier.Replayed)
	if e := g.log.last(); e.Outcome != "replayed" {
		t.Errorf("in the audit log: %+v", e)
	}
	if failed := g.account("hanako").Failures; failed != 0 {
		t.Errorf("%d failures", failed)
	}
	a.Match = verifier.Typed(g.code("T1", 1)) // the next code has a grace of its own
	g.show(a, verifier.Accepted)
	g.show(a, verifier.Accepted)
	g.show(a, verifier.Replayed)
}

func TestFailoverGraceIsForTheSameGearOnly(t *testing.T) {
	for name, change := range map[string]func(*gate, *verifier.Attempt){
		"another client":  func(_ *gate, a *verifier.Attempt) { a.Client = "switch" },
		"another station": func(_ *gate, a *verifier.Attempt) { a.From = "192.0.2.8" },
		"no station":      func(_ *gate, a *verifier.Attempt) { a.From = "" },
		"another door":    func(_ *gate, a *verifier.Attempt) { a.Door = "oidc" },
		"a browser":       func(_ *gate, a *verifier.Attempt) { a.Resends = false },
		"too late":        func(g *gate, _ *verifier.Attempt) { g.advance(5*time.Second + time.Millisecond) },
		"turned off":      func(g *gate, _ *verifier.Attempt) { g.setGrace(0) },
		"restored since":  func(g *gate, _ *verifier.Attempt) { g.must(verifier.SetFloor(g.t.Context(), g.Records, g.now)) },
		"an older code": func(g *gate, a *verifier.Attempt) {
			newer := *a
			newer.Match = verifier.Typed(g.code("T1", 1))
			g.show(newer, verifier.Accepted)
		},
	} {
		t.Run(name, func(t *testing.T) {
			g, a := retrying(t)
			g.show(a, verifier.Accepted)
			change(g, &a)
			g.show(a, verifier.Replayed)
		})
	}
	t.Run("neither has a station", func(t *testing.T) {
		g, a := retrying(t)
		a.From = ""
		g.show(a, verifier.Accepted)
		g.show(a, verifier.Replayed)
	})
	t.Run("locked meanwhile", func(t *testing.T) {
		g, a := retrying(t)
		g.show(a, verifier.Accepted)
		wrong := a
		wrong.Match = verifier.Typed(g.wrong("T1"))
		for range 10 {
			g.show(wrong, verifier.Wrong)
		}
		g.show(a, verifier.Locked)
	})
	t.Run("a wrong code", func(t *testing.T) {
		g, a := retrying(t)
		g.show(a, verifier.Accepted)
		a.Match = verifier.Typed(g.wrong("T1"))
		g.show(a, verifier.Wrong)
	})
}

// However many come at the same time, also before the first is decided, two
// pass and no more.
func TestFailoverGraceUnderParallelRetries(t *testing.T) {
	g, a := retrying(t)
	var accepted, replayed atomic.Int32
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			r, err := g.Verify(t.Context(), a)
			switch {
			case err != nil:
				t.Error(err)
			case r.Outcome == verifier.Accepted:
				accepted.Add(1)
			case r.Outcome == verifier.Replayed:
				replayed.Add(1)
			}
		})
	}
	all.Wait()
	if accepted.Load() != 2 || replayed.Load() != 18 {
		t.Errorf("%d accepted, %d replayed; want 2 and 18", accepted.Load(), replayed.Load())
	}
}

// A record that is no record fails closed, without a panic.
func TestFailoverGraceOfADamagedRecord(t *testing.T) {
	for _, damaged := range []string{"\x00", "\x01", "\x01too short"} {
		g, a := retrying(t)
		g.show(a, verifier.Accepted)
		g.must(g.Records.Update(t.Context(), func(tx store.Txn) error { return tx.Put(store.Key("grace", "T1"), []byte(damaged)) }))
		if r, err := g.Verify(t.Context(), a); err == nil || r.Outcome == verifier.Accepted {
			t.Errorf("%q: %v, %v; want an error", damaged, r.Outcome, err)
		}
	}
}

package verifier_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"otpgate/verifier"
)

var atVPN = verifier.Attempt{Realm: "retail", User: "hanako", Door: "radius", Client: "vpn", From: "10.0.0.7"}

// newUnsetGate is a gate with hanako, who has a token T1 in service, no PIN, and a
// ticket to choose one.
func newUnsetGate(t *testing.T) (*gate, verifier.PINTicket) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	r := g.logIn("hanako", "whatever", g.code("T1", 0), verifier.Accepted)
	if !r.PINWanted || r.PINTicket == (verifier.PINTicket{}) {
		t.Fatalf("a code without a PIN: %+v", r)
	}
	g.logged("a PIN is to be chosen")
	if e := g.log.last(); e.Outcome != "pin_wanted" { // nobody is in yet
		t.Errorf("in the audit log as %s", e.Outcome)
	}
	return g, r.PINTicket
}

func (g *gate) choose(a verifier.Attempt, ticket verifier.PINTicket, pin string, want verifier.Outcome) verifier.Result {
	g.t.Helper()
	r, err := g.ChoosePIN(g.t.Context(), a, ticket, pin)
	if err != nil || r.Outcome != want {
		g.t.Fatalf("chosen: %v, %v (%s); want %v", r.Outcome, err, g.log.last().Detail, want)
	}
	return r
}

func TestAPINIsChosenAfterACode(t *testing.T) {
	g, ticket := newUnsetGate(t)
	_, _, err := g.SetGroups(t.Context(), because(""), "retail", "hanako", []string{"vpn"})
	g.must(err)
	for _, pin := range []string{"1234", "777777", "12", "abcdef"} { // typed anew: the ticket stays
		var refusal *verifier.Refusal
		if _, err := g.ChoosePIN(t.Context(), atVPN, ticket, pin); !errors.As(err, &refusal) {
			t.Errorf("%s: %v", pin, err)
		}
	}
	g.reopen() // another node would do as well
	g.advance(2 * time.Minute)
	r := g.choose(atVPN, ticket, goodPIN, verifier.Accepted)
	if len(r.Groups) != 1 || r.PINWanted {
		t.Errorf("accepted: %+v", r)
	}
	if e := g.log.last(); e.Event != "user.choose_pin" || e.Outcome != "accepted" || e.User != "hanako" || e.Client != "vpn" || e.From != "10.0.0.7" {
		t.Errorf("audit: %+v", e)
	}
	g.logIn("hanako", "864209", g.code("T1", 0), verifier.WrongFirstFactor)
	r = g.logIn("hanako", goodPIN, g.code("T1", 0), verifier.Accepted)
	if r.PINWanted || r.PINTicket != (verifier.PINTicket{}) {
		t.Errorf("who has a PIN is asked for one: %+v", r)
	}
}

// Only an accepted code lets anybody choose a PIN.
func TestNoCodeNoTicket(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	g.addUser("bare")
	used := g.code("T1", 0)
	g.expect("hanako", used, verifier.Accepted)
	for user, code := range map[string]string{"hanako": g.wrong("T1"), "bare": "0", "nobody": "0"} {
		if r := g.verify(user, code, verifier.FirstFactor{Kind: verifier.FactorPIN, Verdict: verifier.FactorUnset}); r.PINWanted ||
			r.PINTicket != (verifier.PINTicket{}) || r.Outcome == verifier.Accepted {
			t.Errorf("%s: %+v", user, r)
		}
	}
	if r := g.logIn("hanako", "", used, verifier.Replayed); r.PINTicket != (verifier.PINTicket{}) {
		t.Errorf("a replayed code: %+v", r)
	}
	g.advance(time.Minute)
	if r := g.expect("hanako", g.code("T1", 0), verifier.Accepted); r.PINWanted || r.PINTicket != (verifier.PINTicket{}) {
		t.Errorf("a door that asks for no PIN: %+v", r)
	}
	g.choose(atVPN, verifier.PINTicket{}, goodPIN, verifier.WrongFirstFactor)
	g.choose(atVPN, verifier.PINTicket{1}, goodPIN, verifier.WrongFirstFactor)
	for _, user := range []string{"nobody", "", "hanako\x00"} {
		other := atVPN
		other.User = user
		g.choose(other, verifier.PINTicket{1}, goodPIN, verifier.WrongFirstFactor)
	}
	if a := g.account("hanako"); !a.PIN.Set.IsZero() {
		t.Error("hanako has a PIN")
	}
}

func TestWhatEndsATicket(t *testing.T) {
	for name, end := range map[string]func(*gate, verifier.PINTicket){
		"time":    func(g *gate, _ verifier.PINTicket) { g.advance(3 * time.Minute) },
		"its use": func(g *gate, ticket verifier.PINTicket) { g.choose(atVPN, ticket, goodPIN, verifier.Accepted) },
		"use, then cleared": func(g *gate, ticket verifier.PINTicket) {
			g.choose(atVPN, ticket, goodPIN, verifier.Accepted)
			_, err := g.ClearPIN(g.t.Context(), because("forgotten"), "retail", "hanako")
			g.must(err)
		},
		"a clerk's PIN": func(g *gate, _ verifier.PINTicket) { g.setPIN("hanako", goodPIN) },
		"a clerk's PIN, then cleared": func(g *gate, _ verifier.PINTicket) {
			g.setPIN("hanako", goodPIN)
			_, err := g.ClearPIN(g.t.Context(), because("forgotten"), "retail", "hanako")
			g.must(err)
		},
		"a newer ticket": func(g *gate, _ verifier.PINTicket) {
			g.advance(time.Minute)
			g.logIn("hanako", "", g.code("T1", 0), verifier.Accepted)
		},
		"a stolen token": func(g *gate, _ verifier.PINTicket) {
			g.step(g.Suspend(g.t.Context(), because("stolen"), "T1"))
		},
		"a lock": func(g *gate, _ verifier.PINTicket) {
			for range 10 {
				g.expect("hanako", g.wrong("T1"), verifier.Wrong)
			}
		},
		"a restore": func(g *gate, _ verifier.PINTicket) {
			g.must(verifier.SetFloor(g.t.Context(), g.Records, g.now))
		},
	} {
		t.Run(name, func(t *testing.T) {
			g, ticket := newUnsetGate(t)
			end(g, ticket)
			before := g.account("hanako").PIN.Set
			g.advance(time.Second)
			g.choose(atVPN, ticket, "864209", verifier.WrongFirstFactor)
			if set := g.account("hanako").PIN.Set; !set.Equal(before) {
				t.Errorf("the PIN was set at %v, after %v", set, before)
			}
		})
	}
	t.Run("another user's", func(t *testing.T) {
		g, ticket := newUnsetGate(t)
		g.newToken("taro", "T2")
		taro := atVPN
		taro.User = "taro"
		g.choose(taro, ticket, goodPIN, verifier.WrongFirstFactor)
		g.logIn("taro", "", g.code("T2", 0), verifier.Accepted) // with a ticket of his own
		g.choose(taro, ticket, goodPIN, verifier.WrongFirstFactor)
		if !g.account("taro").PIN.Set.IsZero() {
			t.Error("hanako's code gave taro a PIN")
		}
		g.choose(atVPN, ticket, goodPIN, verifier.Accepted)
	})
}

func TestParallelUsesOfOneTicket(t *testing.T) {
	g, ticket := newUnsetGate(t)
	var all sync.WaitGroup
	var accepted atomic.Int32
	for range 20 {
		all.Go(func() {
			r, err := g.ChoosePIN(t.Context(), atVPN, ticket, goodPIN)
			if err != nil {
				t.Error(err)
			}
			if r.Outcome == verifier.Accepted {
				accepted.Add(1)
			}
		})
	}
	all.Wait()
	if n := accepted.Load(); n != 1 {
		t.Errorf("one ticket let %d people in", n)
	}
}

func TestNoPINIsChosenWhenSomethingFails(t *testing.T) {
	broken := errors.New("disk on fire")
	g, ticket := newUnsetGate(t)
	records := g.Records
	g.Records = &hookedStore{Records: records, fail: broken}
	if r, err := g.ChoosePIN(t.Context(), atVPN, ticket, goodPIN); !errors.Is(err, verifier.ErrNoDecision) || r.Outcome != "" {
		t.Errorf("not on disk: %v, %v", r.Outcome, err)
	}
	g.Records = records
	g.now = g.now.Add(-time.Minute)
	if r, err := g.ChoosePIN(t.Context(), atVPN, ticket, goodPIN); !errors.Is(err, verifier.ErrClockBehind) || r.Outcome != "" {
		t.Errorf("our clock is behind: %v, %v", r.Outcome, err)
	}
	g.now = g.now.Add(time.Minute)
	g.log.fail = broken
	if r, err := g.ChoosePIN(t.Context(), atVPN, ticket, goodPIN); !errors.Is(err, verifier.ErrNoDecision) || r.Outcome != "" {
		t.Errorf("not in the audit log: %v, %v", r.Outcome, err)
	}
	g.log.fail = nil
	g.choose(atVPN, ticket, goodPIN, verifier.WrongFirstFactor) // it was used all the same
}

// Gear that turns to its second server with a code that was just accepted has
// the person choose a PIN there.
func TestATicketAgainWithinTheGrace(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	retail := g.Realms["retail"]
	retail.FailoverGrace = 10 * time.Second
	g.Realms["retail"] = retail
	a := atVPN
	a.Match, a.Resends = verifier.Typed(g.code("T1", 0)), true
	a.FirstFactor = verifier.FirstFactor{Kind: verifier.FactorPIN, Verdict: verifier.FactorUnset}
	first, err := g.Verify(t.Context(), a)
	g.must(err)
	second, err := g.Verify(t.Context(), a)
	g.must(err)
	if second.Outcome != verifier.Accepted || !second.PINWanted || second.PINTicket == first.PINTicket {
		t.Fatalf("first %+v, then %+v", first, second)
	}
	g.choose(atVPN, first.PINTicket, goodPIN, verifier.WrongFirstFactor)
	g.choose(atVPN, second.PINTicket, goodPIN, verifier.Accepted)
}

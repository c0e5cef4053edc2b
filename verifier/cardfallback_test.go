package verifier_test

import (
	"errors"
	"testing"
	"time"

	"otpgate/verifier"
)

func (g *cardGate) openFallback(d time.Duration) {
	g.t.Helper()
	_, _, err := g.OpenFallback(g.t.Context(), branch, "retail", "hanako", g.now.Add(d))
	g.must(err)
}

func (g *cardGate) wantState(want verifier.ServiceState) {
	g.t.Helper()
	if s, err := g.State(g.t.Context(), "retail", "hanako"); err != nil || s != want {
		g.t.Errorf("the service is %s, %v; want %s", s, err, want)
	}
}

func TestCellsInPlaceOfACodeUntilADate(t *testing.T) {
	g := newCardGate(t)
	g.answer(verifier.CardFallback, true, verifier.NoFallback)
	g.wantState(verifier.ServiceNone)

	info, receipt, err := g.OpenFallback(t.Context(), branch, "retail", "hanako", g.now.Add(14*day))
	g.must(err)
	if !info.Fallback.Until.Equal(g.now.Add(14*day)) || receipt.Number == "" {
		t.Errorf("opened: %+v, receipt %+v", info.Fallback, receipt)
	}
	if e := g.log.entries[len(g.log.entries)-1]; e.Event != "card.open_fallback" || e.Detail != "until 2026-12-06T14:05:09Z; "+branch.Reason {
		t.Errorf("audit: %+v", e)
	}
	g.wantState(verifier.ServiceCardFallback)
	g.answer(verifier.CardFallback, true, verifier.Accepted)
	g.reopen()
	g.advance(14*day - time.Second)
	g.wantState(verifier.ServiceCardFallback)
	g.answer(verifier.CardFallback, true, verifier.Accepted)
	g.advance(time.Second)
	g.wantState(verifier.ServiceNone)
	g.answer(verifier.CardFallback, true, verifier.NoFallback)
	if n := g.info().WrongOfLate; n != 0 {
		t.Errorf("%d were counted as wrong", n)
	}
	g.answer(verifier.CardConfirm, true, verifier.Accepted) // for a step it goes on
}

// Confirming a step and logging in share one count: neither is a way around it.
func TestThePurposesShareTheirTries(t *testing.T) {
	g := newCardGate(t)
	g.openFallback(day)
	g.answer(verifier.CardFallback, false, verifier.Wrong)
	g.answer(verifier.CardConfirm, false, verifier.Wrong)
	g.answer(verifier.CardFallback, false, verifier.Wrong)
	g.answer(verifier.CardConfirm, true, verifier.Locked)
	g.answer(verifier.CardFallback, true, verifier.Locked)
}

func TestATokenInServiceShutsTheFallback(t *testing.T) {
	g := newCardGate(t)
	g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T1", InService: true})
	_, _, err := g.OpenFallback(t.Context(), branch, "retail", "hanako", g.now.Add(day))
	g.refused(err, "token T1 is in service")

	g.suspend("T1")
	g.openFallback(7 * day)
	g.wantState(verifier.ServiceCardFallback)
	g.answer(verifier.CardFallback, true, verifier.Accepted)

	g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T2"})
	g.answer(verifier.CardFallback, true, verifier.Accepted) // it came by post, and isn't registered
	g.start("T2")
	g.wantState(verifier.ServiceInService)
	g.answer(verifier.CardFallback, true, verifier.NoFallback)
	g.suspend("T2") // the branch's word was for the time until T2 came, not for now
	g.answer(verifier.CardFallback, true, verifier.NoFallback)
	g.wantState(verifier.ServiceSuspended)
}

func TestAClerkClosesTheFallback(t *testing.T) {
	g := newCardGate(t)
	_, _, err := g.CloseFallback(t.Context(), branch, "retail", "hanako")
	g.refused(err, "no card fallback is open")
	g.openFallback(day)
	info, receipt, err := g.CloseFallback(t.Context(), branch, "retail", "hanako")
	if err != nil || !info.Fallback.Until.IsZero() || receipt.Number == "" {
		t.Errorf("closed: %+v, %+v, %v", info.Fallback, receipt, err)
	}
	g.answer(verifier.CardFallback, true, verifier.NoFallback)
}

func TestFallbacksThatAreNotOpened(t *testing.T) {
	g := newCardGate(t)
	open := func(by verifier.By, user string, d time.Duration) error {
		_, _, err := g.OpenFallback(t.Context(), by, "retail", user, g.now.Add(d))
		return err
	}
	g.refused(open(branch, "hanako", 14*day+time.Second), "may last until 2026-12-06T14:05:09Z")
	g.refused(open(branch, "hanako", 0), "would be over already")
	g.refused(open(branch, "hanako", -day), "would be over already")
	g.refused(open(verifier.By{Who: "clerk"}, "hanako", day), "needs a reason")
	g.refused(open(branch, "nobody", day), "there is no user")
	g.newToken("jiro", "T1")
	g.refused(open(branch, "jiro", day), "has no confirmation card")
	for range 3 {
		g.answer(verifier.CardConfirm, false, verifier.Wrong)
	}
	g.refused(open(branch, "hanako", day), "is locked: otpgate card unlock opens it")
	g.wantState(verifier.ServiceNone)
}

func TestALockedUserHasNoFallback(t *testing.T) {
	g := newCardGate(t)
	g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T1", InService: true})
	for range 10 {
		g.expect("hanako", g.wrong("T1"), verifier.Wrong)
	}
	g.suspend("T1")
	_, _, err := g.OpenFallback(t.Context(), branch, "retail", "hanako", g.now.Add(day))
	g.refused(err, "otpgate user unlock opens it")
}

func TestCardsThatTheRealmNoLongerHas(t *testing.T) {
	g := newCardGate(t)
	g.openFallback(day)
	c := g.challenge()
	realm := g.Realms["retail"]
	realm.Card = nil
	g.Realms["retail"] = realm
	g.wantState(verifier.ServiceNone)
	if _, err := g.Challenge(t.Context(), "retail", "hanako"); !errors.Is(err, verifier.ErrNoCard) {
		t.Errorf("challenge: %v", err)
	}
	if r := g.confirm(verifier.CardAttempt{Purpose: verifier.CardFallback, Challenge: c.Number, Answers: g.right(c)}); r.Outcome != verifier.NoCard {
		t.Errorf("%s", r.Outcome)
	}
}

package verifier_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"otpgate/verifier"
)

var wrongFactors = map[string]verifier.FirstFactor{
	"pin":    {Kind: verifier.FactorPIN, Verdict: verifier.FactorWrong},
	"ldap":   {Kind: verifier.FactorLDAP, Verdict: verifier.FactorWrong},
	"radius": {Kind: verifier.FactorRADIUS, Verdict: verifier.FactorWrong},
}

// spySealer notes whose secrets are opened.
type spySealer struct {
	verifier.Sealer
	opened []string
}

func (s *spySealer) Open(recordKey, purpose string, sealed []byte) ([]byte, error) {
	s.opened = append(s.opened, recordKey)
	return s.Sealer.Open(recordKey, purpose, sealed)
}

// A wrong first factor leaves the token as it was, whatever is shown with it: no
// key is opened, nothing is compared, used up, counted or noted.
func TestAWrongFirstFactorNeverReachesTheCode(t *testing.T) {
	for kind, factor := range wrongFactors {
		t.Run(kind, func(t *testing.T) {
			g := newPINGate(t)
			g.setLockout(verifier.Lockout{Consecutive: 10, LongRun: 5})
			g.newToken("taro", "T2")
			g.step(g.MarkUnusable(t.Context(), because("stolen"), "T2", verifier.CauseStolen))
			before := g.account("hanako")
			spy := &spySealer{Sealer: g.Seal}
			g.Seal = spy
			for range 12 {
				r, err := g.Verify(t.Context(), verifier.Attempt{
					Realm: "retail", User: "hanako", FirstFactor: factor, Match: func(string) bool { return true }, Door: "radius",
				})
				if err != nil || !cmp.Equal(r, verifier.Result{Outcome: verifier.WrongFirstFactor, At: g.now}) {
					t.Fatalf("%+v, %v", r, err)
				}
			}
			g.verify("hanako", g.code("T1", 0), factor)
			g.verify("hanako", g.code("T1", 5), factor) // would be asked for the next code
			g.verify("taro", g.code("T2", 0), factor)
			if len(spy.opened) > 0 {
				t.Errorf("opened: %q", spy.opened)
			}
			after := g.account("hanako")
			after.PIN, before.PIN = verifier.PINInfo{}, verifier.PINInfo{}
			if !cmp.Equal(after, before) {
				t.Errorf("a wrong first factor changed the user:\n%s", cmp.Diff(before, after))
			}
			if taro := g.account("taro"); !taro.Tokens[0].TriedAt.IsZero() {
				t.Error("a lost token was looked at")
			}
			g.expect("hanako", g.code("T1", 0), verifier.Accepted)
		})
	}
}

// Whoever it is, and whatever was wrong, the answer to a wrong first factor is
// the same, and so is the work: a transaction that writes, an audit entry, as many
// candidates as behind a right one. The audit log knows more.
func TestWrongFirstFactorsLookAlike(t *testing.T) {
	g := newPINGate(t)
	g.addUser("bare")
	g.newToken("suspended", "T2")
	g.step(g.Suspend(t.Context(), because("holiday"), "T2"))
	g.addUser("fresh")
	g.create(verifier.NewToken{Realm: "retail", User: "fresh", Serial: "T3"})
	g.newToken("locked", "T4")
	g.lock("locked", "T4")
	compared := 0
	try := func(user string, f verifier.FirstFactor) (verifier.Result, error) {
		compared = 0
		return g.Verify(t.Context(), verifier.Attempt{
			Realm: "retail", User: user, FirstFactor: f, Match: func(string) bool { compared++; return false },
		})
	}
	commits, updates := &countingStore{Records: g.Records}, 0
	g.Records = &hookedStore{Records: commits, beforeUpdate: func(*hookedStore) { updates++ }}
	for kind, factor := range wrongFactors {
		for user, reason := range map[string]string{
			"hanako": "wrong first factor: " + kind, "nobody": "no such user", "bare": "no usable token", "suspended": "the token is suspended",
			"fresh": "never started", "locked": "the user is locked since",
			"nul\x00byte": "no such user", "": "no such user", strings.Repeat("x", 300): "no such user",
		} {
			g.must1(try(user, verifier.FirstFactor{Kind: verifier.FactorLDAP, Verdict: verifier.FactorRight}))
			usual, entries := compared, len(g.log.entries)
			updates, commits.writes = 0, 0
			r, err := try(user, factor)
			if err != nil || !cmp.Equal(r, verifier.Result{Outcome: verifier.WrongFirstFactor, At: g.now}) {
				t.Errorf("%s, %.20q: %+v, %v", kind, user, r, err)
			}
			if updates != 1 || commits.writes == 0 || len(g.log.entries) != entries+1 || compared != usual || compared == 0 {
				t.Errorf("%s, %.20q: %d transactions, %d written, %d logged, %d compared; behind a right password %d", kind, user, updates, commits.writes,
					len(g.log.entries)-entries, compared, usual)
			}
			if e := g.log.last(); e.Outcome != "wrong_first_factor" || !strings.Contains(e.Detail, "wrong first factor: "+kind) || !strings.Contains(e.Detail, reason) {
				t.Errorf("%s, %.20q: the audit log has %s: %q", kind, user, e.Outcome, e.Detail)
			}
		}
	}
}

func TestARightPasswordAndACode(t *testing.T) {
	g := newPINGate(t)
	for _, kind := range []verifier.FactorKind{verifier.FactorLDAP, verifier.FactorRADIUS} {
		right := verifier.FirstFactor{Kind: kind, Verdict: verifier.FactorRight}
		if r := g.verify("hanako", g.wrong("T1"), right); r.Outcome != verifier.Wrong {
			t.Errorf("%s and a wrong code: %v", kind, r.Outcome)
		}
		if r := g.verify("hanako", g.code("T1", 0), right); r.Outcome != verifier.Accepted || r.PINWanted {
			t.Errorf("%s and a right code: %+v", kind, r)
		}
		g.logged("first factor: " + string(kind))
		if r := g.verify("hanako", g.code("T1", 0), right); r.Outcome != verifier.Replayed {
			t.Errorf("%s and a used code: %v", kind, r.Outcome)
		}
		g.advance(time.Minute)
	}
}

// What no door should ever say lets nobody pass.
func TestFirstFactorsThatMakeNoSense(t *testing.T) {
	g := newPINGate(t)
	for name, factor := range map[string]verifier.FirstFactor{
		"no kind":            {Verdict: verifier.FactorRight},
		"no kind, unset":     {Verdict: verifier.FactorUnset},
		"no kind, vouches":   {Vouches: true},
		"no verdict":         {Kind: verifier.FactorPIN},
		"an unknown kind":    {Kind: "magic", Verdict: verifier.FactorRight},
		"an unknown verdict": {Kind: verifier.FactorLDAP, Verdict: 99},
		"unset password":     {Kind: verifier.FactorLDAP, Verdict: verifier.FactorUnset},
		"a PIN vouches":      {Kind: verifier.FactorPIN, Verdict: verifier.FactorRight, Vouches: true},
		"LDAP vouches":       {Kind: verifier.FactorLDAP, Verdict: verifier.FactorRight, Vouches: true},
		"wrong, but vouches": {Kind: verifier.FactorRADIUS, Verdict: verifier.FactorWrong, Vouches: true},
		"unset, but vouches": {Kind: verifier.FactorRADIUS, Verdict: verifier.FactorUnset, Vouches: true},
	} {
		for _, user := range []string{"hanako", "nobody"} {
			if r := g.verify(user, g.code("T1", 0), factor); !cmp.Equal(r, verifier.Result{Outcome: verifier.WrongFirstFactor, At: g.now}) {
				t.Errorf("%s, %s: %+v", name, user, r)
			}
		}
	}
	g.expect("hanako", g.code("T1", 0), verifier.Accepted)
}

// Another server's word is enough for who is known here, but has no token that
// could show a code, and for nobody else. By how many names that server knows
// somebody, nobody here can say.
func TestWhomAnotherServerVouchesFor(t *testing.T) {
	g := newGate(t)
	apply := func(user string) {
		_, _, err := g.Apply(t.Context(), verifier.By{Who: "clerk", Form: "A-1"}, "retail", user)
		g.must(err)
	}
	with := func(user, serial string, steps ...func(serial string)) {
		g.newToken(user, serial)
		for _, step := range steps {
			step(serial)
		}
	}
	release := func(serial string) { g.step(g.Release(t.Context(), because("left"), serial)) }
	suspend := func(serial string) { g.step(g.Suspend(t.Context(), because("left"), serial)) }
	lose := func(serial string) {
		g.step(g.MarkUnusable(t.Context(), because("taxi"), serial, verifier.CauseLost))
	}
	ruin := func(serial string) {
		g.step(g.MarkUnusable(t.Context(), because("taxi"), serial, verifier.CauseBroken))
	}
	g.addUser("bare")
	_, _, err := g.SetGroups(t.Context(), because(""), "retail", "bare", []string{"vpn"})
	g.must(err)
	apply("applied")
	g.addUser("issued")
	g.create(verifier.NewToken{Realm: "retail", User: "issued", Serial: "T1"})
	with("released", "T2", release)
	with("in service", "T3")
	with("suspended", "T4", suspend)
	with("lost", "T5", lose)
	with("broken", "T6", ruin)
	with("lost, then issued", "T7", lose)
	g.create(verifier.NewToken{Realm: "retail", User: "lost, then issued", Serial: "T8"})
	g.addUser("back in stock")
	g.create(verifier.NewToken{Realm: "retail", User: "back in stock", Serial: "T10"})
	release("T10")
	with("left, then issued", "T11", release)
	g.create(verifier.NewToken{Realm: "retail", User: "left, then issued", Serial: "T12"})
	with("left while suspended", "T13", suspend, release)
	with("gone", "T14", release)
	_, err = g.RemoveUser(t.Context(), because("left"), "retail", "gone")
	g.must(err)
	with("locked", "T9")
	g.lock("locked", "T9")
	release("T9")

	for user, want := range map[string]bool{
		"nobody": false, "BARE": false, "bare@bank.example": false, `BANK\in service`: false, "In Service": false, "gone": false,
		"bare": true, "applied": true, "issued": true, "back in stock": true,
		"in service": false, "suspended": false, "lost": false, "broken": false, "lost, then issued": false, "locked": false,
		"released": false, "left, then issued": false, "left while suspended": false,
		"nul\x00byte": false, "": false,
	} {
		entries := len(g.log.entries)
		r, err := g.Verify(t.Context(), verifier.Attempt{
			Realm: "retail", User: user, Door: "radius",
			FirstFactor: verifier.FirstFactor{Kind: verifier.FactorRADIUS, Name: "old", Verdict: verifier.FactorRight, Vouches: true},
			Match:       func(string) bool { t.Errorf("%s: a code was compared", user); return true },
		})
		expected := verifier.Result{Outcome: verifier.WrongFirstFactor, At: g.now}
		if want {
			expected.Outcome = verifier.Accepted
		}
		if user == "bare" {
			expected.Groups = []string{"vpn"}
		}
		if err != nil || !cmp.Equal(r, expected) || len(g.log.entries) != entries+1 {
			t.Errorf("%.20q: %+v, %v; want %+v", user, r, err, expected)
		}
		g.logged("another RADIUS server (old (radius)) vouches for the user")
		outcome := string(expected.Outcome)
		if want {
			outcome = "vouched"
		}
		if e := g.log.last(); e.Outcome != outcome {
			t.Errorf("%.20q is in the audit log as %s, want %s", user, e.Outcome, outcome)
		}
		if may, err := g.MayBeVouchedFor(t.Context(), "retail", user); err != nil || may != want {
			t.Errorf("%.20q may be vouched for: %v, %v; want %v", user, may, err, want)
		}
	}
	g.expect("in service", g.code("T3", 0), verifier.Accepted)
}

// A token that comes into service while the other server is asked ends its word.
func TestATokenStartedMeanwhileEndsVouching(t *testing.T) {
	g := newGate(t)
	g.addUser("hanako")
	records := g.Records
	g.Records = &hookedStore{Records: records, beforeUpdate: func(h *hookedStore) {
		h.beforeUpdate = nil
		g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T1", InService: true})
	}}
	r := g.verify("hanako", "", verifier.FirstFactor{Kind: verifier.FactorRADIUS, Verdict: verifier.FactorRight, Vouches: true})
	if r.Outcome != verifier.WrongFirstFactor {
		t.Errorf("accepted without a code: %+v", r)
	}
}

// Guesses at the first factors of many people are counted in the realm, as guesses
// at codes are: once each, at the step at which they were wrong.
func TestTheRealmsAlarmAtWrongFirstFactors(t *testing.T) {
	for kind, wrong := range wrongFactors {
		for _, noted := range []bool{false, true} {
			g := newGate(t)
			g.setLockout(verifier.Lockout{Consecutive: 10, RealmAlarm: 10})
			for n := range 10 {
				if n == 9 && g.alarms() != 0 {
					t.Errorf("%s, noted %t: an alarm before the tenth", kind, noted)
				}
				user := string(rune('a'+n)) + "-user"
				g.newToken(user, "T"+string(rune('a'+n)))
				g.setPIN(user, goodPIN)
				a := verifier.Attempt{Realm: "retail", User: user, FirstFactor: wrong, Match: verifier.Typed("0")}
				if noted {
					g.must(g.NoteFirstFactor(t.Context(), a))
					a.FactorNoted = true
				}
				g.must1(g.Verify(t.Context(), a))
			}
			if n := g.alarms(); n != 1 {
				t.Errorf("%s, noted %t: %d alarms", kind, noted, n)
			}
		}
	}
}

// Whoever guesses passwords and never goes on to the code is seen; nobody can tell
// by the work how the guess was, and it is counted against nobody.
func TestNotedFirstFactors(t *testing.T) {
	g := newPINGate(t)
	commits := &countingStore{Records: g.Records}
	g.Records = commits
	before := g.account("hanako")
	for _, test := range []struct {
		user, want string
		factor     verifier.FirstFactor
	}{
		{"hanako", "right", g.checkPIN("hanako", goodPIN)},
		{"hanako", "wrong", g.checkPIN("hanako", "000000")},
		{"hanako", "unset", verifier.FirstFactor{Kind: verifier.FactorPIN, Verdict: verifier.FactorUnset}},
		{"hanako", "right", verifier.FirstFactor{Kind: verifier.FactorLDAP, Verdict: verifier.FactorRight}},
		{"hanako", "wrong", wrongFactors["ldap"]},
		{"nobody", "wrong", wrongFactors["radius"]},
	} {
		commits.writes = 0
		entries := len(g.log.entries)
		g.must(g.NoteFirstFactor(t.Context(), verifier.Attempt{
			Realm: "retail", User: test.user, FirstFactor: test.factor, Door: "radius", Client: "vpn", From: "10.0.0.7",
		}))
		e := g.log.last()
		if commits.writes != 1 || len(g.log.entries) != entries+1 || e.Event != "first_factor" || e.Outcome != test.want ||
			e.User != test.user || e.Client != "vpn" || e.From != "10.0.0.7" || !strings.Contains(e.Detail, string(test.factor.Kind)) {
			t.Errorf("%+v: %d written, %d logged: %+v", test, commits.writes, len(g.log.entries)-entries, e)
		}
	}
	if after := g.account("hanako"); !cmp.Equal(after, before) {
		t.Errorf("it changed the user:\n%s", cmp.Diff(before, after))
	}
	g.log.fail = errors.New("disk on fire")
	if err := g.NoteFirstFactor(t.Context(), verifier.Attempt{Realm: "retail", User: "hanako"}); !errors.Is(err, verifier.ErrNoDecision) {
		t.Errorf("not in the audit log: %v", err)
	}
	g.log.fail = nil
	if err := g.NoteFirstFactor(t.Context(), verifier.Attempt{Realm: "nowhere", User: "hanako"}); !errors.Is(err, verifier.ErrNoDecision) {
		t.Errorf("in no realm: %v", err)
	}
}

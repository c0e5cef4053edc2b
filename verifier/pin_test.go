package verifier_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"otpgate/internal/store"
	"otpgate/verifier"
	"otpgate/verifier/otp"
)

const goodPIN = "739105"

// newPINGate is a gate with hanako, who has a token T1 in service and a PIN.
func newPINGate(t *testing.T) *gate {
	g := newGate(t)
	g.newToken("hanako", "T1")
	g.setPIN("hanako", goodPIN)
	return g
}

func (g *gate) setPIN(user, pin string) {
	g.t.Helper()
	_, err := g.SetPIN(g.t.Context(), because("form 9"), "retail", user, pin)
	g.must(err)
}

func (g *gate) checkPIN(user, pin string) verifier.FirstFactor {
	g.t.Helper()
	f, err := g.CheckPIN(g.t.Context(), "retail", user, pin)
	g.must(err)
	return f
}

// verify is a try with a first factor.
func (g *gate) verify(user, typed string, f verifier.FirstFactor) verifier.Result {
	g.t.Helper()
	r, err := g.Verify(g.t.Context(), verifier.Attempt{
		Realm: "retail", User: user, Match: verifier.Typed(typed), FirstFactor: f, Door: "radius", Client: "vpn",
	})
	g.must(err)
	return r
}

// logIn is a whole log-in with a PIN.
func (g *gate) logIn(user, pin, code string, want verifier.Outcome) verifier.Result {
	g.t.Helper()
	r := g.verify(user, code, g.checkPIN(user, pin))
	if r.Outcome != want {
		g.t.Fatalf("%s with a PIN: %v (%s), want %v", user, r.Outcome, g.log.last().Detail, want)
	}
	return r
}

func (g *gate) logged(want string) {
	g.t.Helper()
	if e := g.log.last(); !strings.Contains(e.Detail, want) {
		g.t.Errorf("the audit log has %q, and nothing of %q", e.Detail, want)
	}
}

func TestAllowedPINs(t *testing.T) {
	for pin, want := range map[string]bool{
		"7391": true, "739105": true, "739105739105": true, "1212": true, "1233": true, "７３９１": true, "73-91": true, "0246": true,
		"": false, "739": false, "7391057391051": false, "73a1": false, "+7391": false, "٧٣٩١": false,
		"0000": false, "777777": false, "1234": false, "4321": false, "7890": false, "0987": false, "98765432": false, "１２３４": false,
	} {
		err := verifier.AllowedPIN(pin)
		if (err == nil) != want {
			t.Errorf("%q: %v", pin, err)
		}
		if refusal := (*verifier.Refusal)(nil); err != nil && (!errors.As(err, &refusal) || pin != "" && strings.Contains(err.Error(), pin)) {
			t.Errorf("%q: %v must be a refusal that doesn't say it", pin, err)
		}
	}
}

func TestPINAndCode(t *testing.T) {
	g := newPINGate(t)
	g.logIn("hanako", goodPIN, g.code("T1", 0), verifier.Accepted)
	g.logged("first factor: pin")
	g.advance(time.Minute)
	g.logIn("hanako", "７３９-１０５", g.code("T1", 0), verifier.Accepted) // as people's keyboards have it
	g.advance(time.Minute)
	g.logIn("hanako", goodPIN, g.wrong("T1"), verifier.Wrong)
	for _, pin := range []string{"", "739104", "7391050", "73910", strings.Repeat("7", 300)} {
		g.logIn("hanako", pin, g.code("T1", 0), verifier.WrongFirstFactor)
	}
	g.logIn("hanako", goodPIN, g.code("T1", 0), verifier.Accepted)
}

func TestWrongPINsLockThePINAlone(t *testing.T) {
	g := newPINGate(t)
	g.setLockout(verifier.Lockout{Consecutive: 10, LongRun: 11})
	lock := func() {
		t.Helper()
		for n := range 10 {
			if a := g.account("hanako"); a.PIN.Failures != n || !a.PIN.LockedAt.IsZero() {
				t.Fatalf("after %d wrong PINs: %+v", n, a.PIN)
			}
			g.logIn("hanako", "000000", g.code("T1", 0), verifier.WrongFirstFactor)
		}
		g.logged("wrong first factor: pin, 10 of 10 in a row; the PIN is locked now")
		g.logIn("hanako", goodPIN, g.code("T1", 0), verifier.WrongFirstFactor)
		g.logged("the PIN is locked since")
		a := g.account("hanako")
		if a.PIN.LockedAt.IsZero() || a.PIN.Failures != 10 || !a.Locked() {
			t.Errorf("the PIN: %+v", a.PIN)
		}
		if a.Failures != 0 || !a.LockedAt.IsZero() || a.Tokens[0].Failures != 0 || a.Service != verifier.ServiceInService {
			t.Errorf("wrong PINs were counted against the code: %+v", a)
		}
	}
	again := func() { // and none of the codes shown meanwhile was used up
		t.Helper()
		g.logIn("hanako", goodPIN, g.code("T1", 0), verifier.Accepted)
		g.advance(time.Minute)
	}

	lock()
	g.step(g.Suspend(t.Context(), because("model"), "T1"))
	g.step(g.Resume(t.Context(), because("model"), "T1"))
	g.logIn("hanako", goodPIN, g.code("T1", 0), verifier.WrongFirstFactor)
	wasLocked, _, err := g.UnlockUser(t.Context(), because("form 7"), "retail", "hanako")
	if err != nil || !wasLocked {
		t.Errorf("unlocked: there was a lock %v, %v", wasLocked, err)
	}
	again()

	lock()
	g.setPIN("hanako", goodPIN)
	again()

	lock()
	g.setLockout(verifier.Lockout{Consecutive: 10, UnlockAfter: 30 * time.Minute})
	opens := g.account("hanako").PIN.OpensAt
	g.advance(opens.Sub(g.now) - time.Second)
	g.logIn("hanako", goodPIN, g.code("T1", 0), verifier.WrongFirstFactor)
	g.advance(time.Second)
	again()
}

// Whoever has a token in the hand and waits out each lock finds no PIN: the long run
// locks it, right ones between or not, and only a clerk opens that.
func TestALongRunOfWrongPINs(t *testing.T) {
	g := newPINGate(t)
	g.setLockout(verifier.Lockout{Consecutive: 10, LongRun: 30, UnlockAfter: 30 * time.Minute})
	for n := range 30 {
		if n%9 == 8 {
			g.logIn("hanako", goodPIN, g.code("T1", 0), verifier.Accepted)
			g.advance(24 * time.Hour)
		}
		g.logIn("hanako", fmt.Sprintf("%04d", 5000+n), g.code("T1", 0), verifier.WrongFirstFactor)
	}
	g.logged("30 wrong PINs within 13 weeks: the PIN is locked now")
	for range 20 {
		g.logIn("hanako", goodPIN, g.code("T1", 0), verifier.WrongFirstFactor)
		g.logged("the PIN is locked since")
		if g.now.Year() == 2026 {
			g.advance(7 * 24 * time.Hour)
		}
	}
	a := g.account("hanako")
	if a.PIN.LockedAt.IsZero() || !a.PIN.OpensAt.IsZero() || !a.Locked() || a.Tokens[0].Failures != 0 || !a.LockedAt.IsZero() {
		t.Errorf("the PIN: %+v; the user since %v", a.PIN, a.LockedAt)
	}
	g.unlock("hanako")
	g.logIn("hanako", "000000", g.code("T1", 0), verifier.WrongFirstFactor) // which is the first again
	g.logIn("hanako", goodPIN, g.code("T1", 0), verifier.Accepted)
}

// A record of the first layout keeps its count.
func TestAnOlderPINState(t *testing.T) {
	g := newPINGate(t)
	first := make([]byte, 1+2+8+32+8)
	first[0], first[2] = 1, 9 // wrong ones in a row
	g.must(g.Records.Update(t.Context(), func(tx store.Txn) error {
		return tx.Put(store.Key("pinstate", "retail", "hanako"), first)
	}))
	if n := g.account("hanako").PIN.Failures; n != 9 {
		t.Errorf("%d wrong PINs, want 9", n)
	}
	g.logIn("hanako", "000000", "0", verifier.WrongFirstFactor)
	g.logged("10 of 10 in a row; the PIN is locked now")
}

func TestWhatEndsARowOfWrongPINs(t *testing.T) {
	g := newPINGate(t)
	for range 3 {
		for range 8 {
			g.logIn("hanako", "000000", "0", verifier.WrongFirstFactor)
		}
		g.logIn("hanako", goodPIN, g.wrong("T1"), verifier.Wrong) // a PIN alone ends nothing
		g.logIn("hanako", "000000", "0", verifier.WrongFirstFactor)
		if n := g.account("hanako").PIN.Failures; n != 9 {
			t.Fatalf("%d wrong PINs are counted, want 9", n)
		}
		g.logIn("hanako", goodPIN, g.code("T1", 0), verifier.Accepted)
		g.advance(time.Minute)
	}
}

// All of a guesser's PINs are compared before the first is counted: the right one
// among them doesn't pass any more, and the lock counts no further.
func TestParallelPINGuessesPastTheLock(t *testing.T) {
	g := newPINGate(t)
	right, wrong := g.checkPIN("hanako", goodPIN), g.checkPIN("hanako", "000000")
	var tries sync.WaitGroup
	for range 40 {
		tries.Go(func() {
			if r := g.verify("hanako", g.code("T1", 0), wrong); r.Outcome != verifier.WrongFirstFactor {
				t.Errorf("a wrong PIN: %v", r.Outcome)
			}
		})
	}
	tries.Wait()
	if r := g.verify("hanako", g.code("T1", 0), right); r.Outcome != verifier.WrongFirstFactor {
		t.Errorf("a right PIN past the lock: %v", r.Outcome)
	}
	counted := 0
	for _, e := range g.log.entries {
		if strings.Contains(e.Detail, "of 10 in a row") {
			counted++
		}
	}
	if a := g.account("hanako"); counted != 10 || a.PIN.Failures != 10 || a.PIN.LockedAt.IsZero() {
		t.Errorf("%d were counted: %+v", counted, a.PIN)
	}
	g.unlock("hanako")
	g.logIn("hanako", goodPIN, g.code("T1", 0), verifier.Accepted)
}

func TestWhatChangesBetweenPINAndCode(t *testing.T) {
	g := newPINGate(t)
	right := g.checkPIN("hanako", goodPIN)
	_, err := g.ClearPIN(t.Context(), because("stolen"), "retail", "hanako")
	g.must(err)
	if r := g.verify("hanako", g.code("T1", 0), right); r.Outcome != verifier.WrongFirstFactor {
		t.Errorf("a PIN that was cleared: %v", r.Outcome)
	}
	g.logged("cleared meanwhile")
	unset := g.checkPIN("hanako", "")
	if unset.Verdict != verifier.FactorUnset {
		t.Fatalf("no PIN: verdict %v", unset.Verdict)
	}
	g.setPIN("hanako", goodPIN)
	if r := g.verify("hanako", g.code("T1", 0), unset); r.Outcome != verifier.WrongFirstFactor || r.PINWanted {
		t.Errorf("a PIN that was set meanwhile: %+v", r)
	}
	g.logged("set meanwhile")
	stolen := g.checkPIN("hanako", goodPIN)
	g.setPIN("hanako", "864209")
	if r := g.verify("hanako", g.code("T1", 0), stolen); r.Outcome != verifier.WrongFirstFactor {
		t.Errorf("a PIN that was replaced: %v", r.Outcome)
	}
	g.logged("another PIN was set meanwhile")
	g.logIn("hanako", "864209", g.code("T1", 0), verifier.Accepted) // not used up by any of them
}

// A counted PIN is on disk before anybody hears of it, and one that can't be
// counted is no decision.
func TestWrongPINsOutliveAKill(t *testing.T) {
	g := newPINGate(t)
	for n := 1; n <= 3; n++ {
		g.logIn("hanako", "000000", "0", verifier.WrongFirstFactor)
		g.reopen()
		if a := g.account("hanako"); a.PIN.Failures != n {
			t.Errorf("after a reopen %d are counted, want %d", a.PIN.Failures, n)
		}
	}
	wrong := verifier.Attempt{
		Realm: "retail", User: "hanako", Match: verifier.Typed("0"), Door: "radius",
		FirstFactor: verifier.FirstFactor{Kind: verifier.FactorPIN, Verdict: verifier.FactorWrong},
	}
	broken := errors.New("disk on fire")
	g.log.fail = broken
	if r, err := g.Verify(t.Context(), wrong); !errors.Is(err, verifier.ErrNoDecision) || r.Outcome != "" {
		t.Errorf("not in the audit log: %v, %v", r.Outcome, err)
	}
	g.log.fail = nil
	if n := g.account("hanako").PIN.Failures; n != 4 {
		t.Errorf("the audit log failed after the count: %d, want 4", n)
	}
	g.Records = &hookedStore{Records: g.Records, fail: broken}
	if r, err := g.Verify(t.Context(), wrong); !errors.Is(err, verifier.ErrNoDecision) || r.Outcome != "" {
		t.Errorf("not on disk: %v, %v", r.Outcome, err)
	}
}

// Whoever is asked about, one PIN is hashed, and nothing is written or logged.
func TestOneHashForEverybody(t *testing.T) {
	g := newPINGate(t)
	reg := prometheus.NewRegistry()
	g.Metrics = verifier.NewMetrics(reg)
	g.addUser("bare")
	g.newToken("locked", "T2")
	g.setPIN("locked", goodPIN)
	for range 10 {
		g.verify("locked", "0", verifier.FirstFactor{Kind: verifier.FactorPIN, Verdict: verifier.FactorWrong})
	}
	commits := &countingStore{Records: g.Records}
	g.Records = commits
	entries := len(g.log.entries)
	before := metric(t, reg, "otpgate_verifier_pin_hashes_total")
	tries := 0
	for _, c := range []struct {
		user, pin string
		want      verifier.FactorVerdict
	}{
		{"hanako", goodPIN, verifier.FactorRight},
		{"hanako", "739106", verifier.FactorWrong},
		{"hanako", "", verifier.FactorWrong},
		{"hanako", strings.Repeat("7", 300), verifier.FactorWrong},
		{"locked", goodPIN, verifier.FactorWrong},
		{"bare", goodPIN, verifier.FactorUnset},
		{"nobody", goodPIN, verifier.FactorWrong},
		{"", goodPIN, verifier.FactorWrong},
		{"hanako\x00", goodPIN, verifier.FactorWrong},
		{strings.Repeat("x", 300), goodPIN, verifier.FactorWrong},
	} {
		f, err := g.CheckPIN(t.Context(), "retail", c.user, c.pin)
		tries++
		if hashes := metric(t, reg, "otpgate_verifier_pin_hashes_total") - before; err != nil || f.Verdict != c.want || hashes != float64(tries) {
			t.Errorf("%.20q, %.20q: %v, %v, %v hashes after %d tries; want %v", c.user, c.pin, f.Verdict, err, hashes, tries, c.want)
		}
	}
	if commits.writes != 0 || len(g.log.entries) != entries {
		t.Errorf("%d records written, %d entries logged", commits.writes, len(g.log.entries)-entries)
	}
	if f, err := g.CheckPIN(t.Context(), "nowhere", "hanako", goodPIN); !errors.Is(err, verifier.ErrNoDecision) || f.Verdict != verifier.FactorWrong {
		t.Errorf("in no realm: %+v, %v", f, err)
	}
}

// metric is the value of a counter without labels.
func metric(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

func TestAClerkAndAPIN(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	refused := func(err error, want string) {
		t.Helper()
		if refusal := (*verifier.Refusal)(nil); !errors.As(err, &refusal) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want a refusal with %q", err, want)
		}
	}
	_, err := g.SetPIN(t.Context(), because(""), "retail", "hanako", "1234")
	refused(err, "follow each other")
	_, err = g.SetPIN(t.Context(), because(""), "retail", "nobody", goodPIN)
	refused(err, "there is no user nobody@retail")
	_, err = g.ClearPIN(t.Context(), because(""), "retail", "nobody")
	refused(err, "there is no user")
	_, err = g.ClearPIN(t.Context(), because(""), "retail", "hanako")
	refused(err, "hanako@retail has no PIN")
	if a := g.account("hanako"); !a.PIN.Set.IsZero() {
		t.Errorf("a PIN was set by what was refused: %+v", a.PIN)
	}

	receipt, err := g.SetPIN(t.Context(), because("at the counter"), "retail", "hanako", goodPIN)
	g.must(err)
	if e := g.log.last(); e.Event != "user.set_pin" || e.Receipt != receipt.Number || e.Client != "clerk" || e.Detail != "the first one; at the counter" {
		t.Errorf("audit: %+v", e)
	}
	if a := g.account("hanako"); !a.PIN.Set.Equal(g.now) {
		t.Errorf("set at %v, shown %v", g.now, a.PIN.Set)
	}
	_, err = g.ClearPIN(t.Context(), because("forgotten"), "retail", "hanako")
	g.must(err)
	if e := g.log.last(); e.Event != "user.clear_pin" || e.Outcome != "done" || e.Detail != "forgotten" {
		t.Errorf("audit: %+v", e)
	}

	// A PIN goes with its user: the next of that name has none.
	g.setPIN("hanako", goodPIN)
	g.logIn("hanako", "000000", "0", verifier.WrongFirstFactor)
	g.step(g.Release(t.Context(), because("left"), "T1"))
	_, err = g.RemoveUser(t.Context(), because("left"), "retail", "hanako")
	g.must(err)
	g.must(g.Records.View(t.Context(), func(r store.Reader) error {
		for _, kind := range []string{"pin", "pinstate"} {
			if b, err := r.Get(store.Key(kind, "retail", "hanako")); err != nil || b != nil {
				t.Errorf("the %s record is still there: %q, %v", kind, b, err)
			}
		}
		return nil
	}))
}

func TestAPINOutlivesARotation(t *testing.T) {
	g := newPINGate(t)
	key := store.Key("pin", "retail", "hanako")
	reseal := verifier.Reseal(resealer{g.Seal})[store.Prefix("pin")]
	g.must(g.Records.Update(t.Context(), func(tx store.Txn) error {
		before, err := tx.Get(key)
		g.must(err)
		after, changed, err := reseal(key, before)
		if err != nil || !changed || bytes.Equal(before, after) {
			t.Fatalf("resealed: changed %v, %v", changed, err)
		}
		return tx.Put(key, after)
	}))
	g.logIn("hanako", goodPIN, g.code("T1", 0), verifier.Accepted)
}

// Whoever can write to the database, but has no master key, gives nobody
// another's PIN, and a damaged record lets nobody pass.
func TestMovedAndDamagedPINs(t *testing.T) {
	for name, change := range map[string]func(moved []byte) (key string, value []byte){
		"another user's": func(b []byte) (string, []byte) { return store.Key("pin", "retail", "hanako"), b },
		"no JSON":        func([]byte) (string, []byte) { return store.Key("pin", "retail", "hanako"), []byte("{") },
		"no cost": func([]byte) (string, []byte) {
			return store.Key("pin", "retail", "hanako"), []byte(`{"v":1}`)
		},
		"all the memory": func(b []byte) (string, []byte) {
			return store.Key("pin", "retail", "hanako"), bytes.Replace(b, []byte(`"memory_kib":19456`), []byte(`"memory_kib":4000000000`), 1)
		},
		"a short state": func([]byte) (string, []byte) { return store.Key("pinstate", "retail", "hanako"), []byte{1, 2} },
		"a newer state": func([]byte) (string, []byte) { return store.Key("pinstate", "retail", "hanako"), []byte{3} },
	} {
		t.Run(name, func(t *testing.T) {
			g := newPINGate(t)
			g.newToken("taro", "T2")
			g.setPIN("taro", "864209")
			right := g.checkPIN("hanako", goodPIN)
			g.must(g.Records.Update(t.Context(), func(tx store.Txn) error {
				b, err := tx.Get(store.Key("pin", "retail", "taro"))
				if err != nil {
					return err
				}
				key, value := change(bytes.Clone(b))
				return tx.Put(key, value)
			}))
			for _, pin := range []string{goodPIN, "864209"} {
				if f, err := g.CheckPIN(t.Context(), "retail", "hanako", pin); !errors.Is(err, verifier.ErrNoDecision) || f.Verdict != verifier.FactorWrong {
					t.Errorf("%+v, %v", f, err)
				}
			}
			if name != "a short state" && name != "a newer state" && name != "no JSON" {
				return
			}
			r, err := g.Verify(t.Context(), verifier.Attempt{Realm: "retail", User: "hanako", Match: verifier.Typed(g.code("T1", 0)), FirstFactor: right})
			if !errors.Is(err, verifier.ErrNoDecision) || r.Outcome != "" {
				t.Errorf("decided: %v, %v", r.Outcome, err)
			}
		})
	}
}

// No PIN stands in the log, the audit log, what is shown of a user, an error, or
// the database.
func TestAPINIsNowhere(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	const chosen, wrong = "580246137", "971358024"
	r := g.logIn("hanako", wrong, g.code("T1", 0), verifier.Accepted)
	_, err := g.ChoosePIN(t.Context(), verifier.Attempt{Realm: "retail", User: "hanako"}, r.PINTicket, chosen)
	g.must(err)
	g.advance(time.Minute)
	g.logIn("hanako", chosen, g.code("T1", 0), verifier.Accepted)
	g.logIn("hanako", wrong, "0", verifier.WrongFirstFactor)
	_, refused := g.SetPIN(t.Context(), because(""), "retail", "nobody", chosen)
	g.setPIN("hanako", goodPIN)
	shown, err := json.Marshal(g.account("hanako"))
	g.must(err)
	audited, err := json.Marshal(g.log.entries)
	g.must(err)
	g.must(g.db.Close())
	database, err := os.ReadFile(g.path)
	g.must(err)
	for where, text := range map[string][]byte{
		"log": g.lines.Bytes(), "audit log": audited, "account": shown, "refusal": []byte(refused.Error()), "database": database,
	} {
		for _, pin := range []string{chosen, wrong, goodPIN} {
			if bytes.Contains(text, []byte(pin)) {
				t.Errorf("the %s has a PIN in clear", where)
			}
		}
	}
}

func TestCodeDigits(t *testing.T) {
	g := newGate(t)
	g.addUser("hanako")
	expect := func(user string, want int) {
		t.Helper()
		if n, err := g.CodeDigits(t.Context(), "retail", user); err != nil || n != want {
			t.Errorf("%s's code has %d digits, %v; want %d", user, n, err, want)
		}
	}
	expect("nobody", 6)
	expect("hanako", 6)
	eight := otp.Params{Type: otp.TOTP, Algorithm: otp.SHA1, Digits: 8, Period: 60}
	retail := g.Realms["retail"]
	set := func(p otp.Params) { retail.OTP = p; g.Realms["retail"] = retail }
	six := retail.OTP
	set(eight)
	g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T1"})
	set(six)
	expect("hanako", 6) // not in service
	g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T2", InService: true})
	expect("hanako", 6)
	g.step(g.Release(t.Context(), because("left"), "T2"))
	set(eight)
	g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T3", InService: true})
	set(six)
	expect("hanako", 8)
	g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T4", InService: true})
	expect("hanako", 6) // they don't agree
	if _, err := g.CodeDigits(t.Context(), "nowhere", "hanako"); err == nil {
		t.Error("a realm that isn't there has digits")
	}
}

// Whoever prints a result doesn't print what lets somebody choose a PIN.
func TestATicketDoesNotPrint(t *testing.T) {
	ticket := verifier.PINTicket{104, 105, 106}
	if shown := fmt.Sprintf("%v %+v", ticket, verifier.Result{PINTicket: ticket}); strings.Contains(shown, "104 105") {
		t.Error(shown)
	}
}

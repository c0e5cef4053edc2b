package verifier_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	pquerna "github.com/pquerna/otp"

	"otpgate/internal/audit"
	"otpgate/internal/store"
	"otpgate/verifier"
	"otpgate/verifier/otp"
)

// lifeSteps are the steps of a clerk on token T1.
var lifeSteps = map[string]func(g *gate) (verifier.Receipt, error){
	"assign": func(g *gate) (verifier.Receipt, error) {
		_, r, err := g.Assign(g.t.Context(), because(""), "T1", "retail", "hanako")
		return r, err
	},
	"uri": func(g *gate) (verifier.Receipt, error) {
		_, _, r, err := g.ShowKey(g.t.Context(), because(""), "T1")
		return r, err
	},
	"start": func(g *gate) (verifier.Receipt, error) {
		result, err := g.Start(g.t.Context(), because("at the counter"), "T1", verifier.Typed(g.code("T1", 0)))
		return result.Receipt, err
	},
	"suspend": func(g *gate) (verifier.Receipt, error) {
		_, r, err := g.Suspend(g.t.Context(), because("why"), "T1")
		return r, err
	},
	"resume": func(g *gate) (verifier.Receipt, error) {
		_, r, err := g.Resume(g.t.Context(), because("why"), "T1")
		return r, err
	},
	"lost":         func(g *gate) (verifier.Receipt, error) { return g.unusable("T1", verifier.CauseLost) },
	"stolen":       func(g *gate) (verifier.Receipt, error) { return g.unusable("T1", verifier.CauseStolen) },
	"broken":       func(g *gate) (verifier.Receipt, error) { return g.unusable("T1", verifier.CauseBroken) },
	"battery flat": func(g *gate) (verifier.Receipt, error) { return g.unusable("T1", verifier.CauseBatteryFlat) },
	"expired":      func(g *gate) (verifier.Receipt, error) { return g.unusable("T1", verifier.CauseExpired) },
	"reissue": func(g *gate) (verifier.Receipt, error) {
		_, _, r, err := g.Reissue(g.t.Context(), because("why"), "T1", "SPARE")
		return r, err
	},
	"release": func(g *gate) (verifier.Receipt, error) {
		_, r, err := g.Release(g.t.Context(), because("why"), "T1")
		return r, err
	},
}

func TestEveryStepInEveryState(t *testing.T) {
	// unusable is where each cause leads; with adds to it.
	with := func(more map[string]verifier.TokenState) map[string]verifier.TokenState {
		after := map[string]verifier.TokenState{
			"lost": verifier.Lost, "stolen": verifier.Lost, "broken": verifier.Broken, "battery flat": verifier.BatteryFlat,
			"expired": verifier.Expired, "release": verifier.Released, "reissue": verifier.Released,
		}
		maps.Copy(after, more)
		return after
	}
	ended := map[string]verifier.TokenState{"release": verifier.Released, "reissue": verifier.Released}
	// path leads to a state from stock or from issued; after says where each
	// step leads then. What isn't there is refused.
	for state, c := range map[string]struct {
		stock bool
		path  []string
		after map[string]verifier.TokenState
	}{
		"in stock":          {true, nil, map[string]verifier.TokenState{"assign": verifier.Assigned, "release": verifier.Released}},
		"assigned":          {true, []string{"assign"}, with(map[string]verifier.TokenState{"start": verifier.InService, "suspend": verifier.TokenSuspended})},
		"suspended by post": {true, []string{"assign", "suspend"}, with(map[string]verifier.TokenState{"resume": verifier.Assigned})},
		"issued": {false, nil, with(map[string]verifier.TokenState{
			"uri": verifier.Issued, "start": verifier.InService, "suspend": verifier.TokenSuspended,
		})},
		"in service":          {false, []string{"start"}, with(map[string]verifier.TokenState{"suspend": verifier.TokenSuspended})},
		"suspended":           {false, []string{"start", "suspend"}, with(map[string]verifier.TokenState{"resume": verifier.InService})},
		"suspended unstarted": {false, []string{"suspend"}, with(map[string]verifier.TokenState{"resume": verifier.Issued})},
		"lost":                {false, []string{"start", "lost"}, map[string]verifier.TokenState{"release": verifier.Released, "reissue": verifier.Lost}},
		"stolen by post":      {true, []string{"assign", "stolen"}, map[string]verifier.TokenState{"release": verifier.Released, "reissue": verifier.Lost}},
		"broken":              {false, []string{"start", "broken"}, ended},
		"battery flat":        {false, []string{"start", "battery flat"}, ended},
		"expired":             {false, []string{"start", "suspend", "expired"}, ended},
		"released":            {false, []string{"release"}, nil},
	} {
		for name, step := range lifeSteps {
			t.Run(state+"/"+name, func(t *testing.T) {
				g := newGate(t)
				g.addUser("hanako")
				g.stock("SPARE")
				if c.stock {
					g.stock("T1")
				} else {
					g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T1"})
				}
				for _, before := range c.path {
					g.must1(lifeSteps[before](g))
				}
				was, err := g.Token(t.Context(), "T1")
				g.must(err)
				logged := len(g.log.entries)
				receipt, err := step(g)
				is, showErr := g.Token(t.Context(), "T1")
				g.must(showErr)
				want, allowed := c.after[name]
				var why *verifier.Refusal
				switch {
				case allowed && (err != nil || is.State != want):
					t.Errorf("led to %s, %v; want %s", is.State, err, want)
				case allowed && (receipt.Number == "" || !receipt.At.Equal(g.now.Truncate(time.Second)) || g.log.entries[logged].Receipt != receipt.Number):
					t.Errorf("receipt %+v, log %+v", receipt, g.log.entries[logged:])
				case !allowed && (!errors.As(err, &why) || why.Hint == ""):
					t.Errorf("was refused with %v, want a Refusal with a hint", err)
				case !allowed && (!cmp.Equal(is, was) || len(g.log.entries) != logged || receipt.Number != ""):
					t.Errorf("was refused, and left %+v, %d entries, receipt %+v", is, len(g.log.entries)-logged, receipt)
				}
				if (is.State == verifier.Released) != (len(is.Key) == 0) {
					t.Errorf("is %s, with a sealed key of %d bytes", is.State, len(is.Key))
				}
			})
		}
	}
}

func TestStartingATokenGoesThroughTheGate(t *testing.T) {
	g := newGate(t)
	g.addUser("hanako")
	g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T1"})
	code := g.code("T1", 0)
	g.expect("hanako", code, verifier.NotInService)

	if r, err := g.Start(t.Context(), because(""), "T1", verifier.Typed(g.wrong("T1"))); err != nil || r.Outcome != verifier.Wrong || r.TriesLeft != 9 {
		t.Fatalf("wrong code: %+v, %v", r, err)
	}
	if r, err := g.Start(t.Context(), because(""), "T1", verifier.Typed(code)); err != nil || r.Outcome != verifier.Accepted {
		t.Fatalf("right code: %+v, %v", r, err)
	}
	g.expect("hanako", code, verifier.Replayed) // the code that started it is used up
	g.advance(time.Minute)
	g.expect("hanako", g.code("T1", 0), verifier.Accepted)
}

func TestReleaseDestroysTheKey(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	before, err := g.Token(t.Context(), "T1")
	g.must(err)
	after, _, err := g.Release(t.Context(), because("left the bank"), "T1")
	g.must(err)
	if len(before.Key) == 0 || len(after.Key) != 0 {
		t.Errorf("sealed key has %d bytes before and %d after", len(before.Key), len(after.Key))
	}
	g.expect("hanako", g.code("T1", 0), verifier.NoToken)
}

func TestTheFileShowsNoKey(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	g.must(g.db.Close())
	file, err := os.ReadFile(g.path)
	g.must(err)
	key := g.keys["T1"]
	if !bytes.Contains(file, []byte("hanako")) {
		t.Fatal("the file doesn't hold the user either: wrong file?")
	}
	if bytes.Contains(file, key) || bytes.Contains(file, []byte(base64.StdEncoding.EncodeToString(key)[:24])) {
		t.Error("the file holds the token's key in clear")
	}
	g.open()
}

func TestWhatIsRefused(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	totp := g.Realms["retail"].OTP
	with := func(change func(*verifier.NewToken)) verifier.NewToken {
		n := verifier.NewToken{Realm: "retail", User: "hanako", Params: totp}
		change(&n)
		return n
	}
	for name, n := range map[string]verifier.NewToken{
		"unknown user":            with(func(n *verifier.NewToken) { n.User = "nobody" }),
		"unknown realm":           with(func(n *verifier.NewToken) { n.Realm = "nowhere" }),
		"taken serial":            with(func(n *verifier.NewToken) { n.Serial = "T1" }),
		"a key that is another's": with(func(n *verifier.NewToken) { n.Key = g.keys["T1"] }),
		"odd serial":              with(func(n *verifier.NewToken) { n.Serial = "T 1" }),
		"long serial":             with(func(n *verifier.NewToken) { n.Serial = strings.Repeat("1", 65) }),
		"short key":               with(func(n *verifier.NewToken) { n.Key = make([]byte, 15) }),
		"long key":                with(func(n *verifier.NewToken) { n.Key = make([]byte, 129) }),
		"period":                  with(func(n *verifier.NewToken) { n.Params.Period = 10 }),
		"digits":                  with(func(n *verifier.NewToken) { n.Params.Digits = 8 }), // the realm's page asks for six
	} {
		var why *verifier.Refusal
		if _, _, _, err := g.CreateToken(t.Context(), because(""), n); !errors.As(err, &why) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, user := range map[string]string{
		"again": "hanako", "empty": "", "control": "a\nb", "nul": "a\x00b", "bidi": "bob\u202e", "space": " a", "latin-1": "\xe9", "long": strings.Repeat("a", 256),
	} {
		var why *verifier.Refusal
		if _, _, err := g.AddUser(t.Context(), because(""), "retail", user); !errors.As(err, &why) {
			t.Errorf("user %s: %v", name, err)
		}
	}
	if a := g.account("hanako"); len(a.Tokens) != 1 {
		t.Errorf("what was refused left %d tokens", len(a.Tokens))
	}
	var why *verifier.Refusal
	if _, _, err := g.Suspend(t.Context(), because(""), "T1"); !errors.As(err, &why) {
		t.Errorf("suspended without a reason: %v", err)
	}
}

func TestURIIsWhatAppsRead(t *testing.T) {
	g := newGate(t)
	g.addUser("花子:1")
	token, key, _, err := g.CreateToken(t.Context(), because(""), verifier.NewToken{
		Realm: "retail", User: "花子:1", Params: otp.Params{Type: otp.TOTP, Algorithm: otp.SHA256, Digits: 6, Period: 60},
	})
	g.must(err)
	uri := token.URI("Example: Credit Union & Co", key)
	parsed, err := pquerna.NewKeyFromURL(uri)
	g.must(err)
	if parsed.Issuer() != "Example  Credit Union & Co" || parsed.AccountName() != "花子 1" || parsed.Period() != 60 ||
		parsed.Algorithm() != pquerna.AlgorithmSHA256 || parsed.Digits() != 6 || len(key) != 32 {
		t.Errorf("address %s reads as %+v, key of %d octets", uri, parsed, len(key))
	}
	if u, err := url.Parse(uri); err != nil || u.Scheme != "otpauth" || u.Host != "totp" {
		t.Errorf("address %s: %v", uri, err)
	}
}

func TestListsAreInOrder(t *testing.T) {
	g := newGate(t)
	for _, name := range []string{"b", "a", "c"} {
		g.newToken(name, "T"+name)
	}
	_, _, err := g.AddUser(t.Context(), because(""), "staff", "a")
	g.must(err)
	var users, serials []string
	g.must(g.Users(t.Context(), "retail", func(u verifier.User) error { users = append(users, u.Name); return nil }))
	g.must(g.Tokens(t.Context(), verifier.TokenFilter{}, func(i verifier.TokenInfo) error { serials = append(serials, i.Serial); return nil }))
	if strings.Join(users, "") != "abc" || strings.Join(serials, " ") != "Ta Tb Tc" {
		t.Errorf("users %v, serials %v", users, serials)
	}
}

// What a step leaves behind is told apart by its number, and found by it: also
// when many are made at once.
func TestReceiptsAreUniqueAndInTheLog(t *testing.T) {
	g := newGate(t)
	const clerks, each = 8, 5
	receipts := make(chan verifier.Receipt, clerks*each*2)
	var wg sync.WaitGroup
	for c := range clerks {
		serial := fmt.Sprintf("T%d", c)
		g.newToken(fmt.Sprintf("user%d", c), serial)
		wg.Go(func() {
			for range each {
				_, suspended, err1 := g.Suspend(t.Context(), because("why"), serial)
				_, resumed, err2 := g.Resume(t.Context(), verifier.By{Who: "clerk", Reason: "found", Form: "F" + serial}, serial)
				if err := errors.Join(err1, err2); err != nil {
					t.Error(err)
				}
				receipts <- suspended
				receipts <- resumed
			}
		})
	}
	wg.Wait()
	close(receipts)
	logged := map[string]audit.Entry{}
	for _, e := range g.log.entries {
		if _, twice := logged[e.Receipt]; twice {
			t.Errorf("receipt %s is in the log twice", e.Receipt)
		}
		logged[e.Receipt] = e
	}
	seen := 0
	for r := range receipts {
		e := logged[r.Number]
		if len(r.Number) < 7 || !e.Time.Equal(r.At) || e.Client != "clerk" || e.Outcome != "done" ||
			e.Event == "token.resume" && (e.Form != "F"+e.Serial || e.Detail != "found") {
			t.Errorf("receipt %+v is in the log as %+v", r, e)
		}
		seen++
	}
	if want := clerks * each * 2; seen != want {
		t.Errorf("%d receipts, want %d", seen, want)
	}
}

func TestStartedByAClerkIsInTheLogAsSuch(t *testing.T) {
	g := newGate(t)
	g.addUser("hanako")
	g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T1"})
	result, err := g.Start(t.Context(), verifier.By{Who: "clerk", Reason: "at the counter", Form: "F7"}, "T1", verifier.Typed(g.code("T1", 0)))
	g.must(err)
	e := g.log.last()
	if e.Event != "token.start" || e.Receipt != result.Receipt.Number || e.Receipt == "" || e.Form != "F7" ||
		e.Client != "clerk" || !strings.HasSuffix(e.Detail, "; at the counter") {
		t.Errorf("receipt %+v is in the log as %+v", result.Receipt, e)
	}
}

func TestApplying(t *testing.T) {
	g := newGate(t)
	g.policy("retail", 1, 0)
	apply := func(form string) error {
		_, _, err := g.Apply(t.Context(), verifier.By{Who: "clerk", Reason: "new customer", Form: form}, "retail", "hanako")
		return err
	}
	g.refused(apply(""), "number of the form")
	g.must(apply("F1")) // makes the user
	if a := g.account("hanako"); a.Service != verifier.ServiceApplied || a.Form != "F1" || !a.Applied.Equal(g.now) {
		t.Errorf("after applying: %+v", a)
	}
	if e := g.log.last(); e.Event != "user.apply" || e.Form != "F1" || e.Receipt == "" || e.Detail != "new customer" {
		t.Errorf("log: %+v", e)
	}
	g.refused(apply("F2"), "has applied already, with form F1")
	g.expect("hanako", "000000", verifier.NoToken) // an application opens nothing

	g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T1"})
	if a := g.account("hanako"); a.Service != verifier.ServiceIssued || !a.Applied.IsZero() {
		t.Errorf("after the issue: %+v", a)
	}
	g.refused(apply("F3"), "has token T1 already")
	g.must1(g.unusable("T1", verifier.CauseLost))
	if a := g.account("hanako"); a.Service != verifier.ServiceSuspended {
		t.Errorf("after the loss: %s", a.Service)
	}
	g.must(apply("F4")) // for a new one
	if a := g.account("hanako"); a.Service != verifier.ServiceApplied {
		t.Errorf("after applying anew: %s", a.Service)
	}
}

func TestAssigning(t *testing.T) {
	g := newGate(t)
	g.addUser("hanako")
	g.stock("S1")
	assign := func(serial, realm, user string) error {
		_, _, err := g.Assign(t.Context(), because("sent by post"), serial, realm, user)
		return err
	}
	g.refused(assign("S9", "retail", "hanako"), "there is no token S9")
	g.refused(assign("S1", "nowhere", "hanako"), "there is no realm")
	g.refused(assign("S1", "retail", "taro"), "there is no user taro@retail")
	g.stockFor("staff", "S2")
	g.refused(assign("S2", "retail", "hanako"), "imported for realm staff")
	g.must(assign("S1", "retail", "hanako"))
	if a := g.account("hanako"); len(a.Tokens) != 1 || a.Tokens[0].State != verifier.Assigned || a.Service != verifier.ServiceIssued {
		t.Errorf("after assigning: %+v", a)
	}
	g.expect("hanako", g.code("S1", 0), verifier.NotInService)
	g.must1(g.Start(t.Context(), because(""), "S1", verifier.Typed(g.code("S1", 0))))
	g.advance(time.Minute)
	g.expect("hanako", g.code("S1", 0), verifier.Accepted)
}

// Many clerks, one serial: one of them gets it.
func TestParallelAssignment(t *testing.T) {
	g := newGate(t)
	g.stock("S1")
	const users = 20
	won := make(chan string, users)
	var wg sync.WaitGroup
	for i := range users {
		name := fmt.Sprintf("user%d", i)
		g.addUser(name)
		wg.Go(func() {
			_, _, err := g.Assign(t.Context(), because(""), "S1", "retail", name)
			if err == nil {
				won <- name
				return
			}
			var why *verifier.Refusal
			if !errors.As(err, &why) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	close(won)
	if len(won) != 1 {
		t.Fatalf("%d of %d got it", len(won), users)
	}
	winner := <-won
	for i := range users {
		name := fmt.Sprintf("user%d", i)
		if got := len(g.account(name).Tokens); (got == 1) != (name == winner) {
			t.Errorf("%s has %d tokens; %s got it", name, got, winner)
		}
	}
	if s1, err := g.Token(t.Context(), "S1"); err != nil || s1.User != winner {
		t.Errorf("S1 is %s's, %v; %s got it", s1.User, err, winner)
	}
}

func TestTokensPerUserHoldsInParallel(t *testing.T) {
	g := newGate(t)
	g.policy("retail", 1, 0)
	g.addUser("hanako")
	const tries = 20
	var made, assigned atomic.Int32
	var wg sync.WaitGroup
	for i := range tries {
		serial := fmt.Sprintf("S%d", i)
		g.stock(serial)
		wg.Go(func() {
			if _, _, err := g.Assign(t.Context(), because(""), serial, "retail", "hanako"); err == nil {
				assigned.Add(1)
			}
		})
		wg.Go(func() {
			_, _, _, err := g.CreateToken(t.Context(), because(""), verifier.NewToken{Realm: "retail", User: "hanako", Params: g.Realms["retail"].OTP})
			if err == nil {
				made.Add(1)
			}
		})
	}
	wg.Wait()
	if n := made.Load() + assigned.Load(); n != 1 || len(g.account("hanako").Tokens) != 1 {
		t.Errorf("%d of %d were given, the user has %d", n, 2*tries, len(g.account("hanako").Tokens))
	}
}

func TestTokensPerUserCountsWhatIsOfUse(t *testing.T) {
	g := newGate(t)
	g.policy("retail", 1, 0)
	g.newToken("hanako", "T1")
	second := func() error {
		_, _, _, err := g.CreateToken(t.Context(), because(""), verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T2", Params: g.Realms["retail"].OTP})
		return err
	}
	g.refused(second(), "hanako@retail has token T1 already, which is in service; realm retail allows 1")
	g.step(g.Suspend(t.Context(), because("lost?"), "T1"))
	g.refused(second(), "has token T1 already, which is suspended")
	g.must1(g.unusable("T1", verifier.CauseLost))
	g.must(second())

	g.policy("retail", 0, 0)
	g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T3"}) // no limit
}

func TestCoolDown(t *testing.T) {
	g := newGate(t)
	g.policy("retail", 0, 30*time.Minute)
	g.addUser("hanako")
	create := func(n verifier.NewToken) error {
		n.Realm, n.User, n.Params = "retail", "hanako", g.Realms["retail"].OTP
		_, _, _, err := g.CreateToken(t.Context(), because(""), n)
		return err
	}
	g.must(create(verifier.NewToken{Serial: "T1", Carrier: verifier.Software}))
	g.must(create(verifier.NewToken{Serial: "T2"})) // one beside it is no reissue
	g.advance(10 * time.Minute)
	g.step(g.Release(t.Context(), because("new phone"), "T1"))
	g.step(g.Release(t.Context(), because("new phone"), "T2"))
	g.refused(create(verifier.NewToken{Serial: "T3"}), "can be issued from 2026-11-22 14:35:09 UTC")
	g.refused(create(verifier.NewToken{Serial: "T3", Key: make([]byte, 20), Carrier: verifier.Software}), "can be issued from")
	g.must(create(verifier.NewToken{Serial: "T4", Key: make([]byte, 20), Carrier: verifier.Hardware})) // nothing goes to an app
	g.advance(20*time.Minute - time.Second)
	g.refused(create(verifier.NewToken{Serial: "T3"}), "can be issued from")
	g.advance(time.Second)
	g.must(create(verifier.NewToken{Serial: "T3"}))

	_, _, _, err := g.Reissue(t.Context(), because("new phone"), "T3", "")
	g.refused(err, "can be issued from 2026-11-22 15:05:09 UTC")
	if t3, err := g.Token(t.Context(), "T3"); err != nil || t3.State != verifier.Issued {
		t.Errorf("a refused reissue left the old token %s, %v", t3.State, err)
	}
}

func TestReissue(t *testing.T) {
	g := newGate(t)
	g.policy("retail", 1, 30*time.Minute)
	g.newToken("hanako", "T1")
	g.advance(time.Hour)
	made, key, receipt, err := g.Reissue(t.Context(), because("new phone"), "T1", "")
	g.must(err)
	g.keys[made.Serial] = key
	old, err := g.Token(t.Context(), "T1")
	g.must(err)
	if made.State != verifier.Issued || made.User != "hanako" || old.State != verifier.Released || old.Reason != "new phone" {
		t.Errorf("made %+v, left %+v", made, old)
	}
	events := map[string]string{}
	for _, e := range g.log.entries {
		if e.Receipt == receipt.Number {
			events[e.Event] = e.Serial + ": " + e.Detail
		}
	}
	if want := map[string]string{
		"token.reissue": "T1: replaced by " + made.Serial + "; new phone",
		"token.create":  made.Serial + ": in place of T1; new phone",
	}; !cmp.Equal(events, want) {
		t.Error(cmp.Diff(want, events))
	}
	g.expect("hanako", g.code("T1", 0), verifier.NotInService)
	g.must1(g.Start(t.Context(), because(""), made.Serial, verifier.Typed(g.code(made.Serial, 0))))

	g.stock("S1")
	if _, _, _, err = g.Reissue(t.Context(), because("wants a key-fob"), made.Serial, "S1"); err != nil {
		t.Fatal(err)
	}
	_, _, _, err = g.Reissue(t.Context(), because("broken"), "S1", "")
	g.refused(err, "S1 is a hardware token")
	_, _, _, err = g.Reissue(t.Context(), because("broken"), "S1", "T1")
	g.refused(err, "T1 is released")
	if a := g.account("hanako"); len(a.Tokens) != 3 || a.Service != verifier.ServiceIssued {
		t.Errorf("in the end: %+v", a)
	}
}

// A token that was reported lost stays refused, also after its successor is
// there, and that somebody has it is seen.
func TestALostTokenStaysWatchedWhenReplaced(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	g.stock("S1")
	g.must1(g.unusable("T1", verifier.CauseStolen))
	g.expect("hanako", g.wrong("T1"), verifier.NoToken)
	if a := g.account("hanako"); !a.Tokens[0].TriedAt.IsZero() {
		t.Error("a wrong code is taken for use of the lost token")
	}
	_, _, _, err := g.Reissue(t.Context(), because("form 7"), "T1", "S1")
	g.must(err)
	g.must1(g.Start(t.Context(), because(""), "S1", verifier.Typed(g.code("S1", 0))))
	g.advance(time.Hour)
	g.expect("hanako", g.code("T1", 0), verifier.Wrong)
	if t1, err := g.Token(t.Context(), "T1"); err != nil || !t1.TriedAt.Equal(g.now.Truncate(time.Second)) || t1.State != verifier.Lost || t1.Reason != "stolen" {
		t.Errorf("after its use: %+v, %v", t1, err)
	}
}

func TestAKeyIsShownAgainOnlyToStart(t *testing.T) {
	g := newGate(t)
	g.addUser("hanako")
	g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T1"})
	_, key, receipt, err := g.ShowKey(t.Context(), because("mistyped"), "T1")
	g.must(err)
	if !bytes.Equal(key, g.keys["T1"]) {
		t.Error("another key was shown")
	}
	if e := g.log.last(); e.Event != "token.uri" || e.Receipt != receipt.Number || e.Client != "clerk" {
		t.Errorf("log: %+v", e)
	}
	g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T2", Key: make([]byte, 20), Carrier: verifier.Hardware})
	_, key, _, err = g.ShowKey(t.Context(), because(""), "T2")
	g.refused(err, "T2 is a hardware token")
	if key != nil {
		t.Error("a hardware token's key was shown")
	}
}

func TestRemovingAUser(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	remove := func() error { _, err := g.RemoveUser(t.Context(), because("left"), "retail", "hanako"); return err }
	g.refused(remove(), "hanako@retail has token T1, which is in service")
	g.must1(g.unusable("T1", verifier.CauseLost))
	g.refused(remove(), "which is lost")
	_, _, err := g.Release(t.Context(), because("left"), "T1")
	g.must(err)
	g.must(remove())
	g.refused(remove(), "there is no user")
	g.expect("hanako", g.code("T1", 0), verifier.NoUser)

	g.addUser("hanako")
	if a := g.account("hanako"); len(a.Tokens) != 0 || a.Service != verifier.ServiceNone {
		t.Errorf("whoever has the name next begins with %+v", a)
	}
	_, _, _, err = g.CreateToken(t.Context(), because(""), verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T1", Params: g.Realms["retail"].OTP})
	g.refused(err, "there is a token T1 already")
}

func TestWhatClerksTypeIsBounded(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	for name, by := range map[string]verifier.By{
		"long reason":    {Who: "clerk", Reason: strings.Repeat("a", verifier.MaxReason+1)},
		"long form":      {Who: "clerk", Reason: "why", Form: strings.Repeat("1", verifier.MaxForm+1)},
		"control reason": {Who: "clerk", Reason: "a\nb"},
		"latin-1 form":   {Who: "clerk", Reason: "why", Form: "\xe9"},
		"blank reason":   {Who: "clerk", Reason: " "},
	} {
		var why *verifier.Refusal
		if _, _, err := g.Suspend(t.Context(), by, "T1"); !errors.As(err, &why) || why.Hint == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	g.must1(g.unusable("T1", verifier.CauseBroken))
}

func TestTokensAreFound(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	g.newToken("jiro", "T2")
	g.must1(g.unusable("T2", verifier.CauseLost))
	g.stock("S1")
	find := func(f verifier.TokenFilter) (found string, err error) {
		err = g.Tokens(t.Context(), f, func(i verifier.TokenInfo) error { found += i.Serial + " "; return nil })
		return found, err
	}
	for want, f := range map[string]verifier.TokenFilter{
		"S1 T1 T2 ": {},
		"T1 T2 ":    {Realm: "retail"},
		"S1 ":       {State: verifier.InStock},
		"T2 ":       {Realm: "retail", User: "jiro"},
		"":          {Realm: "retail", User: "jiro", State: verifier.InService},
	} {
		if got, err := find(f); err != nil || got != want {
			t.Errorf("%+v: %q, %v; want %q", f, got, err, want)
		}
	}
	for _, f := range []verifier.TokenFilter{{Realm: "nowhere"}, {State: "gone"}, {Realm: "retail", User: "nobody"}} {
		_, err := find(f)
		g.refused(err, "there is no")
	}
}

func TestCounterTokens(t *testing.T) {
	g := newGate(t)
	g.addUser("hanako")
	counter := otp.Params{Type: otp.HOTP, Algorithm: otp.SHA1, Digits: 6}
	token := g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "C1", Params: counter})
	parsed, err := pquerna.NewKeyFromURL(token.URI("Bank", g.keys["C1"]))
	g.must(err)
	if u, err := url.Parse(parsed.URL()); err != nil || u.Host != "hotp" || u.Query().Get("counter") != "0" || u.Query().Has("period") {
		t.Errorf("address %s: %v", parsed.URL(), err)
	}
	first := otp.NewGenerator(g.keys["C1"], counter).Code(0)
	if r, err := g.Start(t.Context(), because(""), "C1", verifier.Typed(first)); err != nil || r.Outcome != verifier.Accepted {
		t.Fatalf("started with its first code: %+v, %v", r, err)
	}
	g.expect("hanako", first, verifier.Replayed)
	g.expect("hanako", otp.NewGenerator(g.keys["C1"], counter).Code(1), verifier.Accepted)
}

// stock puts a token into stock, as an import does.
func (g *gate) stock(serial string) { g.stockFor("", serial) }

func (g *gate) stockFor(realm, serial string) {
	g.t.Helper()
	key := bytes.Repeat([]byte(serial), 20)[:20]
	g.keys[serial] = key
	record, err := json.Marshal(verifier.Token{
		V: 1, Serial: serial, Realm: realm, State: verifier.InStock, Carrier: verifier.Hardware, Params: g.Realms["retail"].OTP,
		Key: g.Seal.Seal(store.Key("token", serial), "token key", key), Created: g.now, Changed: g.now,
	})
	g.must(err)
	g.must(g.Records.Update(g.t.Context(), func(tx store.Txn) error { return tx.Put(store.Key("token", serial), record) }))
}

func (g *gate) unusable(serial string, why verifier.Cause) (verifier.Receipt, error) {
	_, r, err := g.MarkUnusable(g.t.Context(), because(""), serial, why)
	return r, err
}

// policy sets how many tokens a user may have, and the cool-down.
func (g *gate) policy(realm string, tokens int, coolDown time.Duration) {
	r := g.Realms[realm]
	r.TokensPerUser, r.ReissueCooldown = tokens, coolDown
	g.Realms[realm] = r
}

// refused fails the test unless err is a Refusal with a hint that says so.
func (g *gate) refused(err error, problem string) {
	g.t.Helper()
	var why *verifier.Refusal
	if !errors.As(err, &why) || why.Hint == "" || !strings.Contains(why.Problem, problem) {
		g.t.Fatalf("got %v; want a Refusal with a hint: %s", err, problem)
	}
}

package verifier_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/url"
	"os"
	"otpgate/verifier"
	"otpgate/verifier/otp"
	"strings"
	"testing"
	"time"

	pquerna "github.com/pquerna/otp"
)

func TestEveryStepInEveryState(t *testing.T) {
	steps := map[string]func(g *gate) error{
		"start": func(g *gate) error {
			_, err := g.Start(g.t.Context(), "clerk", "T1", verifier.Typed(g.code("T1", 0)))
			return err
		},
		"suspend": func(g *gate) error { _, err := g.Suspend(g.t.Context(), "clerk", "T1", "why"); return err },
		"resume":  func(g *gate) error { _, err := g.Resume(g.t.Context(), "clerk", "T1", "why"); return err },
		"release": func(g *gate) error { _, err := g.Release(g.t.Context(), "clerk", "T1", "why"); return err },
	}
	// path leads to a state from issued; after says where each step leads then.
	for state, c := range map[string]struct {
		path  []string
		after map[string]verifier.TokenState
	}{
		"issued":              {nil, map[string]verifier.TokenState{"start": verifier.InService, "suspend": verifier.TokenSuspended, "release": verifier.Released}},
		"in service":          {[]string{"start"}, map[string]verifier.TokenState{"suspend": verifier.TokenSuspended, "release": verifier.Released}},
		"suspended":           {[]string{"start", "suspend"}, map[string]verifier.TokenState{"resume": verifier.InService, "release": verifier.Released}},
		"suspended unstarted": {[]string{"suspend"}, map[string]verifier.TokenState{"resume": verifier.Issued, "release": verifier.Released}},
		"released":            {[]string{"release"}, nil},
	} {
		for name, step := range steps {
			t.Run(state+"/"+name, func(t *testing.T) {
				g := newGate(t)
				g.must1(g.AddUser(t.Context(), "clerk", "retail", "hanako"))
				g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T1"})
				for _, before := range c.path {
					g.must(steps[before](g))
				}
				was, err := g.Token(t.Context(), "T1")
				g.must(err)
				err = step(g)
				is, showErr := g.Token(t.Context(), "T1")
				g.must(showErr)
				want, allowed := c.after[name]
				var why *verifier.Refusal
				switch {
				case allowed && (err != nil || is.State != want):
					t.Errorf("led to %s, %v; want %s", is.State, err, want)
				case !allowed && (!errors.As(err, &why) || why.Hint == ""):
					t.Errorf("was refused with %v, want a Refusal with a hint", err)
				case !allowed && is.State != was.State:
					t.Errorf("was refused and led to %s all the same", is.State)
				}
			})
		}
	}
}

func TestStartingATokenGoesThroughTheGate(t *testing.T) {
	g := newGate(t)
	g.must1(g.AddUser(t.Context(), "clerk", "retail", "hanako"))
	g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T1"})
	code := g.code("T1", 0)
	g.expect("hanako", code, verifier.NotInService)

	if r, err := g.Start(t.Context(), "clerk", "T1", verifier.Typed(g.wrong("T1"))); err != nil || r.Outcome != verifier.Wrong || r.TriesLeft != 9 {
		t.Fatalf("wrong code: %+v, %v", r, err)
	}
	if r, err := g.Start(t.Context(), "clerk", "T1", verifier.Typed(code)); err != nil || r.Outcome != verifier.Accepted {
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
	after, err := g.Release(t.Context(), "clerk", "T1", "left the bank")
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
		"unknown user":     with(func(n *verifier.NewToken) { n.User = "nobody" }),
		"unknown realm":    with(func(n *verifier.NewToken) { n.Realm = "nowhere" }),
		"taken serial":     with(func(n *verifier.NewToken) { n.Serial = "T1" }),
		"odd serial":       with(func(n *verifier.NewToken) { n.Serial = "T 1" }),
		"long serial":      with(func(n *verifier.NewToken) { n.Serial = strings.Repeat("1", 65) }),
		"short key":        with(func(n *verifier.NewToken) { n.Key = make([]byte, 15) }),
		"long key":         with(func(n *verifier.NewToken) { n.Key = make([]byte, 129) }),
		"period":           with(func(n *verifier.NewToken) { n.Params.Period = 10 }),
		"digits":           with(func(n *verifier.NewToken) { n.Params.Digits = 8 }), // the realm's page asks for six
		"unsupported type": with(func(n *verifier.NewToken) { n.Params.Type = otp.HOTP }),
	} {
		var why *verifier.Refusal
		if _, _, err := g.CreateToken(t.Context(), "clerk", n); !errors.As(err, &why) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, user := range map[string]string{
		"again": "hanako", "empty": "", "control": "a\nb", "nul": "a\x00b", "space": " a", "latin-1": "\xe9", "long": strings.Repeat("a", 256),
	} {
		var why *verifier.Refusal
		if _, err := g.AddUser(t.Context(), "clerk", "retail", user); !errors.As(err, &why) {
			t.Errorf("user %s: %v", name, err)
		}
	}
	if a := g.account("hanako"); len(a.Tokens) != 1 {
		t.Errorf("what was refused left %d tokens", len(a.Tokens))
	}
	var why *verifier.Refusal
	if _, err := g.Suspend(t.Context(), "clerk", "T1", ""); !errors.As(err, &why) {
		t.Errorf("suspended without a reason: %v", err)
	}
}

func TestURIIsWhatAppsRead(t *testing.T) {
	g := newGate(t)
	g.must1(g.AddUser(t.Context(), "clerk", "retail", "花子:1"))
	token, key, err := g.CreateToken(t.Context(), "clerk", verifier.NewToken{
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
	g.must1(g.AddUser(t.Context(), "clerk", "staff", "a"))
	var users, serials []string
	g.must(g.Users(t.Context(), "retail", func(u verifier.User) error { users = append(users, u.Name); return nil }))
	g.must(g.Tokens(t.Context(), func(i verifier.TokenInfo) error { serials = append(serials, i.Serial); return nil }))
	if strings.Join(users, "") != "abc" || strings.Join(serials, " ") != "Ta Tb Tc" {
		t.Errorf("users %v, serials %v", users, serials)
	}
}

package oidc_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"otpgate/internal/store"
)

// smallAccount has room for a dozen log-ins of the largest kind.
const smallAccount = 192 << 10

// weighed is a store that nothing may be put into for which there is no room in
// what was reserved.
type weighed struct {
	store.Passing
	g *gate

	mu      sync.Mutex // guards entries
	entries map[string]weight
}

type weight struct {
	bytes int
	end   time.Time
}

// put weighs an entry as internal/store/memory does.
func (p *weighed) put(key string, value []byte, ttl time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.entries[key] = weight{len(key) + len(value)*8/7 + 192, p.g.now().Add(ttl)}
	sum := 0
	for key, e := range p.entries {
		if !p.g.now().Before(e.end) {
			delete(p.entries, key)
			continue
		}
		sum += e.bytes
	}
	if reserved := p.g.provider.Taken(); sum > reserved {
		p.g.t.Errorf("with %q %d bytes are in the store, but %d are reserved", strings.SplitN(key, "\x00", 2)[0], sum, reserved)
	}
}

func (p *weighed) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	err := p.Passing.Put(ctx, key, value, ttl)
	if err == nil {
		p.put(key, value, ttl)
	}
	return err
}

func (p *weighed) Add(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error) {
	ok, err := p.Passing.Add(ctx, key, value, ttl)
	if ok {
		p.put(key, value, ttl)
	}
	return ok, err
}

func (p *weighed) Take(ctx context.Context, key string) ([]byte, error) {
	p.mu.Lock()
	delete(p.entries, key)
	p.mu.Unlock()
	return p.Passing.Take(ctx, key)
}

// longURI is a redirect URI that takes as much as one can.
var longURI = callback + "?" + strings.Repeat(`"`, 2000)

func newSmallGate(t *testing.T) *gate {
	t.Helper()
	g := newGate(t, func(g *gate) {
		g.passing = &weighed{Passing: g.passing, g: g, entries: map[string]weight{}}
		g.portal.redirectURI = longURI
	})
	g.provider.LimitAccounts(smallAccount)
	return g
}

// A portal that has run wild fills its own account. It shuts out no other, and
// whoever it has sent here already still gets through.
func TestFullAccountShutsOutNobodyElse(t *testing.T) {
	for _, hard := range []string{`"`, "<", "&", "山"} { // what JSON, or HTML in it, makes the most of
		t.Run(hard, func(t *testing.T) {
			testFullAccount(t, map[string]string{
				"redirect_uri": longURI, "state": strings.Repeat(hard, 512/len(hard)), "nonce": strings.Repeat(hard, 255/len(hard)),
				"login_hint": strings.Repeat(hard, 255/len(hard)), "ui_locales": strings.Repeat(strings.Repeat("x", 35)+" ", 8),
			})
		})
	}
}

func testFullAccount(t *testing.T, pushed map[string]string) {
	g := newSmallGate(t)
	var pages []string
	var browsers []*http.Client
	for i := 0; ; i++ {
		a := g.portal.push(pushed)
		if a.status != http.StatusCreated {
			wantRefused(t, a, http.StatusServiceUnavailable, "temporarily_unavailable")
			break
		}
		if i == 100 {
			t.Fatal("there is no end to it")
		}
		browser := g.browser()
		browsers = append(browsers, browser)
		for range 16 { // from 16 tabs, or by a script
			pages = append(pages, g.load(browser, a.field("request_uri")))
		}
	}
	if len(pages) < 8*16 {
		t.Fatalf("full after %d loads", len(pages))
	}

	otherURI := g.other.requestURI(nil)
	if a := g.get(g.browser(), authorizePath("other", otherURI)); a.status != http.StatusSeeOther {
		t.Errorf("another portal: %d", a.status)
	}
	for i := 0; i < len(pages); i += 16 {
		page := pages[i : i+16][i%16]
		code := g.post(browsers[i/16], page, "").callback(t).Get("code")
		if a := g.portal.redeem(code, map[string]string{"redirect_uri": longURI}); a.status != http.StatusOK {
			t.Errorf("a customer who was there already: %d %s", a.status, a.body)
		}
	}
	if a := g.portal.push(nil); a.status != http.StatusCreated {
		t.Errorf("when all have passed: %d %s", a.status, a.body)
	}
}

// What ends gives its room back at once, what is left lying does in time.
func TestRoomIsGivenBack(t *testing.T) {
	for name, end := range map[string]func(g *gate, i int){
		"cancelled": func(g *gate, i int) {
			browser := g.browser()
			g.post(browser, g.load(browser, g.portal.requestURI(nil)), "refuse=cancelled").callback(g.t)
			if i%10 == 0 {
				g.advance(13 * time.Second) // until then its answer is kept for a second press
			}
		},
		"prompt=none": func(g *gate, _ int) {
			g.get(g.browser(), authorizePath("portal", g.portal.requestURI(map[string]string{"prompt": "none"}))).callback(g.t)
		},
		"redeemed": func(g *gate, i int) {
			if a := g.portal.redeem(g.code(), nil); a.status != http.StatusOK {
				g.t.Fatalf("redeem: %d %s", a.status, a.body)
			}
			forgetProofs(g, i)
		},
		"not redeemed": func(g *gate, i int) {
			wantRefused(g.t, g.portal.redeem(g.code(), map[string]string{"code_verifier": ""}), http.StatusBadRequest, "invalid_grant")
			forgetProofs(g, i)
		},
		"left lying": func(g *gate, i int) {
			g.load(g.browser(), g.portal.requestURI(nil))
			if i%20 == 0 {
				g.advance(13 * time.Minute)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newSmallGate(t)
			for i := range 100 {
				end(g, i)
			}
		})
	}
}

// forgetProofs lets time go by now and then: proofs and access tokens are kept for a
// while, and may be. It isn't enough for a request.
func forgetProofs(g *gate, i int) {
	if i%30 == 0 {
		g.advance(3 * time.Minute)
	}
}

// Assertions are remembered for ten minutes, so they count as well.
func TestAssertionsAreCounted(t *testing.T) {
	g := newSmallGate(t)
	bad := map[string]string{"scope": "profile"} // authenticated, then refused
	for i := 0; ; i++ {
		a := g.portal.push(bad)
		if a.status == http.StatusServiceUnavailable {
			break
		}
		wantRefused(t, a, http.StatusBadRequest, "invalid_scope")
		if i > 1000 {
			t.Fatal("there is no end to it")
		}
	}
	if a := g.other.push(nil); a.status != http.StatusCreated {
		t.Errorf("another portal: %d %s", a.status, a.body)
	}
	wantRefused(t, g.portal.redeem("x", nil), http.StatusBadRequest, "invalid_grant") // there is room at /token
	g.advance(71 * time.Second)                                                       // they have expired
	if a := g.portal.push(nil); a.status != http.StatusCreated {
		t.Errorf("a minute later: %d %s", a.status, a.body)
	}
	// A replay takes nothing, or whoever has one could fill the account.
	replayed := g.portal.assertion(map[string]any{"jti": "once"})
	for i := range 1000 {
		if a := g.portal.push(map[string]string{"client_assertion": replayed}); (a.status == http.StatusCreated) != (i == 0) {
			t.Fatalf("replay %d: %d %s", i, a.status, a.body)
		}
	}
	if a := g.portal.push(nil); a.status != http.StatusCreated {
		t.Errorf("after the replays: %d %s", a.status, a.body)
	}
}

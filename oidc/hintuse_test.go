package oidc_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"otpgate/oidc"
)

func newHintGate(t *testing.T) (*gate, *firstFactor) {
	f := newFirstFactor(t)
	return newGate(t, asOIDC(func(c *oidc.Client) { c.HintIssuers = []oidc.HintIssuer{f.issuer()} })), f
}

// Who has overheard a request begins nothing with it, and neither opens it once it
// has ended.
func TestHintIsForOneRequest(t *testing.T) {
	g, f := newHintGate(t)
	hint := f.hint(g.now(), nil)
	path := barePath(map[string]string{"id_token_hint": hint})
	browser := g.browser()
	first := g.get(browser, path).header.Get("Location")
	second := g.get(browser, path).header.Get("Location")
	if first == second || len(first) < 40 || first[:40] != second[:40] {
		t.Errorf("loaded twice: %s and %s", first, second)
	}
	wantNone := func(what, path string) {
		t.Helper()
		if a := g.get(g.browser(), path); a.status != http.StatusGone || a.header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %d", what, a.status)
		}
	}
	wantNone("another request with its nonce", barePath(map[string]string{"id_token_hint": hint, "state": "another"}))
	g.post(browser, second, "").callback(t)
	wantNone("after its end", path)
	g.advance(6 * time.Minute) // it has expired by now
	if back := g.get(g.browser(), path).callback(t); back.Get("error") != "invalid_request" {
		t.Errorf("after it has expired: %v", back)
	}
}

// The tries of one person are bounded, by the hint whatever its signature.
func TestHintBeginsOnlySoManyLogIns(t *testing.T) {
	g, f := newHintGate(t)
	now := g.now()
	try := func(i int) answer {
		return g.get(g.browser(), barePath(map[string]string{"id_token_hint": f.hint(now, nil), "nonce": fmt.Sprint("nonce", i)}))
	}
	for i := range 16 {
		if a := try(i); a.header.Get("Set-Cookie") == "" {
			t.Fatalf("try %d: %d", i, a.status)
		}
	}
	if back := try(16).callback(t); back.Get("error") != "invalid_request" {
		t.Errorf("one more: %v", back)
	}
	g.pass(barePath(map[string]string{"id_token_hint": f.hint(now, map[string]any{"jti": "new"})}))
}

// An ID token that lives for long is a hint only while it is new.
func TestHintOfLongAgo(t *testing.T) {
	g, f := newHintGate(t)
	issued := func(ago time.Duration) string {
		return barePath(map[string]string{"id_token_hint": f.hint(g.now(), map[string]any{
			"iat": g.now().Add(-ago).Unix(), "exp": g.now().Add(300 * 24 * time.Hour).Unix(),
		})})
	}
	g.pass(issued(10 * time.Minute))
	if back := g.get(g.browser(), issued(12*time.Minute)).callback(t); back.Get("error") != "invalid_request" {
		t.Errorf("issued 12 minutes ago: %v", back)
	}
}

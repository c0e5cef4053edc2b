package oidc_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Edge 1: in the bare library most codes can be redeemed more than once. Here one
// redemption succeeds at most, and what it got ends with the others.
func TestParallelRedemptionsLeaveNoToken(t *testing.T) {
	g := newGate(t)
	for range 10 {
		code := g.code()
		g.portal.redeem("x", nil) // for a nonce
		forms, proofs := make([]string, 16), make([]string, 16)
		for i := range forms {
			forms[i] = g.portal.tokenForm(code, nil)
			proofs[i] = g.portal.proof(g.portal.key, g.portal.alg, "/token", nil)
		}
		var tokens, refused atomic.Int32
		var given atomic.Value // the access token
		var all sync.WaitGroup
		start := make(chan struct{})
		for i := range forms {
			all.Go(func() {
				<-start
				switch a := g.postWith(http.Header{"Dpop": {proofs[i]}}, "/token", forms[i]); {
				case a.status == http.StatusOK && a.field("id_token") != "":
					tokens.Add(1)
					given.Store(a.field("access_token"))
				case a.status == http.StatusBadRequest && a.field("error") == "invalid_grant":
					refused.Add(1)
				}
			})
		}
		close(start)
		all.Wait()
		if tokens.Load() > 1 || tokens.Load()+refused.Load() != 16 {
			t.Fatalf("%d tokens, %d refused", tokens.Load(), refused.Load())
		}
		if token, ok := given.Load().(string); ok {
			if a := g.post(g.Client(), "/introspect", g.portal.form(url.Values{"token": {token}}, nil)); a.field("active") != "false" {
				t.Fatalf("a code was used twice, and its access token lives: %d %s", a.status, a.body)
			}
		}
	}
}

// A wrong redemption is refused, and costs the code.
func TestRedemptionRefused(t *testing.T) {
	g := newGate(t)
	for name, changed := range map[string]map[string]string{
		"no verifier":               {"code_verifier": ""}, // edge 5
		"wrong verifier":            {"code_verifier": strings.Repeat("x", 43)},
		"the challenge as verifier": {"code_verifier": challenge}, // plain
		"short verifier":            {"code_verifier": codeVerifier[:42]},
		"long verifier":             {"code_verifier": strings.Repeat("x", 129)},
		"no redirect_uri":           {"redirect_uri": ""},
		"another redirect_uri":      {"redirect_uri": callbackPath},
		"redirect_uri escaped":      {"redirect_uri": url.QueryEscape(callback)},
	} {
		t.Run(name, func(t *testing.T) {
			code := g.code()
			wantRefused(t, g.portal.redeem(code, changed), http.StatusBadRequest, "invalid_grant")
			wantRefused(t, g.portal.redeem(code, nil), http.StatusBadRequest, "invalid_grant")
		})
	}
}

// A verifier shorter than RFC 7636 §4.1 allows can be guessed from its challenge.
func TestWeakVerifier(t *testing.T) {
	g := newGate(t)
	sum := sha256.Sum256([]byte("hunter2"))
	browser := g.browser()
	page := g.load(browser, g.portal.requestURI(map[string]string{"code_challenge": base64.RawURLEncoding.EncodeToString(sum[:])}))
	code := g.post(browser, page, "").callback(t).Get("code")
	wantRefused(t, g.portal.redeem(code, map[string]string{"code_verifier": "hunter2"}), http.StatusBadRequest, "invalid_grant")
}

func TestCodeOfAnotherClient(t *testing.T) {
	g := newGate(t)
	code := g.code()
	wantRefused(t, g.other.redeem(code, nil), http.StatusBadRequest, "invalid_grant")
	wantRefused(t, g.portal.redeem(code, nil), http.StatusBadRequest, "invalid_grant")
}

func TestTokenRequestRefused(t *testing.T) {
	g := newGate(t)
	code := g.code()
	for name, test := range map[string]struct {
		changed map[string]string
		want    string
	}{
		"no grant_type":      {map[string]string{"grant_type": ""}, "invalid_request"},
		"no code":            {map[string]string{"code": ""}, "invalid_request"},
		"unknown code":       {map[string]string{"code": "x"}, "invalid_grant"},
		"jwt-bearer":         {map[string]string{"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": g.portal.assertion(nil)}, "unsupported_grant_type"}, // edge 8
		"client_credentials": {map[string]string{"grant_type": "client_credentials"}, "unsupported_grant_type"},
		"refresh_token":      {map[string]string{"grant_type": "refresh_token", "refresh_token": "x"}, "unsupported_grant_type"},
		"password":           {map[string]string{"grant_type": "password"}, "unsupported_grant_type"},
	} {
		t.Run(name, func(t *testing.T) {
			wantRefused(t, g.portal.redeem(code, test.changed), http.StatusBadRequest, test.want)
		})
	}
	// Whoever isn't the client costs it nothing.
	wantRefused(t, g.portal.redeem(code, map[string]string{"client_assertion": "", "client_assertion_type": ""}), http.StatusUnauthorized, "invalid_client")
	wantRefused(t, g.portal.redeem(code, map[string]string{"client_id": "other"}), http.StatusUnauthorized, "invalid_client")
	if a := g.portal.redeem(code, map[string]string{"client_id": ""}); a.status != http.StatusOK { // RFC 7521 §4.2: optional
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestCodeExpires(t *testing.T) {
	g := newGate(t)
	inTime, late := g.code(), g.code()
	g.advance(58 * time.Second)
	if a := g.portal.redeem(inTime, nil); a.status != http.StatusOK {
		t.Errorf("after 58 s: %d %s", a.status, a.body)
	}
	g.advance(2 * time.Second)
	wantRefused(t, g.portal.redeem(late, nil), http.StatusBadRequest, "invalid_grant")
}

func TestTokenAnswer(t *testing.T) {
	g := newGate(t)
	a := g.portal.redeem(g.code(), nil)
	if a.status != http.StatusOK || a.header.Get("Cache-Control") != "no-store" || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("%d %v", a.status, a.header)
	}
	if a.field("scope") != "openid" || a.field("state") != "" || a.field("refresh_token") != "" {
		t.Errorf("%s", a.body)
	}
}

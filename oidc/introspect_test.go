package oidc_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestIntrospectionAndRevocation(t *testing.T) {
	g := newGate(t)
	token := g.tokens().field("access_token")
	ask := func(p *portal, path string) answer {
		return g.post(g.Client(), path, p.form(url.Values{"token": {token}}, nil))
	}
	if a := ask(g.portal, "/introspect"); a.field("active") != "true" || a.field("sub") != customer || a.field("token_type") != "DPoP" || !strings.Contains(a.field("cnf"), "jkt") {
		t.Errorf("one's own: %s", a.body)
	}
	if a := ask(g.other, "/introspect"); strings.TrimSpace(string(a.body)) != `{"active":false}` {
		t.Errorf("another's: %s", a.body)
	}
	if a := ask(g.other, "/revoke"); a.status != http.StatusOK {
		t.Errorf("revoking another's: %d", a.status)
	}
	if a := ask(g.portal, "/introspect"); a.field("active") != "true" {
		t.Error("another client has revoked it")
	}
	wantRefused(t, g.post(g.Client(), "/introspect", url.Values{"token": {token}, "client_id": {"portal"}}.Encode()), http.StatusUnauthorized, "invalid_client")
	for range 2 {
		if a := ask(g.portal, "/revoke"); a.status != http.StatusOK || len(a.body) > 0 {
			t.Errorf("revoking: %d %s", a.status, a.body)
		}
	}
	if a := ask(g.portal, "/introspect"); strings.TrimSpace(string(a.body)) != `{"active":false}` {
		t.Errorf("revoked: %s", a.body)
	}
	proof := g.portal.proof(g.portal.key, g.portal.alg, "/userinfo", map[string]any{"ath": ath(token)})
	if a := g.userInfo("DPoP", token, proof); a.status != http.StatusUnauthorized || a.field("error") != "invalid_token" {
		t.Errorf("userinfo with a revoked token: %d %s", a.status, a.body)
	}
	token = g.tokens().field("access_token")
	g.advance(time.Minute)
	if a := ask(g.portal, "/introspect"); strings.TrimSpace(string(a.body)) != `{"active":false}` {
		t.Errorf("expired: %s", a.body)
	}
	wantRefused(t, g.post(g.Client(), "/revoke", g.portal.form(url.Values{}, nil)), http.StatusBadRequest, "invalid_request")
}

// A code that comes a second time was stolen: what the first has given ends.
func TestReusedCodeRevokesItsToken(t *testing.T) {
	g := newGate(t)
	code := g.code()
	token := g.portal.redeem(code, nil).field("access_token")
	wantRefused(t, g.portal.redeem(code, nil), http.StatusBadRequest, "invalid_grant")
	a := g.post(g.Client(), "/introspect", g.portal.form(url.Values{"token": {token}}, nil))
	if a.field("active") != "false" {
		t.Errorf("its token lives: %s", a.body)
	}
}

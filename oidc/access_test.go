package oidc_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"otpgate/oidc"
)

// at posts a form to a full address with client.
func (g *gate) at(client *http.Client, address, form string) answer {
	g.t.Helper()
	r, err := http.NewRequest(http.MethodPost, address, strings.NewReader(form))
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return g.do(client, r)
}

// A token that is bound to a certificate is of no use with another, or without.
func TestTokenBoundToACertificate(t *testing.T) {
	g := newGate(t, func(g *gate) { g.portal.change = func(c *oidc.Client) { c.SenderConstraint = oidc.ByMTLS } })
	ca := newCA(t)
	chain := ca.issue(t, nil)
	mine, others := g.withCertificate(chain), g.withCertificate(ca.issue(t, nil))

	code := g.code()
	wantRefused(t, g.post(g.Client(), "/token", g.portal.tokenForm(code, nil)), http.StatusBadRequest, "invalid_request")
	a := g.at(mine, g.mtls.URL+"/token", g.portal.tokenForm(code, nil))
	if a.status != http.StatusOK || a.field("token_type") != "Bearer" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	token := a.field("access_token")
	sum := sha256.Sum256(chain.Leaf.Raw)
	a = g.at(others, g.mtls.URL+"/introspect", g.portal.form(url.Values{"token": {token}}, nil))
	if !strings.Contains(a.field("cnf"), base64.RawURLEncoding.EncodeToString(sum[:])) {
		t.Errorf("introspection: %s", a.body)
	}
	userInfo := func(client *http.Client, origin string) answer {
		r, err := http.NewRequest(http.MethodGet, origin+"/userinfo", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		return g.do(client, r)
	}
	if a := userInfo(mine, g.mtls.URL); a.status != http.StatusOK || a.field("sub") != customer {
		t.Errorf("by its own: %d %s", a.status, a.body)
	}
	for name, a := range map[string]answer{
		"another certificate": userInfo(others, g.mtls.URL), "none": userInfo(g.Client(), g.URL),
	} {
		if a.status != http.StatusUnauthorized || a.field("error") != "invalid_token" || strings.Contains(string(a.body), customer) {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	// RFC 6750 §2.2 allows the body; FAPI 2.0 doesn't.
	wantRefused(t, g.at(mine, g.mtls.URL+"/userinfo", "access_token="+token), http.StatusBadRequest, "invalid_request")
}

// A certificate or a key that the client wasn't asked for binds its token, too.
func TestProofBindsWhereNoneIsAsked(t *testing.T) {
	g := newGate(t, func(g *gate) {
		g.portal.change = func(c *oidc.Client) { c.Profile, c.SenderConstraint = oidc.ProfileOIDC, oidc.Unconstrained }
	})
	a := g.post(g.Client(), "/token", g.portal.tokenForm(g.code(), nil))
	if a.status != http.StatusOK || a.field("token_type") != "Bearer" {
		t.Errorf("without a proof: %d %s", a.status, a.body)
	}
	token := g.tokens().field("access_token")
	if a := g.userInfo("Bearer", token); a.status != http.StatusUnauthorized {
		t.Errorf("a bound token without a proof: %d %s", a.status, a.body)
	}
}

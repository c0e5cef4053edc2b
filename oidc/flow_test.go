package oidc_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	rp "github.com/coreos/go-oidc/v3/oidc"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/oauth2"

	"otpgate/oidc"
	"otpgate/verifier"
)

// The whole journey, checked by relying-party libraries that aren't ours.
func TestCustomerPasses(t *testing.T) {
	g := newGate(t)
	ctx := rp.ClientContext(t.Context(), g.Client())
	metadata, err := rp.NewProvider(ctx, g.URL)
	if err != nil {
		t.Fatal(err)
	}
	browser := g.browser()
	page := g.load(browser, g.portal.requestURI(map[string]string{"ui_locales": "en ja"}))

	var shown oidc.Request
	if err := json.Unmarshal(g.get(browser, page).body, &shown); err != nil {
		t.Fatal(err)
	}
	if left := shown.Expires.Sub(g.now()); left < 9*time.Minute || left > 10*time.Minute {
		t.Errorf("the page has %s left", left)
	}
	shown.Expires = time.Time{}
	want := oidc.Request{
		ID: strings.TrimPrefix(page, "/otp/"), Realm: "retail", User: customer, Client: "portal",
		Locales: []string{"en", "ja"}, Portal: "https://portal.example",
	}
	if diff := cmp.Diff(want, shown); diff != "" {
		t.Errorf("the page's request (-want +got):\n%s", diff)
	}

	answered := g.post(browser, page, "").callback(t)
	if answered.Get("state") != "the state" || answered.Get("iss") != g.URL || answered.Get("code") == "" || len(answered) != 3 {
		t.Errorf("authorization response: %v", answered)
	}
	config := oauth2.Config{ClientID: "portal", Endpoint: metadata.Endpoint(), RedirectURL: callback}
	config.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	g.portal.redeem("x", nil) // for a nonce
	token, err := config.Exchange(contextWithClient(t, &http.Client{Transport: proving{g.portal}}), answered.Get("code"), oauth2.VerifierOption(codeVerifier),
		oauth2.SetAuthURLParam("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
		oauth2.SetAuthURLParam("client_assertion", g.portal.assertion(nil)))
	if err != nil {
		t.Fatal(err)
	}
	checkIDToken(t, ctx, g, metadata, token)
	if token.RefreshToken != "" || token.Type() != "DPoP" || time.Until(token.Expiry) > time.Minute {
		t.Errorf("access token: %+v", token)
	}
}

// proving sends a portal's requests with DPoP proofs, which oauth2 doesn't know.
type proving struct{ portal *portal }

func (p proving) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("DPoP", p.portal.proof(p.portal.key, p.portal.alg, r.URL.Path, map[string]any{"htm": r.Method}))
	return p.portal.gate.Client().Transport.RoundTrip(r)
}

func checkIDToken(t *testing.T, ctx context.Context, g *gate, metadata *rp.Provider, token *oauth2.Token) {
	t.Helper()
	raw, _ := token.Extra("id_token").(string)
	idToken, err := metadata.Verifier(&rp.Config{ClientID: "portal", SupportedSigningAlgs: []string{"ES256"}}).Verify(ctx, raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := idToken.VerifyAccessToken(token.AccessToken); err != nil { // at_hash
		t.Error(err)
	}
	var claims struct {
		ACR      string   `json:"acr"`
		AMR      []string `json:"amr"`
		AuthTime int64    `json:"auth_time"`
	}
	if err := idToken.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	if idToken.Subject != customer || idToken.Nonce != "the-nonce" {
		t.Errorf("sub %q, nonce %q", idToken.Subject, idToken.Nonce)
	}
	if claims.ACR != oidc.DefaultACR || !slices.Equal(claims.AMR, []string{"otp", "swk"}) {
		t.Errorf("acr %q, amr %q", claims.ACR, claims.AMR)
	}
	if claims.AuthTime != g.result.Load().At.Unix() {
		t.Errorf("auth_time %d is not when the gate accepted", claims.AuthTime)
	}
	if life := idToken.Expiry.Sub(idToken.IssuedAt); life != 5*time.Minute {
		t.Errorf("the ID token lives %s", life)
	}
}

// idTokenClaims redeems a fresh code and returns the claims of its ID token.
func idTokenClaims(t *testing.T, g *gate, changed map[string]string) map[string]any {
	t.Helper()
	browser := g.browser()
	page := g.load(browser, g.portal.requestURI(changed))
	a := g.portal.redeem(g.post(browser, page, "").callback(t).Get("code"), nil)
	ctx := rp.ClientContext(t.Context(), g.Client())
	verifier := rp.NewVerifier(g.URL, rp.NewRemoteKeySet(ctx, g.URL+"/jwks.json"), &rp.Config{ClientID: "portal", SupportedSigningAlgs: []string{"ES256"}})
	idToken, err := verifier.Verify(ctx, a.field("id_token"))
	if err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	claims := map[string]any{}
	if err := idToken.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestMethodsAreWhatWasSeen(t *testing.T) {
	g := newGate(t)
	for carrier, want := range map[verifier.Carrier][]any{
		verifier.CarrierUnknown: {"otp"},
		verifier.Hardware:       {"otp", "hwk"},
		verifier.Software:       {"otp", "swk"},
	} {
		g.result.Store(&verifier.Result{Outcome: verifier.Accepted, Carrier: carrier, At: g.now()})
		if diff := cmp.Diff(any(want), idTokenClaims(t, g, nil)["amr"]); diff != "" {
			t.Errorf("amr of carrier %q (-want +got):\n%s", carrier, diff)
		}
	}
}

// The library splits opaque tokens at colons; a customer's name may have some.
func TestSubjectIsWhatWasPushed(t *testing.T) {
	g := newGate(t)
	for _, name := range []string{"urn:bank:customer:7", `a"b\c`, "山田 太郎"} {
		if got := idTokenClaims(t, g, map[string]string{"login_hint": name})["sub"]; got != name {
			t.Errorf("sub of %q is %q", name, got)
		}
	}
}

func TestNonceAndStateMayBeLeftOut(t *testing.T) {
	g := newGate(t)
	claims := idTokenClaims(t, g, map[string]string{"nonce": "", "state": ""})
	if nonce, ok := claims["nonce"]; ok {
		t.Errorf("nonce %q out of nowhere", nonce)
	}
}

func TestOnlyTheGateAccepts(t *testing.T) {
	g := newGate(t)
	browser := g.browser()
	page := g.load(browser, g.portal.requestURI(nil))
	for _, outcome := range []verifier.Outcome{"", verifier.Wrong, verifier.Replayed, verifier.Locked, verifier.NoUser} {
		g.result.Store(&verifier.Result{Outcome: outcome, At: g.now()})
		if a := g.post(browser, page, ""); a.status != http.StatusInternalServerError {
			t.Errorf("outcome %q: %d %s", outcome, a.status, a.header.Get("Location"))
		}
	}
}

func TestRefusalsGoBackToThePortal(t *testing.T) {
	for why, want := range map[oidc.Refusal]string{
		oidc.Cancelled: "access_denied",
		oidc.LockedOut: "access_denied",
		oidc.NoToken:   "unmet_authentication_requirements",
	} {
		g := newGate(t)
		browser := g.browser()
		page := g.load(browser, g.portal.requestURI(nil))
		got := g.post(browser, page, url.Values{"refuse": {string(why)}}.Encode()).callback(t)
		if got.Get("error") != want || got.Get("state") != "the state" || got.Get("iss") != g.URL || got.Has("code") {
			t.Errorf("%s: %v", why, got)
		}
		if a := g.post(browser, page, ""); a.status != http.StatusGone {
			t.Errorf("accepted after %s: %d", why, a.status)
		}
	}
}

func TestRedirectURIKeepsItsBytes(t *testing.T) {
	g := newGate(t)
	browser := g.browser()
	page := g.load(browser, g.portal.requestURI(map[string]string{"redirect_uri": callbackPath}))
	location := g.post(browser, page, "").header.Get("Location")
	if !strings.HasPrefix(location, callbackPath+"&code=") {
		t.Errorf("sent to %s", location)
	}
}

// What is advertised is exactly what there is.
func TestDiscovery(t *testing.T) {
	g := newGate(t)
	a := g.get(g.Client(), "/.well-known/openid-configuration")
	var got map[string]any
	if err := json.Unmarshal(a.body, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"issuer":                                g.URL,
		"authorization_endpoint":                g.URL + "/authorize",
		"token_endpoint":                        g.URL + "/token",
		"pushed_authorization_request_endpoint": g.URL + "/par",
		"jwks_uri":                              g.URL + "/jwks.json",
		"require_pushed_authorization_requests": true,
		"authorization_response_iss_parameter_supported":           true,
		"request_uri_parameter_supported":                          false,
		"scopes_supported":                                         []any{"openid"},
		"response_types_supported":                                 []any{"code"},
		"response_modes_supported":                                 []any{"query", "form_post"},
		"claims_parameter_supported":                               true,
		"prompt_values_supported":                                  []any{"none", "login"},
		"request_object_signing_alg_values_supported":              []any{"ES256", "PS256", "EdDSA"},
		"grant_types_supported":                                    []any{"authorization_code"},
		"acr_values_supported":                                     []any{oidc.DefaultACR},
		"subject_types_supported":                                  []any{"public"},
		"id_token_signing_alg_values_supported":                    []any{"ES256"},
		"token_endpoint_auth_methods_supported":                    []any{"private_key_jwt"},
		"token_endpoint_auth_signing_alg_values_supported":         []any{"ES256", "PS256", "EdDSA"},
		"dpop_signing_alg_values_supported":                        []any{"ES256", "PS256", "EdDSA"},
		"userinfo_endpoint":                                        g.URL + "/userinfo",
		"end_session_endpoint":                                     g.URL + "/end_session",
		"otpgate_status_endpoint":                                  g.URL + "/status",
		"introspection_endpoint":                                   g.URL + "/introspect",
		"introspection_endpoint_auth_methods_supported":            []any{"private_key_jwt"},
		"introspection_endpoint_auth_signing_alg_values_supported": []any{"ES256", "PS256", "EdDSA"},
		"revocation_endpoint":                                      g.URL + "/revoke",
		"revocation_endpoint_auth_methods_supported":               []any{"private_key_jwt"},
		"revocation_endpoint_auth_signing_alg_values_supported":    []any{"ES256", "PS256", "EdDSA"},
		"claims_supported":                                         []any{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr"},
		"code_challenge_methods_supported":                         []any{"S256"},
		"ui_locales_supported":                                     []any{"ja", "en"},
		"tls_client_certificate_bound_access_tokens":               true,
		"mtls_endpoint_aliases": map[string]any{
			"pushed_authorization_request_endpoint": g.mtls.URL + "/par", "token_endpoint": g.mtls.URL + "/token",
			"userinfo_endpoint": g.mtls.URL + "/userinfo", "introspection_endpoint": g.mtls.URL + "/introspect",
			"revocation_endpoint": g.mtls.URL + "/revoke", "otpgate_status_endpoint": g.mtls.URL + "/status",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("discovery (-want +got):\n%s", diff)
	}
}

func TestEndpointsOfTheLibraryAreClosed(t *testing.T) {
	g := newGate(t)
	for _, path := range []string{"/authorize/callback", "/oauth/token", "/oauth/introspect", "/keys", "/oauth/revoke", "/oidc/userinfo", "/device_authorization", "/healthz", "/ready"} {
		if a := g.get(g.Client(), path); a.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, a.status)
		}
	}
}

func TestNoOtherOriginMayRead(t *testing.T) {
	g := newGate(t)
	for _, path := range []string{"/.well-known/openid-configuration", "/jwks.json", "/token"} {
		r, err := http.NewRequest(http.MethodGet, g.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Origin", "https://evil.example")
		a := g.do(g.Client(), r)
		if allowed := a.header.Get("Access-Control-Allow-Origin"); allowed != "" {
			t.Errorf("%s allows %q", path, allowed)
		}
		cache := a.header.Get("Cache-Control")
		if path == "/jwks.json" && strings.HasPrefix(cache, "public, ") { // the one thing that is meant to be kept
			cache = "no-store"
		}
		if a.header.Get("X-Content-Type-Options") != "nosniff" || cache != "no-store" {
			t.Errorf("%s: headers %v", path, a.header)
		}
	}
}

func TestSigningKeySurvivesARestart(t *testing.T) {
	database := filepath.Join(t.TempDir(), "gate.db")
	published := func() (jwks string) {
		t.Run("run", func(t *testing.T) { // its end closes the database
			g := newGate(t, func(g *gate) { g.database = database })
			jwks = string(g.get(g.Client(), "/jwks.json").body)
		})
		return jwks
	}
	first, second := published(), published()
	if first != second {
		t.Errorf("the keys changed: %s, then %s", first, second)
	}
	if !strings.Contains(first, `"kid"`) || strings.Contains(first, `"d"`) {
		t.Errorf("key set: %s", first)
	}
}

// The log explains refusals to the operator and gives away nothing.
func TestLogHoldsReasonsAndNoSecrets(t *testing.T) {
	g := newGate(t)
	code := g.code()
	assertion := g.portal.assertion(map[string]any{"exp": 1})
	wantRefused(t, g.portal.redeem(code, map[string]string{"client_assertion": assertion}), http.StatusUnauthorized, "invalid_client")
	wantRefused(t, g.portal.redeem(code, map[string]string{"code_verifier": strings.Repeat("x", 43)}), http.StatusBadRequest, "invalid_grant")
	log := g.log.String()
	for _, reason := range []string{"client=portal", "is expired", "code_verifier doesn't prove"} {
		if !strings.Contains(log, reason) {
			t.Errorf("the log doesn't say %q:\n%s", reason, log)
		}
	}
	for _, secret := range []string{code, assertion, codeVerifier, customer} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds %q:\n%s", secret, log)
		}
	}
}

func TestCounter(t *testing.T) {
	g := newGate(t)
	g.code()
	g.portal.push(map[string]string{"scope": "profile"})
	g.post(g.Client(), "/par", "client_id=someone")
	const want = `
# HELP otpgate_oidc_requests_total Requests to the OIDC door, by what became of them: ok, the error code, no_token, or cancelled.
# TYPE otpgate_oidc_requests_total counter
otpgate_oidc_requests_total{client="portal",endpoint="authorize",result="ok"} 1
otpgate_oidc_requests_total{client="portal",endpoint="par",result="invalid_scope"} 1
otpgate_oidc_requests_total{client="portal",endpoint="par",result="ok"} 1
otpgate_oidc_requests_total{client="portal",endpoint="response",result="ok"} 1
otpgate_oidc_requests_total{client="unknown",endpoint="par",result="invalid_client"} 1
`
	if err := testutil.GatherAndCompare(g.metrics, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

package oidc_test

import (
	"crypto"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"otpgate/oidc"
)

// fapiModules are the cases of fapi2-security-profile-final-test-plan. Those that
// the plan tells by a request object have the request's own parameters here: it is
// the unsigned variant.
func fapiModules() map[string]func(*testing.T, *gate) {
	modules := map[string]func(*testing.T, *gate){
		"discovery-end-point-verification": fapiDiscovery,
		"happy-flow":                       fapiHappyFlow,
		"user-rejects-authentication":      fapiUserRejects,

		"ensure-authorization-request-without-state-success":      passesWith(map[string]string{"state": ""}),
		"ensure-authorization-request-without-nonce-success":      passesWith(map[string]string{"nonce": ""}),
		"ensure-authorization-request-with-64-char-nonce-success": passesWith(map[string]string{"nonce": strings.Repeat("n", 64)}),
		"ensure-other-scope-order-succeeds":                       passesWith(map[string]string{"scope": "accounts openid"}),
		"test-claims-parameter-identity-claims":                   passesWith(map[string]string{"claims": `{"id_token":{"auth_time":null,"name":null}}`}),
		"ensure-authorization-request-with-long-nonce":            pushRefused(map[string]string{"nonce": strings.Repeat("n", 384)}, "invalid_request"),
		"ensure-authorization-request-with-long-state":            pushRefused(map[string]string{"state": strings.Repeat("s", 1000)}, "invalid_request"),

		"ensure-different-nonce-inside-and-outside-request-object": outsideIsIgnored(nil, "nonce"),
		"ensure-different-state-inside-and-outside-request-object": outsideIsIgnored(nil, "state"),
		"state-only-outside-request-object-not-used":               outsideIsIgnored(map[string]string{"state": ""}, "state"),
		"ensure-request-object-without-redirect-uri-fails":         pushRefused(map[string]string{"redirect_uri": ""}, "invalid_request"),
		"ensure-redirect-uri-in-authorization-request":             pushRefused(map[string]string{"redirect_uri": ""}, "invalid_request"),
		"ensure-registered-redirect-uri":                           pushRefused(map[string]string{"redirect_uri": "https://portal.example/other"}, "invalid_request"),
		"plain-fapi-tolerate-unregistered-redirect-uri":            pushRefused(map[string]string{"redirect_uri": "https://portal.example/other"}, "invalid_request"),
		"ensure-response-type-code-idtoken-fails":                  pushRefused(map[string]string{"response_type": "code id_token"}, "unsupported_response_type"),
		"ensure-response-type-token-fails":                         pushRefused(map[string]string{"response_type": "token"}, "unsupported_response_type"),
		"par-ensure-pkce-required":                                 pushRefused(map[string]string{"code_challenge": "", "code_challenge_method": ""}, "invalid_request"),
		"par-plain-pkce-rejected":                                  pushRefused(map[string]string{"code_challenge_method": "plain"}, "invalid_request"),
		"par-authorization-request-containing-request_uri-form-param": pushRefused(map[string]string{
			"request_uri": "urn:ietf:params:oauth:request_uri:x",
		}, "invalid_request"),
		"ensure-unsigned-authorization-request-without-using-par-fails": func(t *testing.T, g *gate) {
			wantPage(t, g.get(g.browser(), barePath(map[string]string{"login_hint": customer})))
		},

		"par-ensure-reused-request-uri-prior-to-auth-completion-succeeds": requestURITwiceLoaded,
		"par-attempt-reuse-request_uri":                                   requestURIReused,
		"par-attempt-to-use-expired-request_uri":                          requestURIExpired,
		"par-attempt-to-use-request_uri-for-different-client":             requestURIOfAnother,
		"par-attempt-invalid-http-method":                                 parByPUT,
		"par-without-duplicate-parameters":                                passesWith(nil),

		"ensure-client-id-in-token-endpoint":                 clientIDOfAnother,
		"ensure-holder-of-key-required":                      noProof,
		"ensure-authorization-code-is-bound-to-client":       codeOfAnother,
		"attempt-reuse-authorization-code-after-one-second":  codeReused,
		"ensure-token-endpoint-fails-with-expired-auth-code": codeExpired,
		"ensure-pkce-code-verifier-required":                 redeemRefused(map[string]string{"code_verifier": ""}, http.StatusBadRequest, "invalid_grant"),
		"incorrect-pkce-code-verifier-rejected":              redeemRefused(map[string]string{"code_verifier": strings.Repeat("x", 43)}, http.StatusBadRequest, "invalid_grant"),
		"ensure-client-assertion-in-token-endpoint":          redeemRefused(bare, http.StatusUnauthorized, "invalid_client"),
		"ensure-signed-client-assertion-with-RS256-fails":    assertionByRS256,
		"ensure-client-assertion-with-wrong-aud-fails":       assertionRefused(map[string]any{"aud": "https://evil.example"}),
		"ensure-client-assertion-with-no-sub-fails":          assertionRefused(map[string]any{"sub": nil}),
		"par-test-array-as-audience-fails":                   assertionWith(func(g *gate) map[string]any { return map[string]any{"aud": []string{g.URL}} }, false),
		"par-test-par-endpoint-url-as-audience-fails":        assertionWith(func(g *gate) map[string]any { return map[string]any{"aud": g.URL + "/par"} }, false),
		"par-test-token-endpoint-url-as-audience-fails":      assertionWith(func(g *gate) map[string]any { return map[string]any{"aud": g.URL + "/token"} }, false),
		"ensure-client-assertion-with-exp-is-5-minutes-in-past-fails": assertionWith(func(g *gate) map[string]any {
			return map[string]any{"iat": g.now().Add(-6 * time.Minute).Unix(), "exp": g.now().Add(-5 * time.Minute).Unix()}
		}, false),
		"par-ensure-jwt-client-assertions-nbf-8-seconds-in-the-future-is-accepted": assertionWith(func(g *gate) map[string]any {
			return map[string]any{"nbf": g.now().Add(8 * time.Second).Unix()}
		}, true),
		"par-ensure-jwt-client-assertions-nbf-over-60-seconds-in-the-future-fails": assertionWith(func(g *gate) map[string]any {
			return map[string]any{"nbf": g.now().Add(70 * time.Second).Unix(), "exp": g.now().Add(2 * time.Minute).Unix()}
		}, false),

		"access-token-type-header-case-sensitivity": tokenTypeInAnyCase,
		"check-dpop-proof-nbf-exp": proofPasses(func(g *gate) map[string]any {
			return map[string]any{"nbf": g.now().Unix(), "exp": g.now().Add(5 * time.Minute).Unix()}
		}),
		"ensure-dpopproof-with-iat-10seconds-before-succeeds": proofPasses(func(g *gate) map[string]any { return map[string]any{"iat": g.now().Add(-10 * time.Second).Unix()} }),
		"ensure-dpopproof-with-iat-10seconds-after-succeeds":  proofPasses(func(g *gate) map[string]any { return map[string]any{"iat": g.now().Add(10 * time.Second).Unix()} }),

		"dpop-negative-tests": proofsRefused,

		"ensure-mismatched-dpop-jkt-fails":                           jktAndProofDiffer,
		"ensure-token-endpoint-fails-with-mismatched-dpop-proof-jkt": boundTo(byProof, false),
		"ensure-token-endpoint-fails-with-mismatched-dpop-jkt":       boundTo(byThumbprint, false),
		"ensure-dpopproof-at-par-endpoint-binding-success":           boundTo(byProof, true),
		"ensure-dpop-auth-code-binding-success":                      boundTo(byThumbprint, true),
	}
	named := make(map[string]func(*testing.T, *gate), len(modules))
	for name, module := range modules {
		named["fapi2-security-profile-final-"+name] = module
	}
	return named
}

func fapiDiscovery(t *testing.T, g *gate) {
	document := g.discovered(t)
	for name, want := range map[string]any{
		"issuer": g.URL, "authorization_response_iss_parameter_supported": true, "require_pushed_authorization_requests": true,
		"pushed_authorization_request_endpoint": g.URL + "/par",
	} {
		if document[name] != want {
			t.Errorf("%s is %v", name, document[name])
		}
	}
	for name, wants := range map[string][]any{
		"code_challenge_methods_supported": {"S256"}, "token_endpoint_auth_methods_supported": {"private_key_jwt"},
		"token_endpoint_auth_signing_alg_values_supported": {"ES256", "PS256", "EdDSA"}, "dpop_signing_alg_values_supported": {"ES256", "PS256", "EdDSA"},
	} {
		if list, _ := document[name].([]any); !slices.Equal(list, wants) {
			t.Errorf("%s: %v, want %v", name, document[name], wants)
		}
	}
}

// fapiHappyFlow: the token works with its key, and with no other.
func fapiHappyFlow(t *testing.T, g *gate) {
	p := g.portal
	token := g.tokens().field("access_token")
	claims := map[string]any{"ath": ath(token)}
	if a := g.userInfo("DPoP", token, p.proof(p.key, p.alg, "/userinfo", claims)); a.status != http.StatusOK || a.field("sub") != customer {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := g.userInfo("DPoP", token, p.proof(g.other.key, g.other.alg, "/userinfo", claims)); a.status != http.StatusUnauthorized {
		t.Errorf("by the other client's key: %d %s", a.status, a.body)
	}
}

func fapiUserRejects(t *testing.T, g *gate) {
	browser := g.browser()
	page := g.load(browser, g.portal.requestURI(nil))
	back := g.post(browser, page, "refuse="+string(oidc.Cancelled)).callback(t)
	if back.Get("error") != "access_denied" || back.Get("state") != "the state" || back.Get("iss") != g.URL || back.Has("code") {
		t.Errorf("%v", back)
	}
}

// passesWith goes all the way with the changes, and compares what comes back.
func passesWith(changed map[string]string) func(*testing.T, *gate) {
	return func(t *testing.T, g *gate) {
		claims, back := g.pass(authorizePath("portal", g.portal.requestURI(changed)))
		want := with(map[string]string{"state": "the state", "nonce": "the-nonce"}, changed)
		nonce, _ := claims["nonce"].(string)
		if claims["sub"] != customer || nonce != want["nonce"] || back.Get("state") != want["state"] || back.Has("state") != (want["state"] != "") {
			t.Errorf("claims %v, back with %v", claims, back)
		}
		if claims["name"] != nil {
			t.Error("a name came from nowhere")
		}
	}
}

func pushRefused(changed map[string]string, code string) func(*testing.T, *gate) {
	return func(t *testing.T, g *gate) { wantRefused(t, g.portal.push(changed), http.StatusBadRequest, code) }
}

// outsideIsIgnored: what the browser carries beside the request_uri changes nothing.
func outsideIsIgnored(changed map[string]string, name string) func(*testing.T, *gate) {
	return func(t *testing.T, g *gate) {
		path := authorizePath("portal", g.portal.requestURI(changed)) + "&" + url.Values{name: {"from outside"}}.Encode()
		claims, back := g.pass(path)
		if claims["nonce"] != "the-nonce" || back.Get("state") != with(map[string]string{"state": "the state"}, changed)["state"] {
			t.Errorf("claims %v, back with %v", claims, back)
		}
	}
}

func requestURITwiceLoaded(t *testing.T, g *gate) {
	uri := g.portal.requestURI(nil)
	g.load(g.browser(), uri)
	browser := g.browser()
	if back := g.post(browser, g.load(browser, uri), "").callback(t); back.Get("code") == "" {
		t.Errorf("%v", back)
	}
}

func requestURIReused(t *testing.T, g *gate) {
	uri := g.portal.requestURI(nil)
	g.pass(authorizePath("portal", uri))
	wantPage(t, g.get(g.browser(), authorizePath("portal", uri)))
}

func requestURIExpired(t *testing.T, g *gate) {
	pushed := g.portal.push(nil)
	life, err := time.ParseDuration(pushed.field("expires_in") + "s")
	if err != nil {
		t.Fatal(err)
	}
	g.advance(life)
	wantPage(t, g.get(g.browser(), authorizePath("portal", pushed.field("request_uri"))))
}

func requestURIOfAnother(t *testing.T, g *gate) {
	wantPage(t, g.get(g.browser(), authorizePath("other", g.portal.requestURI(nil))))
}

func parByPUT(t *testing.T, g *gate) {
	r, err := http.NewRequest(http.MethodPut, g.URL+"/par", strings.NewReader(g.portal.pushForm(nil)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if a := g.do(g.Client(), r); a.status != http.StatusMethodNotAllowed || a.field("request_uri") != "" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func redeemRefused(changed map[string]string, status int, code string) func(*testing.T, *gate) {
	return func(t *testing.T, g *gate) { wantRefused(t, g.portal.redeem(g.code(), changed), status, code) }
}

func clientIDOfAnother(t *testing.T, g *gate) {
	wantRefused(t, g.portal.redeem(g.code(), map[string]string{"client_id": "other"}), http.StatusUnauthorized, "invalid_client")
}

func noProof(t *testing.T, g *gate) {
	wantRefused(t, g.post(g.Client(), "/token", g.portal.tokenForm(g.code(), nil)), http.StatusBadRequest, "invalid_dpop_proof")
}

func codeOfAnother(t *testing.T, g *gate) {
	wantRefused(t, g.other.redeem(g.code(), nil), http.StatusBadRequest, "invalid_grant")
}

func codeReused(t *testing.T, g *gate) {
	p := g.portal
	code := g.code()
	token := p.redeem(code, nil).field("access_token")
	g.advance(time.Second)
	wantRefused(t, p.redeem(code, nil), http.StatusBadRequest, "invalid_grant")
	a := g.userInfo("DPoP", token, p.proof(p.key, p.alg, "/userinfo", map[string]any{"ath": ath(token)}))
	if a.status != http.StatusUnauthorized || a.field("error") != "invalid_token" {
		t.Errorf("the first token lives on: %d %s", a.status, a.body)
	}
}

func codeExpired(t *testing.T, g *gate) {
	code := g.code()
	g.advance(time.Minute) // FAPI 2.0 Security Profile §5.3.2.1: at most 60 s
	wantRefused(t, g.portal.redeem(code, nil), http.StatusBadRequest, "invalid_grant")
}

func assertionRefused(changed map[string]any) func(*testing.T, *gate) {
	return assertionWith(func(*gate) map[string]any { return changed }, false)
}

// assertionWith pushes with an assertion that has the changes.
func assertionWith(changed func(*gate) map[string]any, taken bool) func(*testing.T, *gate) {
	return func(t *testing.T, g *gate) {
		a := g.portal.push(map[string]string{"client_assertion": g.portal.assertion(changed(g))})
		if !taken {
			wantRefused(t, a, http.StatusUnauthorized, "invalid_client")
		} else if a.status != http.StatusCreated {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
}

// assertionByRS256: the key is the client's own, and good for PS256.
func assertionByRS256(t *testing.T, _ *gate) {
	key := newRSAKey(t)
	g := newGate(t, func(g *gate) { g.portal.key, g.portal.alg = key, jose.PS256 })
	if a := g.portal.push(nil); a.status != http.StatusCreated {
		t.Fatalf("PS256: %d %s", a.status, a.body)
	}
	assertion := g.portal.sign(jose.SigningKey{Algorithm: jose.RS256, Key: key}, "portal-key", nil)
	wantRefused(t, g.portal.push(map[string]string{"client_assertion": assertion}), http.StatusUnauthorized, "invalid_client")
}

func tokenTypeInAnyCase(t *testing.T, g *gate) {
	p := g.portal
	token := g.tokens().field("access_token")
	for _, scheme := range []string{"dpop", "DPOP"} {
		a := g.userInfo(scheme, token, p.proof(p.key, p.alg, "/userinfo", map[string]any{"ath": ath(token)}))
		if a.status != http.StatusOK || a.field("sub") != customer {
			t.Errorf("%s: %d %s", scheme, a.status, a.body)
		}
	}
}

// proofPasses shows proofs with the changes at /par, /token and /userinfo.
func proofPasses(changed func(*gate) map[string]any) func(*testing.T, *gate) {
	return func(t *testing.T, g *gate) {
		p := g.portal
		p.redeem("x", nil) // for a nonce
		proof := func(path string, more map[string]any) http.Header {
			claims := changed(g)
			for name, value := range more {
				claims[name] = value
			}
			return http.Header{"Dpop": {p.proof(p.key, p.alg, path, claims)}}
		}
		pushed := g.postWith(proof("/par", nil), "/par", p.pushForm(nil))
		if pushed.status != http.StatusCreated {
			t.Fatalf("push: %d %s", pushed.status, pushed.body)
		}
		browser := g.browser()
		code := g.post(browser, g.load(browser, pushed.field("request_uri")), "").callback(t).Get("code")
		tokens := g.postWith(proof("/token", nil), "/token", p.tokenForm(code, nil))
		if tokens.status != http.StatusOK {
			t.Fatalf("token: %d %s", tokens.status, tokens.body)
		}
		token := tokens.field("access_token")
		if a := g.userInfo("DPoP", token, proof("/userinfo", map[string]any{"ath": ath(token)}).Get("DPoP")); a.status != http.StatusOK {
			t.Errorf("userinfo: %d %s", a.status, a.body)
		}
	}
}

// proofsRefused: at UserInfo, the resource that there is. What /token refuses is in
// TestTokenNeedsAProof.
func proofsRefused(t *testing.T, g *gate) {
	p := g.portal
	token := g.tokens().field("access_token")
	for name, changed := range map[string]map[string]any{
		"no jti": {"jti": nil}, "no htm": {"htm": nil}, "wrong htm": {"htm": "PUT"}, "no htu": {"htu": nil},
		"wrong htu": {"htu": "https://evil.example/userinfo"}, "no iat": {"iat": nil},
		"iat of yesterday": {"iat": g.now().Add(-24 * time.Hour).Unix()}, "iat of tomorrow": {"iat": g.now().Add(24 * time.Hour).Unix()},
		"no ath": {"ath": nil}, "wrong ath": {"ath": ath("x")},
	} {
		claims := map[string]any{"ath": ath(token)}
		for claim, value := range changed {
			claims[claim] = value
		}
		a := g.userInfo("DPoP", token, p.proof(p.key, p.alg, "/userinfo", claims))
		if a.status != http.StatusUnauthorized || a.field("error") != "invalid_dpop_proof" || a.field("sub") != "" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if a := g.userInfo("DPoP", token, p.proof(p.key, p.alg, "/userinfo", map[string]any{"ath": ath(token)})); a.status != http.StatusOK {
		t.Errorf("the right one: %d %s", a.status, a.body)
	}
}

// thumbprint names the key of a portal's proofs (RFC 9449 §10, dpop_jkt).
func thumbprint(t *testing.T, p *portal) string {
	t.Helper()
	key := jose.JSONWebKey{Key: p.key.Public()}
	sum, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(sum)
}

func jktAndProofDiffer(t *testing.T, g *gate) {
	p := g.portal
	p.redeem("x", nil) // for a nonce
	proof := http.Header{"Dpop": {p.proof(p.key, p.alg, "/par", nil)}}
	a := g.postWith(proof, "/par", p.pushForm(map[string]string{"dpop_jkt": thumbprint(t, g.other)}))
	wantRefused(t, a, http.StatusBadRequest, "invalid_dpop_proof")
}

// How a pushed request says which key is to redeem its code.
type binding int

const (
	byProof binding = iota
	byThumbprint
)

// boundTo redeems a code that is bound to the portal's key: by it or by another.
func boundTo(by binding, right bool) func(*testing.T, *gate) {
	return func(t *testing.T, g *gate) {
		p := g.portal
		p.redeem("x", nil) // for a nonce
		header, changed := http.Header{}, map[string]string{}
		if by == byProof {
			header.Set("DPoP", p.proof(p.key, p.alg, "/par", nil))
		} else {
			changed["dpop_jkt"] = thumbprint(t, p)
		}
		pushed := g.postWith(header, "/par", p.pushForm(changed))
		if pushed.status != http.StatusCreated {
			t.Fatalf("push: %d %s", pushed.status, pushed.body)
		}
		browser := g.browser()
		code := g.post(browser, g.load(browser, pushed.field("request_uri")), "").callback(t).Get("code")
		if right {
			if a := p.redeem(code, nil); a.status != http.StatusOK {
				t.Errorf("%d %s", a.status, a.body)
			}
			return
		}
		proof := p.proof(g.other.key, g.other.alg, "/token", nil)
		wantRefused(t, g.postWith(http.Header{"Dpop": {proof}}, "/token", p.tokenForm(code, nil)), http.StatusBadRequest, "invalid_grant")
	}
}

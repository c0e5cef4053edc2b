package oidc_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	rp "github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"otpgate/oidc"
)

const configModule = "oidcc-discovery-endpoint-verification"

// basicOP is a gate whose portal does what the basic plan's does: requests in the
// browser's hands, a shared secret, RS256. Beside it, as "other", one with
// client_secret_post and signed requests by a key.
type basicOP struct {
	*gate
	parent *testing.T
}

func newBasicOP(t *testing.T) *basicOP {
	return &basicOP{parent: t, gate: newGate(t, func(g *gate) {
		g.portal.change = func(c *oidc.Client) {
			withSecrets(oidc.SecretBasic)(c)
			c.BareHint, c.IDTokenAlg = true, jose.RS256
		}
		g.other.change = func(c *oidc.Client) {
			keys := c.Keys
			withSecrets(oidc.SecretPost)(c)
			c.Keys, c.RequestObject, c.IDTokenAlg = keys, oidc.ObjectsAllowed, jose.RS256
		}
	})}
}

// basicPath is a right request of the plan, but for the changes.
func basicPath(changed map[string]string) string {
	return barePath(with(map[string]string{"login_hint": customer}, changed))
}

// through leads a browser through path to the portal.
func (b *basicOP) through(path string) url.Values {
	b.t.Helper()
	browser := b.browser()
	a := b.get(browser, path)
	if a.status != http.StatusSeeOther || !strings.HasPrefix(a.header.Get("Location"), "/otp/") {
		b.t.Fatalf("authorize: %d %s %s", a.status, a.header.Get("Location"), a.body)
	}
	return b.post(browser, a.header.Get("Location"), "").callback(b.t)
}

// exchange redeems code by client_secret_basic.
func (b *basicOP) exchange(code string) answer {
	b.t.Helper()
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {callback}, "code_verifier": {codeVerifier},
	}
	return b.postWith(http.Header{"Authorization": {basic("portal", secret)}}, "/token", form.Encode())
}

// login goes all the way, and returns the tokens and what the verified ID token
// says.
func (b *basicOP) login(changed map[string]string) (answer, map[string]any) {
	b.t.Helper()
	return b.finish(b.through(basicPath(changed)))
}

func (b *basicOP) finish(back url.Values) (answer, map[string]any) {
	b.t.Helper()
	tokens := b.exchange(back.Get("code"))
	if tokens.status != http.StatusOK {
		b.t.Fatalf("token: %d %s", tokens.status, tokens.body)
	}
	return tokens, b.verified(tokens.field("id_token"), "portal")
}

// verified checks an ID token with a library that isn't ours.
func (b *basicOP) verified(raw, client string) map[string]any {
	b.t.Helper()
	ctx := rp.ClientContext(b.t.Context(), b.Client())
	keys := rp.NewRemoteKeySet(ctx, b.URL+"/jwks.json")
	token, err := rp.NewVerifier(b.URL, keys, &rp.Config{ClientID: client, SupportedSigningAlgs: []string{"RS256"}}).Verify(ctx, raw)
	if err != nil {
		b.t.Fatal(err)
	}
	claims := map[string]any{}
	if err := token.Claims(&claims); err != nil {
		b.t.Fatal(err)
	}
	return claims
}

// succeeds is a module whose request, with the changes, must end as one without.
func succeeds(changed map[string]string) func(*testing.T, *basicOP) {
	return func(t *testing.T, b *basicOP) {
		tokens, claims := b.login(changed)
		if claims["sub"] != customer {
			t.Errorf("sub %v", claims["sub"])
		}
		knowsNothing(t, b.userInfo("Bearer", tokens.field("access_token")), claims)
	}
}

// knowsNothing: no claim is made up that the gateway can't know.
func knowsNothing(t *testing.T, info answer, claims map[string]any) {
	t.Helper()
	if info.status != http.StatusOK || info.field("sub") != claims["sub"] {
		t.Errorf("userinfo: %d %s", info.status, info.body)
	}
	for _, claim := range []string{"name", "email", "address", "phone_number"} {
		if info.field(claim) != "" || claims[claim] != nil {
			t.Errorf("%s came from nowhere", claim)
		}
	}
}

// basicModules are the cases of oidcc-basic-certification-test-plan.
func basicModules() map[string]func(*testing.T, *basicOP) {
	return map[string]func(*testing.T, *basicOP){
		"oidcc-server":                                              succeeds(nil),
		"oidcc-response-type-missing":                               responseTypeMissing,
		"oidcc-idtoken-signature":                                   signatureNamesItsKey,
		"oidcc-userinfo-get":                                        userInfoBy(http.MethodGet),
		"oidcc-userinfo-post-header":                                userInfoBy(http.MethodPost),
		"oidcc-userinfo-post-body":                                  userInfoInTheBody,
		"oidcc-scope-profile":                                       succeeds(map[string]string{"scope": "openid profile"}),
		"oidcc-scope-email":                                         succeeds(map[string]string{"scope": "openid email"}),
		"oidcc-scope-address":                                       succeeds(map[string]string{"scope": "openid address"}),
		"oidcc-scope-phone":                                         succeeds(map[string]string{"scope": "openid phone"}),
		"oidcc-scope-all":                                           succeeds(map[string]string{"scope": "openid profile email address phone"}),
		"oidcc-alternate-happy-flow":                                otherOrder,
		"oidcc-display-page":                                        succeeds(map[string]string{"display": "page"}),
		"oidcc-display-popup":                                       succeeds(map[string]string{"display": "popup"}),
		"oidcc-prompt-login":                                        asksAgain(map[string]string{"prompt": "login"}),
		"oidcc-max-age-1":                                           asksAgain(map[string]string{"max_age": "1"}),
		"oidcc-prompt-none-not-logged-in":                           promptNone,
		"oidcc-login-hint":                                          succeeds(map[string]string{"login_hint": customer}),
		"oidcc-ui-locales":                                          succeeds(map[string]string{"ui_locales": "se"}),
		"oidcc-claims-locales":                                      succeeds(map[string]string{"claims_locales": "se"}),
		"oidcc-claims-essential":                                    succeeds(map[string]string{"claims": `{"userinfo":{"name":{"essential":true}}}`}),
		"oidcc-ensure-request-with-valid-pkce-succeeds":             succeeds(nil),
		"oidcc-ensure-request-with-unknown-parameter-succeeds":      succeeds(map[string]string{"extra": "foobar"}),
		"oidcc-ensure-request-with-acr-values-succeeds":             acrIsAsked,
		"oidcc-ensure-request-without-nonce-succeeds-for-code-flow": withoutNonce,
		"oidcc-codereuse":                                           codeReuse(0),
		"oidcc-codereuse-30seconds":                                 codeReuse(30 * time.Second),
		"oidcc-ensure-registered-redirect-uri":                      notRegistered,
		"oidcc-ensure-post-request-succeeds":                        requestByPOST,
		"oidcc-server-client-secret-post":                           secretInTheForm,
		"oidcc-ensure-request-object-with-redirect-uri":             objectsRedirectURI,
		"oidcc-request-uri-unsigned-supported-correctly-or-rejected-as-unsupported":    foreignRequestURI,
		"oidcc-unsigned-request-object-supported-correctly-or-rejected-as-unsupported": unsignedObject,
	}
}

func responseTypeMissing(t *testing.T, b *basicOP) {
	back := b.get(b.browser(), basicPath(map[string]string{"response_type": ""})).callback(t)
	if back.Get("error") != "invalid_request" || back.Get("state") != "the state" || back.Has("code") {
		t.Errorf("%v", back)
	}
}

func signatureNamesItsKey(t *testing.T, b *basicOP) {
	tokens, _ := b.login(nil)
	jws, err := jose.ParseSignedCompact(tokens.field("id_token"), []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(b.get(b.Client(), "/jwks.json").body, &set); err != nil {
		t.Fatal(err)
	}
	if kid := jws.Signatures[0].Header.KeyID; kid == "" || len(set.Key(kid)) != 1 {
		t.Errorf("kid %q isn't one key's", kid)
	}
}

func userInfoBy(method string) func(*testing.T, *basicOP) {
	return func(t *testing.T, b *basicOP) {
		tokens, claims := b.login(nil)
		r := b.asking(method, tokens.field("access_token"))
		r.Header.Set("Authorization", "Bearer "+tokens.field("access_token"))
		if a := b.do(b.Client(), r); a.status != http.StatusOK || a.field("sub") != claims["sub"] {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
}

func userInfoInTheBody(t *testing.T, b *basicOP) {
	tokens, claims := b.login(nil)
	a := b.post(b.Client(), "/userinfo", url.Values{"access_token": {tokens.field("access_token")}}.Encode())
	if a.status != http.StatusOK || a.field("sub") != claims["sub"] {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// otherOrder has the parameters from the last to the first, and the scopes too.
func otherOrder(t *testing.T, b *basicOP) {
	path, query, _ := strings.Cut(basicPath(map[string]string{"scope": "email openid"}), "?")
	parameters := strings.Split(query, "&")
	slices.Reverse(parameters)
	if _, claims := b.finish(b.through(path + "?" + strings.Join(parameters, "&"))); claims["sub"] != customer {
		t.Errorf("sub %v", claims["sub"])
	}
}

// asksAgain: the same browser is asked for a code once more, and auth_time says so.
func asksAgain(changed map[string]string) func(*testing.T, *basicOP) {
	return func(t *testing.T, b *basicOP) {
		browser := b.browser()
		var times [2]float64
		for i, path := range []string{basicPath(nil), basicPath(changed)} {
			a := b.get(browser, path)
			if !strings.HasPrefix(a.header.Get("Location"), "/otp/") {
				t.Fatalf("no code is asked for: %d %s", a.status, a.header.Get("Location"))
			}
			result := *b.result.Load()
			result.At = b.now()
			b.result.Store(&result)
			_, claims := b.finish(b.post(browser, a.header.Get("Location"), "").callback(t))
			times[i], _ = claims["auth_time"].(float64)
			b.advance(2 * time.Second)
		}
		if times[1] <= times[0] {
			t.Errorf("auth_time %v, then %v", times[0], times[1])
		}
	}
}

func promptNone(t *testing.T, b *basicOP) {
	back := b.get(b.browser(), basicPath(map[string]string{"prompt": "none"})).callback(t)
	if back.Get("error") != "login_required" || back.Get("state") != "the state" || back.Has("code") {
		t.Errorf("%v", back)
	}
}

func acrIsAsked(t *testing.T, b *basicOP) {
	if _, claims := b.login(map[string]string{"acr_values": oidc.DefaultACR}); claims["acr"] != oidc.DefaultACR {
		t.Errorf("acr %v", claims["acr"])
	}
}

func withoutNonce(t *testing.T, b *basicOP) {
	if _, claims := b.login(map[string]string{"nonce": ""}); claims["nonce"] != nil {
		t.Errorf("nonce %v out of nowhere", claims["nonce"])
	}
}

// codeReuse: the second redemption is refused, and ends the token of the first.
func codeReuse(after time.Duration) func(*testing.T, *basicOP) {
	return func(t *testing.T, b *basicOP) {
		code := b.through(basicPath(nil)).Get("code")
		token := b.exchange(code).field("access_token")
		b.advance(after)
		if a := b.userInfo("Bearer", token); a.status != http.StatusOK {
			t.Errorf("the token: %d %s", a.status, a.body)
		}
		wantRefused(t, b.exchange(code), http.StatusBadRequest, "invalid_grant")
		if a := b.userInfo("Bearer", token); a.status != http.StatusUnauthorized {
			t.Errorf("the first token lives on: %d", a.status)
		}
	}
}

// wantPage: the browser is shown a page, and sent nowhere.
func wantPage(t *testing.T, a answer) {
	t.Helper()
	if a.status != http.StatusGone || a.header.Get("Location") != "" {
		t.Errorf("%d to %q", a.status, a.header.Get("Location"))
	}
}

func notRegistered(t *testing.T, b *basicOP) {
	wantPage(t, b.get(b.browser(), basicPath(map[string]string{"redirect_uri": callback + "?foo=bar"})))
}

func requestByPOST(t *testing.T, b *basicOP) {
	browser := b.browser()
	path, form, _ := strings.Cut(basicPath(nil), "?")
	a := b.post(browser, path, form)
	if a.status != http.StatusSeeOther {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if _, claims := b.finish(b.post(browser, a.header.Get("Location"), "").callback(t)); claims["sub"] != customer {
		t.Errorf("sub %v", claims["sub"])
	}
}

// otherCode lets a customer of "other" pass, whose requests are signed.
func (b *basicOP) otherCode(path string) string {
	b.t.Helper()
	return b.through(path).Get("code")
}

func (b *basicOP) otherExchange(code string) answer {
	b.t.Helper()
	return b.post(b.Client(), "/token", b.other.tokenForm(code, with(bare, map[string]string{"client_secret": secret})))
}

func secretInTheForm(t *testing.T, b *basicOP) {
	b.advance(12 * time.Second) // objects from before the start are refused
	tokens := b.otherExchange(b.otherCode(objectPath("other", b.other.object(nil))))
	if tokens.status != http.StatusOK || b.verified(tokens.field("id_token"), "other")["sub"] != customer {
		t.Errorf("%d %s", tokens.status, tokens.body)
	}
}

// objectsRedirectURI: what is signed counts, whatever stands beside it.
func objectsRedirectURI(t *testing.T, b *basicOP) {
	b.advance(12 * time.Second)
	path := objectPath("other", b.other.object(nil)) + "&redirect_uri=" + url.QueryEscape("https://evil.example/")
	if tokens := b.otherExchange(b.otherCode(path)); tokens.status != http.StatusOK {
		t.Errorf("%d %s", tokens.status, tokens.body)
	}
}

func foreignRequestURI(t *testing.T, b *basicOP) {
	wantPage(t, b.get(b.browser(), basicPath(map[string]string{"request_uri": "https://portal.example/object"})))
	if b.discovered(t)["request_uri_parameter_supported"] != false {
		t.Error("request_uri is advertised")
	}
}

func unsignedObject(t *testing.T, b *basicOP) {
	object := b64(`{"alg":"none","typ":"oauth-authz-req+jwt"}`) + "." + b64(string(b.other.objectClaims(nil))) + "."
	wantPage(t, b.get(b.browser(), objectPath("other", object)))
	wantPage(t, b.get(b.browser(), basicPath(map[string]string{"request": object})))
}

func (g *gate) discovered(t *testing.T) map[string]any {
	t.Helper()
	var document map[string]any
	if err := json.Unmarshal(g.get(g.Client(), "/.well-known/openid-configuration").body, &document); err != nil {
		t.Fatal(err)
	}
	return document
}

// TestConformanceConfig is the config OP plan's one module (OpenID Connect
// Discovery 1.0 §3): what must be there is, and its addresses answer.
func TestConformanceConfig(t *testing.T) {
	t.Run(configModule, func(t *testing.T) {
		b := newBasicOP(t)
		document := b.discovered(t)
		for name, want := range map[string]string{
			"response_types_supported": "code", "subject_types_supported": "public", "scopes_supported": "openid",
			"id_token_signing_alg_values_supported": "RS256", "claims_supported": "sub",
			"token_endpoint_auth_methods_supported": "client_secret_basic",
		} {
			if list, _ := document[name].([]any); !slices.Contains(list, any(want)) {
				t.Errorf("%s: %v, without %s", name, document[name], want)
			}
		}
		if document["issuer"] != b.URL {
			t.Errorf("issuer %v", document["issuer"])
		}
		for _, name := range []string{"authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri"} {
			address, _ := document[name].(string)
			path, ours := strings.CutPrefix(address, b.URL)
			if a := b.get(b.browser(), path); !ours || a.status == http.StatusNotFound {
				t.Errorf("%s %q: %d", name, address, a.status)
			}
		}
		var set jose.JSONWebKeySet
		if err := json.Unmarshal(b.get(b.Client(), "/jwks.json").body, &set); err != nil || len(set.Keys) == 0 {
			t.Errorf("keys: %v %v", set, err)
		}
		for i := range set.Keys {
			if !set.Keys[i].IsPublic() || set.Keys[i].KeyID == "" || set.Keys[i].Use != "sig" {
				t.Errorf("key %d: %v", i, set.Keys[i].KeyID)
			}
		}
	})
}

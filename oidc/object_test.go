package oidc_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"otpgate/oidc"
)

const objectType = "oauth-authz-req+jwt"

// asOIDC makes the portal one of the oidc profile, changed.
func asOIDC(change func(*oidc.Client)) func(*gate) {
	return func(g *gate) {
		g.portal.change = func(c *oidc.Client) {
			c.Profile, c.SenderConstraint, c.RequestObject = oidc.ProfileOIDC, oidc.Unconstrained, oidc.ObjectsAllowed
			if change != nil {
				change(c)
			}
		}
	}
}

// newObjectGate is one that has run for a while: after a start older request
// objects are refused.
func newObjectGate(t *testing.T, setup ...func(*gate)) *gate {
	t.Helper()
	if len(setup) == 0 {
		setup = append(setup, asOIDC(nil))
	}
	g := newGate(t, setup...)
	g.advance(12 * time.Second)
	return g
}

// objectClaims are those of a right request object, but for the changes; nil takes
// one away.
func (p *portal) objectClaims(changed map[string]any) []byte {
	p.gate.t.Helper()
	now := p.gate.now()
	claims := map[string]any{
		"iss": p.id, "aud": p.gate.URL, "jti": fmt.Sprintf("object-%d", p.jtis.Add(1)),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Minute).Unix(),
		"client_id": p.id, "response_type": "code", "scope": "openid", "redirect_uri": callback,
		"login_hint": customer, "nonce": "the-nonce", "state": "the state",
		"code_challenge": challenge, "code_challenge_method": "S256",
	}
	for name, value := range changed {
		claims[name] = value
		if value == nil {
			delete(claims, name)
		}
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		p.gate.t.Fatal(err)
	}
	return payload
}

func (p *portal) object(changed map[string]any) string {
	p.gate.t.Helper()
	return signAs(p.gate.t, jose.SigningKey{Algorithm: p.alg, Key: p.key}, objectType, p.id+"-key", p.objectClaims(changed))
}

func signAs(t testing.TB, key jose.SigningKey, typ, kid string, payload []byte) string {
	t.Helper()
	options := new(jose.SignerOptions)
	if typ != "" {
		options = options.WithType(jose.ContentType(typ))
	}
	if kid != "" {
		options = options.WithHeader("kid", kid)
	}
	signer, err := jose.NewSigner(key, options)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	compact, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return compact
}

func objectPath(client, object string) string {
	return "/authorize?" + url.Values{"client_id": {client}, "request": {object}}.Encode()
}

// pass opens path in a fresh browser, lets the customer pass and redeems the code.
func (g *gate) pass(path string) (claims map[string]any, back url.Values) {
	g.t.Helper()
	browser := g.browser()
	a := g.get(browser, path)
	if a.status != http.StatusSeeOther || !strings.HasPrefix(a.header.Get("Location"), "/otp/") {
		g.t.Fatalf("authorize: %d %s %s", a.status, a.header.Get("Location"), a.body)
	}
	back = g.post(browser, a.header.Get("Location"), "").callback(g.t)
	tokens := g.portal.redeem(back.Get("code"), nil)
	if tokens.status != http.StatusOK {
		g.t.Fatalf("token: %d %s", tokens.status, tokens.body)
	}
	return payloadOf(g.t, tokens.field("id_token")), back
}

func payloadOf(t *testing.T, token string) map[string]any {
	t.Helper()
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256, jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestRequestObjectByBrowser(t *testing.T) {
	g := newObjectGate(t)
	// What the browser adds changes nothing (edge 6: the bare library merges it).
	path := objectPath("portal", g.portal.object(nil)) + "&" + url.Values{
		"login_hint": {"victim"}, "redirect_uri": {callbackPath}, "state": {"evil"}, "nonce": {"evil"}, "prompt": {"none"},
		"response_mode": {"form_post"}, "id_token_hint": {"x"},
	}.Encode()
	claims, back := g.pass(path)
	if claims["sub"] != customer || claims["nonce"] != "the-nonce" || back.Get("state") != "the state" || back.Get("iss") != g.URL {
		t.Errorf("claims %v, back with %v", claims, back)
	}
	form := strings.TrimPrefix(objectPath("portal", g.portal.object(nil)), "/authorize?")
	if a := g.post(g.browser(), "/authorize", form); a.status != http.StatusSeeOther {
		t.Errorf("posted: %d", a.status)
	}
	g.pass(objectPath("portal", g.portal.object(map[string]any{
		"max_age": 0, "claims": map[string]any{"id_token": map[string]any{"acr": map[string]any{"essential": true, "value": oidc.DefaultACR}}},
	})))
}

func TestRequestObjectPushed(t *testing.T) {
	g := newGate(t, func(g *gate) {
		g.portal.change = func(c *oidc.Client) { c.RequestObject = oidc.ObjectsRequired }
	})
	none := map[string]string{}
	for _, name := range []string{
		"response_type", "scope", "redirect_uri", "login_hint", "nonce", "state", "code_challenge", "code_challenge_method",
	} {
		none[name] = ""
	}
	push := func(object string, more ...string) answer {
		changed := map[string]string{"request": object}
		for name := range none {
			changed[name] = ""
		}
		for i := 0; i+1 < len(more); i += 2 {
			changed[more[i]] = more[i+1]
		}
		return g.portal.push(changed)
	}
	object := g.portal.object(nil)
	a := push(object)
	if a.status != http.StatusCreated {
		t.Fatalf("%d %s", a.status, a.body)
	}
	browser := g.browser()
	g.post(browser, g.load(browser, a.field("request_uri")), "").callback(t)

	wantRefused(t, push(object), http.StatusBadRequest, "invalid_request_object")
	wantRefused(t, g.portal.push(nil), http.StatusBadRequest, "invalid_request") // not signed
	// RFC 9126 §3: all parameters are inside.
	wantRefused(t, push(g.portal.object(nil), "state", "x"), http.StatusBadRequest, "invalid_request")
	wantRefused(t, push(g.portal.object(nil), "ui_locales", "en"), http.StatusBadRequest, "invalid_request")
	wantRefused(t, push(g.portal.object(map[string]any{"redirect_uri": "https://evil.example/"})), http.StatusBadRequest, "invalid_request")
	wantRefused(t, g.other.push(map[string]string{
		"request": g.other.object(nil), "response_type": "", "scope": "", "redirect_uri": "", "login_hint": "", "nonce": "", "state": "",
		"code_challenge": "", "code_challenge_method": "",
	}), http.StatusBadRequest, "request_not_supported")
}

// Edge 6: the bare library checks neither exp, nbf nor jti, and takes an object
// without iss.
func TestRequestObjectRefused(t *testing.T) {
	g := newObjectGate(t)
	now := g.now()
	in := func(d time.Duration) int64 { return now.Add(d).Unix() }
	p := g.portal
	mine := jose.SigningKey{Algorithm: p.alg, Key: p.key}
	public := p.key.Public().(*ecdsa.PublicKey)
	shared, err := public.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	rightWith := func(text string) string { // members that a map can't have
		return signAs(t, mine, objectType, "portal-key", []byte(strings.TrimSuffix(string(p.objectClaims(nil)), "}")+text+"}"))
	}
	for name, object := range map[string]string{
		"no iss":                  p.object(map[string]any{"iss": nil}),
		"another's iss":           p.object(map[string]any{"iss": "other"}),
		"no aud":                  p.object(map[string]any{"aud": nil}),
		"the endpoint as aud":     p.object(map[string]any{"aud": g.URL + "/authorize"}),
		"a list as aud":           p.object(map[string]any{"aud": []string{g.URL}}),
		"no exp":                  p.object(map[string]any{"exp": nil}),
		"expired":                 p.object(map[string]any{"nbf": in(-time.Minute), "exp": in(-11 * time.Second)}),
		"exp too far":             p.object(map[string]any{"exp": in(11 * time.Minute)}),
		"exp as text":             p.object(map[string]any{"exp": "never"}),
		"no nbf":                  p.object(map[string]any{"nbf": nil}),
		"nbf in the future":       p.object(map[string]any{"nbf": in(time.Minute), "exp": in(2 * time.Minute)}),
		"nbf long ago":            p.object(map[string]any{"nbf": in(-time.Hour)}),
		"iat in the future":       p.object(map[string]any{"iat": in(time.Minute)}),
		"no jti":                  p.object(map[string]any{"jti": nil}),
		"endless jti":             p.object(map[string]any{"jti": strings.Repeat("j", 256)}),
		"request inside":          p.object(map[string]any{"request": "e30.e30."}),
		"request_uri inside":      p.object(map[string]any{"request_uri": "urn:x"}),
		"sub":                     p.object(map[string]any{"sub": "portal"}),
		"no client_id":            p.object(map[string]any{"client_id": nil}),
		"another's client_id":     p.object(map[string]any{"client_id": "other"}),
		"no redirect_uri":         p.object(map[string]any{"redirect_uri": nil}),
		"evil redirect_uri":       p.object(map[string]any{"redirect_uri": "https://evil.example/"}),
		"redirect_uri escaped":    p.object(map[string]any{"redirect_uri": url.QueryEscape(callback)}), // edge 4
		"redirect_uri half-way":   p.object(map[string]any{"redirect_uri": strings.Replace(callbackPath, "%2F", "/", 1)}),
		"a list as redirect_uri":  p.object(map[string]any{"redirect_uri": []string{callback}}),
		"a number as login_hint":  p.object(map[string]any{"login_hint": 123456789}),
		"null as login_hint":      rightWith(`,"prompt":null`),
		"claims as text":          p.object(map[string]any{"claims": `{"id_token":{}}`}),
		"max_age as text":         p.object(map[string]any{"max_age": "5"}),
		"duplicate member":        rightWith(`,"login_hint":"victim"`),
		"duplicate, escaped":      rightWith(`,"login\u005fhint":"victim"`),
		"huge nesting":            rightWith(`,"claims":{"id_token":` + strings.Repeat(`{"a":`, 2000) + "1" + strings.Repeat("}", 2000) + "}"),
		"too many members":        rightWith(many(70)),
		"not UTF-8":               rightWith(",\"x\":\"\xff\""),
		"two values":              signAs(t, mine, objectType, "portal-key", append(p.objectClaims(nil), "{}"...)),
		"a list":                  signAs(t, mine, objectType, "portal-key", []byte(`[]`)),
		"endless":                 p.object(map[string]any{"x": strings.Repeat("x", 16<<10)}),
		"no typ":                  signAs(t, mine, "", "portal-key", p.objectClaims(nil)),
		"typ JWT":                 signAs(t, mine, "JWT", "portal-key", p.objectClaims(nil)),
		"typ of a proof":          signAs(t, mine, "dpop+jwt", "portal-key", p.objectClaims(nil)),
		"a client assertion":      p.assertion(nil),
		"alg none":                b64(`{"alg":"none","typ":"`+objectType+`"}`) + "." + b64(string(p.objectClaims(nil))) + ".",
		"HMAC with the key":       signAs(t, jose.SigningKey{Algorithm: jose.HS256, Key: shared}, objectType, "portal-key", p.objectClaims(nil)),
		"RS256":                   signAs(t, jose.SigningKey{Algorithm: jose.RS256, Key: newRSAKey(t)}, objectType, "portal-key", p.objectClaims(nil)),
		"a stranger's key":        signAs(t, jose.SigningKey{Algorithm: jose.ES256, Key: newECKey(t)}, objectType, "portal-key", p.objectClaims(nil)),
		"another client's key":    signAs(t, jose.SigningKey{Algorithm: jose.ES256, Key: g.other.key}, objectType, "other-key", p.objectClaims(nil)),
		"unknown kid":             signAs(t, mine, objectType, "made-up", p.objectClaims(nil)),
		"a signature taken away":  p.object(nil)[:strings.LastIndex(p.object(nil), ".")+1],
		"something else entirely": "x",
	} {
		a := g.get(g.browser(), objectPath("portal", object))
		if a.status != http.StatusGone || a.header.Get("Location") != "" || a.header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %d %s", name, a.status, a.header.Get("Location"))
		}
	}
	// What is wrong with the request alone goes back to the portal.
	for name, test := range map[string]struct {
		changed map[string]any
		want    string
	}{
		"implicit":    {map[string]any{"response_type": "id_token"}, "unsupported_response_type"},
		"no PKCE":     {map[string]any{"code_challenge": nil}, "invalid_request"}, // edge 5
		"plain PKCE":  {map[string]any{"code_challenge_method": "plain"}, "invalid_request"},
		"no openid":   {map[string]any{"scope": "profile"}, "invalid_scope"}, // edge 8
		"unknown acr": {map[string]any{"acr_values": "urn:x"}, "unmet_authentication_requirements"},
		"prompt none": {map[string]any{"prompt": "none"}, "login_required"},
		"nobody":      {map[string]any{"login_hint": nil}, "invalid_request"},
		"manage":      {map[string]any{"otp_action": "manage"}, "invalid_request"},
	} {
		back := g.get(g.browser(), objectPath("portal", p.object(test.changed))).callback(t)
		if back.Get("error") != test.want || back.Get("state") != "the state" || back.Get("iss") != g.URL || back.Get("code") != "" {
			t.Errorf("%s: %v", name, back)
		}
	}
}

func many(members int) string {
	var b strings.Builder
	for i := range members {
		fmt.Fprintf(&b, `,"m%d":"x"`, i)
	}
	return b.String()
}

// The same object again is a reload while its request is open, and nothing else.
func TestRequestObjectIsForOneRequest(t *testing.T) {
	g := newObjectGate(t)
	p := g.portal
	claims := p.objectClaims(nil)
	mine := jose.SigningKey{Algorithm: p.alg, Key: p.key}
	object, twin := signAs(t, mine, objectType, "", claims), signAs(t, mine, objectType, "", claims) // of one jti
	browser := g.browser()
	first := g.get(browser, objectPath("portal", object)).header.Get("Location")
	second := g.get(browser, objectPath("portal", object)).header.Get("Location")
	if first == second || first[:40] != second[:40] {
		t.Errorf("loaded twice: %s and %s", first, second)
	}
	if a := g.get(g.browser(), objectPath("portal", twin)); a.status != http.StatusGone {
		t.Errorf("another object with its jti: %d", a.status)
	}
	g.post(browser, second, "").callback(t)
	for _, spent := range []string{object, twin} {
		if a := g.get(g.browser(), objectPath("portal", spent)); a.status != http.StatusGone || a.header.Get("Location") != "" {
			t.Errorf("after its end: %d", a.status)
		}
	}
	late := p.object(map[string]any{"exp": g.now().Add(9 * time.Minute).Unix()})
	g.get(browser, objectPath("portal", late))
	g.advance(91 * time.Second)
	if a := g.get(browser, objectPath("portal", late)); a.status != http.StatusGone {
		t.Errorf("loaded again after 91 s: %d", a.status)
	}
}

// After a restart nobody knows which objects were used, of a client whose clock is
// ahead neither.
func TestRequestObjectOfBeforeTheStart(t *testing.T) {
	for _, ahead := range []time.Duration{0, 9 * time.Second} {
		g := newObjectGate(t)
		object := func() string {
			made := g.now().Add(ahead)
			return g.portal.object(map[string]any{"iat": made.Unix(), "nbf": made.Unix(), "exp": made.Add(5 * time.Minute).Unix()})
		}
		used := object()
		g.pass(objectPath("portal", used))
		g.restart()
		g.advance(12 * time.Second)
		a := g.get(g.browser(), objectPath("portal", used))
		if back := a.callback(t); back.Get("error") != "temporarily_unavailable" || back.Get("state") != "the state" || a.header.Get("Set-Cookie") != "" {
			t.Errorf("used before the start, %s ahead: %v", ahead, back)
		}
		g.pass(objectPath("portal", object()))
	}
}

func TestRequestObjectAlgorithms(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for alg, key := range map[jose.SignatureAlgorithm]crypto.Signer{jose.PS256: newRSAKey(t), jose.EdDSA: ed} {
		g := newObjectGate(t, func(g *gate) { g.portal.key, g.portal.alg = key, alg }, asOIDC(nil))
		g.pass(objectPath("portal", g.portal.object(nil)))
	}
}

// A portal that authenticates by a secret signs its requests with keys of its own.
func TestRequestObjectBesideASecret(t *testing.T) {
	g := newObjectGate(t, asOIDC(func(c *oidc.Client) {
		keys := c.Keys
		withSecrets(oidc.SecretPost)(c)
		c.Keys, c.RequestObject = keys, oidc.ObjectsRequired
	}))
	a := g.get(g.browser(), objectPath("portal", g.portal.object(nil)))
	if a.status != http.StatusSeeOther || !strings.HasPrefix(a.header.Get("Location"), "/otp/") {
		t.Errorf("%d %s", a.status, a.header.Get("Location"))
	}
}

// A portal of the strict profile has no way but /par.
func TestFAPI2TakesNoRequestObjectFromABrowser(t *testing.T) {
	g := newObjectGate(t, func(g *gate) {
		g.portal.change = func(c *oidc.Client) { c.RequestObject = oidc.ObjectsAllowed }
	})
	if a := g.get(g.browser(), objectPath("portal", g.portal.object(nil))); a.status != http.StatusGone || a.header.Get("Location") != "" {
		t.Errorf("%d %s", a.status, a.header.Get("Location"))
	}
}

func newRSAKey(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

package oidc_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"otpgate/oidc"
)

// bareForm is a right request in a browser's hands, but for the changes and who is
// asked for.
func bareForm(changed map[string]string) url.Values {
	form := url.Values{
		"client_id": {"portal"}, "response_type": {"code"}, "scope": {"openid"}, "redirect_uri": {callback},
		"nonce": {"the-nonce"}, "state": {"the state"}, "code_challenge": {challenge}, "code_challenge_method": {"S256"},
	}
	for name, value := range changed {
		form.Set(name, value)
		if value == "" {
			form.Del(name)
		}
	}
	return form
}

func barePath(changed map[string]string) string { return "/authorize?" + bareForm(changed).Encode() }

// firstFactor is a portal's own issuer of ID tokens.
type firstFactor struct {
	t   *testing.T
	key jose.SigningKey
}

const firstIssuer = "https://login.portal.example"

func newFirstFactor(t *testing.T) *firstFactor {
	return &firstFactor{t, jose.SigningKey{Algorithm: jose.ES256, Key: newECKey(t)}}
}

func (f *firstFactor) issuer() oidc.HintIssuer {
	return oidc.HintIssuer{Issuer: firstIssuer, Audience: "first-factor", Keys: oidc.KeySource{Set: publicSet(f.key, "first")}}
}

// publicSet is a set of the public half of key.
func publicSet(key jose.SigningKey, kid string) jose.JSONWebKeySet {
	jwk := jose.JSONWebKey{Key: key.Key, KeyID: kid}
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{jwk.Public()}}
}

func (f *firstFactor) claims(now time.Time, changed map[string]any) []byte {
	claims := map[string]any{
		"iss": firstIssuer, "aud": "first-factor", "sub": customer, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	}
	maps.Copy(claims, changed)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	payload, err := json.Marshal(claims)
	if err != nil {
		f.t.Fatal(err)
	}
	return payload
}

func (f *firstFactor) hint(now time.Time, changed map[string]any) string {
	return signAs(f.t, f.key, "JWT", "first", f.claims(now, changed))
}

// Edge 9: the bare library checks neither aud nor exp of a hint.
func TestHintNamesTheCustomer(t *testing.T) {
	f := newFirstFactor(t)
	stranger := newFirstFactor(t)
	g := newGate(t, asOIDC(func(c *oidc.Client) { c.HintIssuers = []oidc.HintIssuer{f.issuer()} }))
	now := g.now()
	claims, back := g.pass(barePath(map[string]string{"id_token_hint": f.hint(now, nil)}))
	if claims["sub"] != customer || claims["nonce"] != "the-nonce" || back.Get("state") != "the state" || back.Get("iss") != g.URL {
		t.Errorf("claims %v, back with %v", claims, back)
	}
	g.pass(barePath(map[string]string{"id_token_hint": f.hint(now, map[string]any{"aud": []string{"first-factor"}})}))

	in := func(d time.Duration) int64 { return now.Add(d).Unix() }
	shared, err := json.Marshal(publicSet(f.key, "first").Keys[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, hint := range map[string]string{
		"another issuer":        f.hint(now, map[string]any{"iss": "https://evil.example"}),
		"ourselves":             f.hint(now, map[string]any{"iss": g.URL}),
		"another's aud":         f.hint(now, map[string]any{"aud": "portal"}),
		"no aud":                f.hint(now, map[string]any{"aud": nil}),
		"two in aud":            f.hint(now, map[string]any{"aud": []string{"first-factor", "x"}}),
		"expired":               f.hint(now, map[string]any{"exp": in(-2 * time.Minute)}),
		"no exp":                f.hint(now, map[string]any{"exp": nil}),
		"no iat":                f.hint(now, map[string]any{"iat": nil}),
		"iat in the future":     f.hint(now, map[string]any{"iat": in(5 * time.Minute)}),
		"nbf in the future":     f.hint(now, map[string]any{"nbf": in(5 * time.Minute)}),
		"no sub":                f.hint(now, map[string]any{"sub": nil}),
		"sub that is a number":  f.hint(now, map[string]any{"sub": 5}),
		"sub with a line break": f.hint(now, map[string]any{"sub": "a\nb"}),
		"a stranger's key":      stranger.hint(now, nil),
		"an access token":       signAs(t, f.key, "at+jwt", "first", f.claims(now, nil)),
		"a log-out token":       signAs(t, f.key, "logout+jwt", "first", f.claims(now, nil)),
		"alg none":              b64(`{"alg":"none"}`) + "." + b64(string(f.claims(now, nil))) + ".",
		"HMAC with the key":     signAs(t, jose.SigningKey{Algorithm: jose.HS256, Key: shared}, "JWT", "first", f.claims(now, nil)),
		"duplicate sub":         signAs(t, f.key, "JWT", "first", []byte(strings.Replace(string(f.claims(now, nil)), "{", `{"sub":"victim",`, 1))),
		"endless":               f.hint(now, map[string]any{"x": strings.Repeat("x", 8<<10)}),
	} {
		back := g.get(g.browser(), barePath(map[string]string{"id_token_hint": hint})).callback(t)
		if back.Get("error") != "invalid_request" || back.Get("state") != "the state" || back.Get("iss") != g.URL {
			t.Errorf("%s: %v", name, back)
		}
	}
	// A hint names the customer alone.
	back = g.get(g.browser(), barePath(map[string]string{"id_token_hint": f.hint(now, nil), "login_hint": "victim"})).callback(t)
	if back.Get("error") != "invalid_request" {
		t.Errorf("named twice: %v", back)
	}
	// It may be pushed too.
	g.pass(authorizePath("portal", g.portal.requestURI(map[string]string{"login_hint": "", "id_token_hint": f.hint(now, nil)})))
}

func TestHintMayHaveExpiredByABound(t *testing.T) {
	f := newFirstFactor(t)
	g := newGate(t, asOIDC(func(c *oidc.Client) {
		issuer := f.issuer()
		issuer.ExpiredFor, issuer.Claim = 10*time.Minute, "customer_no"
		c.HintIssuers = []oidc.HintIssuer{issuer}
	}))
	hint := func(ago time.Duration) string {
		return f.hint(g.now().Add(-ago), map[string]any{"sub": "opaque", "exp": g.now().Add(-ago).Unix(), "customer_no": customer})
	}
	if claims, _ := g.pass(barePath(map[string]string{"id_token_hint": hint(9 * time.Minute)})); claims["sub"] != customer {
		t.Errorf("claims %v", claims)
	}
	back := g.get(g.browser(), barePath(map[string]string{"id_token_hint": hint(12 * time.Minute)})).callback(t)
	if back.Get("error") != "invalid_request" {
		t.Errorf("expired for 12 minutes: %v", back)
	}
	back = g.get(g.browser(), barePath(map[string]string{"id_token_hint": f.hint(g.now(), nil)})).callback(t)
	if back.Get("error") != "invalid_request" {
		t.Errorf("without the claim that names the customer: %v", back)
	}
}

func TestHintKeysAreFetched(t *testing.T) {
	f := newFirstFactor(t)
	s := newKeyServer(t)
	s.publish(t, publicSet(f.key, "first").Keys...)
	g := newGate(t, asOIDC(func(c *oidc.Client) {
		issuer := f.issuer()
		issuer.Keys = oidc.KeySource{URI: s.url + "/keys", CAs: append(issuer.Keys.CAs, s.ca)}
		c.HintIssuers = []oidc.HintIssuer{issuer}
	}))
	g.pass(barePath(map[string]string{"id_token_hint": f.hint(g.now(), nil)}))
	if s.asked.Load() != 1 {
		t.Errorf("asked %d times", s.asked.Load())
	}
	// The portal can't sign hints, nor the issuer for the portal.
	p := g.portal
	byPortal := signAs(t, jose.SigningKey{Algorithm: p.alg, Key: p.key}, "JWT", "portal-key", f.claims(g.now(), nil))
	if back := g.get(g.browser(), barePath(map[string]string{"id_token_hint": byPortal})).callback(t); back.Get("error") != "invalid_request" {
		t.Errorf("signed by the portal: %v", back)
	}
}

// Nothing that only the browser says names a customer, unless the client is marked.
func TestBareLoginHint(t *testing.T) {
	g := newGate(t, asOIDC(nil))
	back := g.get(g.browser(), barePath(map[string]string{"login_hint": customer})).callback(t)
	if back.Get("error") != "invalid_request" || back.Get("state") != "the state" || back.Get("code") != "" {
		t.Errorf("%v", back)
	}
	if strings.Contains(g.log.String(), "login_hint from the browser") {
		t.Error("warned about for nothing")
	}

	g = newGate(t, asOIDC(func(c *oidc.Client) { c.BareHint = true }))
	if !strings.Contains(g.log.String(), "level=WARN") || !strings.Contains(g.log.String(), "login_hint from the browser") {
		t.Errorf("no warning at the start: %s", g.log.String())
	}
	claims, back := g.pass(barePath(map[string]string{"login_hint": customer}))
	if claims["sub"] != customer || back.Get("iss") != g.URL {
		t.Errorf("claims %v, back with %v", claims, back)
	}
	a := g.post(g.browser(), "/authorize", bareForm(map[string]string{"login_hint": customer}).Encode())
	if a.status != http.StatusSeeOther || !strings.HasPrefix(a.header.Get("Location"), "/otp/") {
		t.Errorf("posted: %d %s", a.status, a.header.Get("Location"))
	}

	g = newGate(t, asOIDC(func(c *oidc.Client) { c.BareHint, c.RequestObject = true, oidc.ObjectsRequired }))
	if back := g.get(g.browser(), barePath(map[string]string{"login_hint": customer})).callback(t); back.Get("error") != "invalid_request" {
		t.Errorf("not signed: %v", back)
	}
}

// Before the redirect URI is known to be the client's, nothing is sent anywhere.
func TestBareRequestThatCanNotGoBack(t *testing.T) {
	g := newGate(t, asOIDC(func(c *oidc.Client) { c.BareHint = true }))
	right := map[string]string{"login_hint": customer}
	with := func(name, value string) string {
		changed := maps.Clone(right)
		changed[name] = value
		return barePath(changed)
	}
	for name, path := range map[string]string{
		"no redirect_uri":          with("redirect_uri", ""),
		"another redirect_uri":     with("redirect_uri", "https://evil.example/"),
		"escaped twice":            with("redirect_uri", url.QueryEscape(callback)), // edge 4
		"unescaped in part":        with("redirect_uri", strings.Replace(callbackPath, "%2F", "/", 1)),
		"in another case":          with("redirect_uri", strings.ToUpper(callback)),
		"with a dot more":          with("redirect_uri", callback+"/."),
		"with a port":              with("redirect_uri", strings.Replace(callback, ".example", ".example:443", 1)),
		"an unknown client":        with("client_id", "nobody"),
		"duplicate":                barePath(right) + "&login_hint=victim",
		"duplicate, unknown":       barePath(right) + "&x=1&x=2",
		"too many parameters":      barePath(right) + strings.Repeat("&x=", 64),
		"a query beyond bounds":    barePath(right) + "&x=" + strings.Repeat("x", 64<<10),
		"not UTF-8":                barePath(right) + "&x=%ff",
		"redirect_uri with a NUL":  with("redirect_uri", callback+"\x00"),
		"redirect_uri of the host": with("redirect_uri", "https://portal.example"),
	} {
		a := g.get(g.browser(), path)
		if a.status != http.StatusGone || a.header.Get("Location") != "" || a.header.Get("Set-Cookie") != "" || strings.Contains(string(a.body), "error") {
			t.Errorf("%s: %d %v %s", name, a.status, a.header, a.body)
		}
	}
	for name, test := range map[string]struct {
		changed map[string]string
		want    string
	}{
		"no response_type":        {map[string]string{"response_type": ""}, "invalid_request"},
		"id_token":                {map[string]string{"response_type": "id_token"}, "unsupported_response_type"},
		"hybrid":                  {map[string]string{"response_type": "code id_token"}, "unsupported_response_type"},
		"fragment":                {map[string]string{"response_mode": "fragment"}, "invalid_request"},
		"no openid":               {map[string]string{"scope": "email"}, "invalid_scope"},
		"no PKCE":                 {map[string]string{"code_challenge": "", "code_challenge_method": ""}, "invalid_request"},
		"plain PKCE":              {map[string]string{"code_challenge_method": "plain"}, "invalid_request"},
		"prompt=none":             {map[string]string{"prompt": "none"}, "login_required"},
		"prompt=consent":          {map[string]string{"prompt": "consent"}, "consent_required"},
		"nobody":                  {map[string]string{"login_hint": ""}, "invalid_request"},
		"a customer with a NUL":   {map[string]string{"login_hint": "a\x00"}, "invalid_request"},
		"a hint of nobody's":      {map[string]string{"id_token_hint": "e30.e30.e30"}, "invalid_request"},
		"acr_values":              {map[string]string{"acr_values": "urn:mfa"}, "unmet_authentication_requirements"},
		"manage":                  {map[string]string{"otp_action": "manage"}, "invalid_request"},
		"authorization_details":   {map[string]string{"authorization_details": "[]"}, "invalid_authorization_details"},
		"a nonce beyond bounds":   {map[string]string{"nonce": strings.Repeat("n", 256)}, "invalid_request"},
		"claims that are no JSON": {map[string]string{"claims": "{"}, "invalid_request"},
	} {
		changed := maps.Clone(right)
		maps.Copy(changed, test.changed)
		a := g.get(g.browser(), barePath(changed))
		back := a.callback(t)
		if back.Get("error") != test.want || back.Get("state") != "the state" || back.Get("iss") != g.URL || a.header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %v", name, back)
		}
	}
	// A state that can't be kept isn't sent back.
	back := g.get(g.browser(), with("state", strings.Repeat("s", 513))).callback(t)
	if back.Get("error") != "invalid_request" || back.Has("state") {
		t.Errorf("a state beyond bounds: %v", back)
	}
}

// Strangers with browsers can begin as many log-ins as they like; the portal's own
// go on.
func TestBareRequestsLeaveRoomForPushedOnes(t *testing.T) {
	g := newGate(t, asOIDC(func(c *oidc.Client) { c.BareHint = true }))
	g.provider.LimitAccounts(smallAccount)
	for i := 0; ; i++ {
		a := g.get(g.browser(), barePath(map[string]string{"login_hint": strconv.Itoa(i)}))
		if a.header.Get("Set-Cookie") != "" {
			if i == 1000 {
				t.Fatal("there is no end to it")
			}
			continue
		}
		if back := a.callback(t); back.Get("error") != "temporarily_unavailable" {
			t.Fatalf("%v", back)
		}
		break
	}
	if taken := g.provider.Taken(); taken > smallAccount/2 {
		t.Errorf("%d of %d bytes are taken", taken, smallAccount)
	}
	g.pass(authorizePath("portal", g.portal.requestURI(nil)))
}

func TestClaims(t *testing.T) {
	g := newGate(t)
	for claims, want := range map[string]string{
		`{"id_token":{"acr":{"essential":true,"value":"` + oidc.DefaultACR + `"}}}`:                   "",
		`{"id_token":{"acr":{"essential":true,"values":["urn:x","` + oidc.DefaultACR + `"]}}}`:        "",
		`{"id_token":{"acr":{"essential":true}}}`:                                                     "",
		`{"id_token":{"acr":null,"auth_time":{"essential":true}},"userinfo":{"email":null}}`:          "",
		`{"id_token":{"acr":{"values":["urn:x"]}}}`:                                                   "", // voluntary
		`{"id_token":{"acr":{"essential":false,"value":"urn:x"}}}`:                                    "",
		`{"id_token":{"amr":{"essential":true,"values":["otp"]},"sub":{"value":"` + customer + `"}}}`: "",
		`{"userinfo":{"acr":{"essential":true,"value":"urn:x"}}}`:                                     "", // OIDC Core §5.5.1.1: of the ID token
		`{"id_token":{"acr":{"essential":true,"value":"urn:x"}}}`:                                     "unmet_authentication_requirements",
		`{"id_token":{"acr":{"essential":true,"values":["urn:x","urn:y"]}}}`:                          "unmet_authentication_requirements",
		`{"id_token":{"amr":{"essential":true,"values":["fpt"]}}}`:                                    "unmet_authentication_requirements",
		`{"id_token":{"sub":{"value":"somebody else"}}}`:                                              "invalid_request",
		`{"id_token":{"acr":{"essential":"yes"}}}`:                                                    "invalid_request",
		`{"id_token":{"acr":{"essential":true,"value":"urn:x"},"acr":null}}`:                          "invalid_request",
		`{"id_token":{},"id_token":{}}`:                                                               "invalid_request",
		`null`:                                                                                        "invalid_request",
		`[]`:                                                                                          "invalid_request",
		`{}{}`:                                                                                        "invalid_request",
		strings.Repeat(`{"a":`, 50) + `1` + strings.Repeat(`}`, 50):                                   "invalid_request",
		`{"x":"` + strings.Repeat("x", 4<<10) + `"}`:                                                  "invalid_request",
	} {
		a := g.portal.push(map[string]string{"claims": claims})
		if want == "" {
			if a.status != http.StatusCreated {
				t.Errorf("%s: %d %s", claims, a.status, a.body)
			}
			continue
		}
		if a.status != http.StatusBadRequest || a.field("error") != want {
			t.Errorf("%.80s: %d %s, want %s", claims, a.status, a.body, want)
		}
	}
	// One that can be met by claims, and not by acr_values, isn't met.
	wantRefused(t, g.portal.push(map[string]string{
		"claims": `{"id_token":{"acr":{"essential":true,"value":"` + oidc.DefaultACR + `"}}}`, "acr_values": "urn:x",
	}), http.StatusBadRequest, "unmet_authentication_requirements")
}

// max_age is met by every log-in, and the token says when it was.
func TestMaxAgeIsMet(t *testing.T) {
	g := newGate(t, asOIDC(nil))
	before := g.result.Load().At.Unix()
	claims, _ := g.pass(authorizePath("portal", g.portal.requestURI(map[string]string{"max_age": "0", "prompt": "login", "display": "touch"})))
	if at, _ := claims["auth_time"].(float64); int64(at) < before {
		t.Errorf("auth_time %v", claims["auth_time"])
	}
}

// postedForm is the form that the browser is shown to post.
func postedForm(t *testing.T, a answer) oidc.Form {
	t.Helper()
	var form oidc.Form
	if err := json.Unmarshal(a.body, &form); err != nil || a.status != http.StatusOK {
		t.Fatalf("no form: %d %s", a.status, a.body)
	}
	return form
}

func TestFormPost(t *testing.T) {
	g := newGate(t)
	push := map[string]string{"response_mode": "form_post", "redirect_uri": callbackPath, "ui_locales": "en"}
	for _, end := range []string{"", "refuse=cancelled"} {
		browser := g.browser()
		page := g.load(browser, g.portal.requestURI(push))
		a := g.post(browser, page, end)
		to := a.header.Get("Location")
		if a.status != http.StatusSeeOther || !strings.HasPrefix(to, "/authorize/response/") {
			t.Fatalf("%d %s", a.status, to)
		}
		if b := g.post(browser, page, "second=1"); b.header.Get("Location") != to {
			t.Errorf("a second press leads to %s", b.header.Get("Location"))
		}
		if b := g.get(g.browser(), to); b.status != http.StatusGone || strings.Contains(string(b.body), "code") {
			t.Errorf("another browser: %d %s", b.status, b.body)
		}
		g.get(browser, to)
		form := postedForm(t, g.get(browser, to)) // a reload
		if form.Action != callbackPath || form.Fields.Get("state") != "the state" || form.Fields.Get("iss") != g.URL ||
			form.Realm != "retail" || len(form.Locales) != 1 {
			t.Errorf("%+v", form)
		}
		if end != "" {
			if form.Fields.Get("error") != "access_denied" || form.Fields.Has("code") {
				t.Errorf("%+v", form)
			}
			continue
		}
		redeemed := g.portal.redeem(form.Fields.Get("code"), map[string]string{"redirect_uri": callbackPath})
		if redeemed.status != http.StatusOK {
			t.Errorf("%d %s", redeemed.status, redeemed.body)
		}
		if b := g.get(browser, to); b.status != http.StatusGone {
			t.Errorf("after the code was redeemed: %d %s", b.status, b.body)
		}
	}
	browser := g.browser()
	to := g.post(browser, g.load(browser, g.portal.requestURI(push)), "").header.Get("Location")
	g.advance(time.Minute)
	if a := g.get(browser, to); a.status != http.StatusGone {
		t.Errorf("a minute later: %d", a.status)
	}
	// What is refused before a page is shown goes the same way.
	silent := maps.Clone(push)
	silent["prompt"] = "none"
	form := postedForm(t, g.get(g.browser(), authorizePath("portal", g.portal.requestURI(silent))))
	if form.Fields.Get("error") != "login_required" || form.Action != callbackPath || form.Fields.Get("state") != "the state" {
		t.Errorf("%+v", form)
	}
	if a := g.get(g.browser(), "/authorize/response/x"); a.status != http.StatusGone {
		t.Errorf("an unknown response: %d", a.status)
	}
	// One that goes back by a redirect has no page.
	browser = g.browser()
	page := g.load(browser, g.portal.requestURI(nil))
	g.post(browser, page, "").callback(t)
	if a := g.get(browser, strings.Replace(page, "/otp/", "/authorize/response/", 1)); a.status != http.StatusGone {
		t.Errorf("the page of a redirect: %d", a.status)
	}
}

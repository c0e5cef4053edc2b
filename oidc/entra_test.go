package oidc_test

import (
	"crypto/rand"
	"crypto/sha1" // x5t (RFC 7515 §4.1.7)
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"otpgate/oidc"
)

// A stand-in for Microsoft Entra, as its page "external authentication method
// provider reference" has it.

const (
	entraCallback = "https://login.microsoftonline.com/common/federation/externalauthprovider"
	entraTenant   = "9122040d-6c67-4c5b-b112-36a304b66dad"
	entraApp      = "600b719b-3766-4dc5-95a6-3c4a8dc31885"
	entraIssuer   = "https://login.microsoftonline.com/" + entraTenant + "/v2.0"
	entraSubject  = "mBfcvuhSHkDWVgV72x2ruIYdSsPSvcj2R0qfc6mGEAA"
	entraClaims   = `{"id_token":{"acr":{"essential":true,"values":["possessionorinherence"]},"amr":{"essential":true,` +
		`"values":["face","fido","fpt","hwk","iris","otp","pop","retina","sc","sms","swk","tel","vbm"]}}}`
)

type entra struct {
	t   *testing.T
	key jose.SigningKey
}

func newEntra(t *testing.T) *entra {
	return &entra{t, jose.SigningKey{Algorithm: jose.RS256, Key: newRSAKey(t)}}
}

func (e *entra) issuer() oidc.HintIssuer {
	return oidc.HintIssuer{
		Issuer: entraIssuer, Audience: entraApp, Tenant: entraTenant, Claim: "preferred_username", ExpiredFor: 10 * time.Minute,
		Keys: oidc.KeySource{Set: publicSet(e.key, "entra")},
	}
}

// hint is a token that has expired when it is made.
func (e *entra) hint(now time.Time, changed map[string]any) string {
	claims := map[string]any{
		"ver": "2.0", "iss": entraIssuer, "sub": entraSubject, "aud": entraApp,
		"exp": now.Add(-time.Second).Unix(), "iat": now.Unix(), "nbf": now.Unix(),
		"name": "Test User 2", "preferred_username": "testuser2@contoso.com", "oid": "951ddb04-b16d-45f3-bbf7-b0fa18fa7aee", "tid": entraTenant, "uti": rand.Text(),
	}
	maps.Copy(claims, changed)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	payload, err := json.Marshal(claims)
	if err != nil {
		e.t.Fatal(err)
	}
	return signAs(e.t, e.key, "JWT", "entra", payload)
}

// form is what Entra has the browser post, but for the changes.
func (e *entra) form(now time.Time, changed map[string]string) string {
	form := url.Values{
		"scope": {"openid"}, "response_type": {"id_token"}, "response_mode": {"form_post"}, "client_id": {"portal"},
		"redirect_uri": {entraCallback}, "nonce": {"entra-nonce"}, "state": {"entra-state"}, "id_token_hint": {e.hint(now, nil)},
		"claims": {entraClaims}, "client-request-id": {"6c1b5e4c-2f3e-4f2a-9d8e-0b1a2c3d4e5f"},
	}
	for name, value := range changed {
		form.Set(name, value)
		if value == "" {
			form.Del(name)
		}
	}
	return form.Encode()
}

func newEntraGate(t *testing.T) (*gate, *entra) {
	e := newEntra(t)
	return newGate(t, func(g *gate) {
		g.portal.change = func(c *oidc.Client) {
			c.Profile, c.Auth, c.SenderConstraint = oidc.ProfileEntraEAM, oidc.NoAuth, oidc.Unconstrained
			c.Keys, c.IDTokenAlg = oidc.KeySource{}, jose.RS256
			c.RedirectURIs, c.PostLogoutRedirectURIs, c.HintIssuers = []string{entraCallback}, nil, []oidc.HintIssuer{e.issuer()}
		}
	}), e
}

// answered posts Entra's form in a fresh browser, ends the request, and returns the
// fields that the browser then posts to Entra.
func (e *entra) answered(g *gate, form, end string) url.Values {
	e.t.Helper()
	browser := g.browser()
	a := g.post(browser, "/authorize", form)
	page := a.header.Get("Location")
	if a.status != http.StatusSeeOther || !strings.HasPrefix(page, "/otp/") {
		e.t.Fatalf("authorize: %d %s %s", a.status, page, a.body)
	}
	var shown oidc.Request
	if err := json.Unmarshal(g.get(browser, page).body, &shown); err != nil || shown.User != "testuser2@contoso.com" {
		e.t.Errorf("the page asks %q", shown.User)
	}
	to := g.post(browser, page, end).header.Get("Location")
	posted := postedForm(e.t, g.get(browser, to))
	if posted.Action != entraCallback {
		e.t.Errorf("posted to %s", posted.Action)
	}
	return posted.Fields
}

// verify checks an ID token as Entra does: by the certificate (x5c) in the key set
// that the provider's metadata lead to.
func (e *entra) verify(g *gate, token string) map[string]any {
	e.t.Helper()
	var metadata struct {
		Issuer  string   `json:"issuer"`
		Keys    string   `json:"jwks_uri"`
		Scopes  []string `json:"scopes_supported"`
		Types   []string `json:"response_types_supported"`
		Modes   []string `json:"response_modes_supported"`
		Grants  []string `json:"grant_types_supported"`
		Algs    []string `json:"id_token_signing_alg_values_supported"`
		Subject []string `json:"subject_types_supported"`
	}
	if err := json.Unmarshal(g.get(g.Client(), "/.well-known/openid-configuration").body, &metadata); err != nil {
		e.t.Fatal(err)
	}
	for _, has := range []bool{
		metadata.Issuer == g.URL, slices.Contains(metadata.Scopes, "openid"), slices.Contains(metadata.Types, "id_token"),
		slices.Contains(metadata.Modes, "form_post"), slices.Contains(metadata.Algs, "RS256"), slices.Contains(metadata.Grants, "implicit"),
	} {
		if !has {
			e.t.Errorf("metadata %+v", metadata)
		}
	}
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		e.t.Fatal(err)
	}
	var set struct {
		Keys []struct {
			ID   string   `json:"kid"`
			X5C  []string `json:"x5c"`
			X5T  string   `json:"x5t"`
			Type string   `json:"kty"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(g.get(g.Client(), strings.TrimPrefix(metadata.Keys, g.URL)).body, &set); err != nil {
		e.t.Fatal(err)
	}
	for _, key := range set.Keys {
		if key.ID != jws.Signatures[0].Header.KeyID || len(key.X5C) == 0 {
			continue
		}
		der, err := base64.StdEncoding.DecodeString(key.X5C[0])
		if err != nil {
			e.t.Fatal(err)
		}
		if sum := sha1.Sum(der); key.X5T != "" && key.X5T != base64.RawURLEncoding.EncodeToString(sum[:]) {
			e.t.Errorf("x5t %s", key.X5T)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			e.t.Fatal(err)
		}
		if _, err := jws.Verify(cert.PublicKey); err != nil {
			e.t.Error(err)
		}
		return payloadOf(e.t, token)
	}
	e.t.Fatalf("no certificate for key %s", jws.Signatures[0].Header.KeyID)
	return nil
}

func TestEntra(t *testing.T) {
	g, e := newEntraGate(t)
	back := e.answered(g, e.form(g.now(), nil), "")
	if back.Get("state") != "entra-state" || back.Has("error") || back.Has("code") || back.Has("access_token") {
		t.Errorf("back with %v", back)
	}
	claims := e.verify(g, back.Get("id_token"))
	if claims["iss"] != g.URL || claims["sub"] != entraSubject || claims["nonce"] != "entra-nonce" || claims["acr"] != "possessionorinherence" {
		t.Errorf("claims %v", claims)
	}
	if amr, _ := claims["amr"].([]any); len(amr) != 1 || amr[0] != "otp" {
		t.Errorf("amr %v", claims["amr"])
	}
	if aud, _ := claims["aud"].([]any); claims["aud"] != "portal" && (len(aud) != 1 || aud[0] != "portal") {
		t.Errorf("aud %v", claims["aud"])
	}
	for refuse, want := range map[string]string{"cancelled": "access_denied", "locked": "access_denied", "no_token": "unmet_authentication_requirements"} {
		back := e.answered(g, e.form(g.now(), nil), "refuse="+refuse)
		if back.Get("error") != want || back.Get("state") != "entra-state" || back.Has("id_token") {
			t.Errorf("%s: %v", refuse, back)
		}
	}
	// Of the contexts that Entra names, one that a token can show.
	back = e.answered(g, e.form(g.now(), map[string]string{
		"claims": `{"id_token":{"acr":{"essential":true,"values":["knowledge","knowledgeorpossession"]}}}`, "login_hint": "victim",
	}), "")
	if claims := e.verify(g, back.Get("id_token")); claims["acr"] != "knowledgeorpossession" {
		t.Errorf("acr %v", claims["acr"])
	}
}

func TestEntraRefused(t *testing.T) {
	g, e := newEntraGate(t)
	now := g.now()
	stranger := newEntra(t)
	for name, changed := range map[string]map[string]string{
		"another redirect_uri":             {"redirect_uri": "https://evil.example/"},
		"another cloud's redirect_uri":     {"redirect_uri": strings.Replace(entraCallback, ".com/", ".us/", 1)},
		"redirect_uri escaped twice":       {"redirect_uri": url.QueryEscape(entraCallback)},
		"no redirect_uri":                  {"redirect_uri": ""},
		"another client":                   {"client_id": "other"},
		"a request object":                 {"request": "e30.e30."},
		"a redirect_uri with a slash more": {"redirect_uri": entraCallback + "/"},
	} {
		a := g.post(g.browser(), "/authorize", e.form(now, changed))
		if a.status != http.StatusGone || a.header.Get("Set-Cookie") != "" || len(a.body) > 0 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	hint := func(changed map[string]any) map[string]string {
		return map[string]string{"id_token_hint": e.hint(now, changed)}
	}
	for name, test := range map[string]struct {
		changed map[string]string
		want    string
	}{
		"code":             {map[string]string{"response_type": "code"}, "unsupported_response_type"},
		"query":            {map[string]string{"response_mode": "query"}, "invalid_request"},
		"no response_mode": {map[string]string{"response_mode": ""}, "invalid_request"},
		"no nonce":         {map[string]string{"nonce": ""}, "invalid_request"},
		"no openid":        {map[string]string{"scope": "profile"}, "invalid_scope"},
		"no hint":          {map[string]string{"id_token_hint": ""}, "invalid_request"},
		"login_hint alone": {map[string]string{"id_token_hint": "", "login_hint": "testuser2@contoso.com"}, "invalid_request"},
		"another's hint":   {map[string]string{"id_token_hint": stranger.hint(now, nil)}, "invalid_request"},
		"another tenant":   {hint(map[string]any{"tid": "14c2f153-90a7-4689-9db7-9543bf084dad"}), "invalid_request"},
		"another tenant's issuer": {hint(map[string]any{
			"iss": "https://login.microsoftonline.com/14c2f153-90a7-4689-9db7-9543bf084dad/v2.0",
		}), "invalid_request"},
		"another application":    {hint(map[string]any{"aud": "portal"}), "invalid_request"},
		"an old hint":            {map[string]string{"id_token_hint": e.hint(now.Add(-time.Hour), nil)}, "invalid_request"},
		"nobody":                 {hint(map[string]any{"preferred_username": nil}), "invalid_request"},
		"inherence":              {map[string]string{"claims": `{"id_token":{"acr":{"essential":true,"values":["inherence"]}}}`}, "unmet_authentication_requirements"},
		"a face":                 {map[string]string{"claims": `{"id_token":{"amr":{"essential":true,"values":["face"]}}}`}, "unmet_authentication_requirements"},
		"prompt=none":            {map[string]string{"prompt": "none"}, "login_required"},
		"authorization_details":  {map[string]string{"authorization_details": `[{"type":"x"}]`}, "invalid_authorization_details"},
		"claims that are broken": {map[string]string{"claims": `{"id_token"`}, "invalid_request"},
	} {
		form := postedForm(t, g.post(g.browser(), "/authorize", e.form(now, test.changed)))
		if form.Action != entraCallback || form.Fields.Get("error") != test.want || form.Fields.Get("state") != "entra-state" || form.Fields.Has("id_token") {
			t.Errorf("%s: %+v", name, form)
		}
	}
}

// Once it is fetched, an ID token is soon gone, however often the browser comes back.
func TestEntraAnswerIsGoneOnceFetched(t *testing.T) {
	g, e := newEntraGate(t)
	browser := g.browser()
	to := g.post(browser, g.post(browser, "/authorize", e.form(g.now(), nil)).header.Get("Location"), "").header.Get("Location")
	g.advance(20 * time.Second)
	for range 2 {
		if postedForm(t, g.get(browser, to)).Fields.Get("id_token") == "" {
			t.Fatal("no ID token")
		}
		g.advance(6 * time.Second)
	}
	if a := g.get(browser, to); a.status != http.StatusGone {
		t.Errorf("12 s after it was fetched: %d %s", a.status, a.body)
	}
}

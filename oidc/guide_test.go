package oidc_test

import (
	"crypto/x509"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"otpgate/oidc"
)

// guideFor is what the portal's engineers are told.
func guideFor(t *testing.T, g *gate) oidc.Guide {
	t.Helper()
	client := g.portal.client()
	keys, err := oidc.ClientKeys(t.Context(), &client)
	if err != nil {
		t.Fatal(err)
	}
	return oidc.NewGuide(&client, keys, g.URL, g.mtls.URL, g.now())
}

// Whoever sends what the guide shows, signed, gets a code and an ID token with
// what the guide says is in it.
func TestGuideIsALogin(t *testing.T) {
	t.Run("plain", func(t *testing.T) { testGuide(t, newGate(t)) })
	t.Run("signed", func(t *testing.T) {
		testGuide(t, newGate(t, func(g *gate) {
			g.portal.change = func(c *oidc.Client) { c.RequestObject = oidc.ObjectsRequired }
		}))
	})
}

func testGuide(t *testing.T, g *gate) {
	guide := guideFor(t, g)
	form := func(parameters []oidc.Parameter) url.Values {
		form := url.Values{}
		for _, p := range parameters {
			form.Set(p.Name, p.Value)
		}
		return form
	}
	kid, _ := guide.Assertion.Header["kid"].(string)
	sign := func(more map[string]any) string {
		claims := maps.Clone(guide.Assertion.Claims)
		maps.Copy(claims, more)
		return g.portal.sign(jose.SigningKey{Algorithm: g.portal.alg, Key: g.portal.key}, kid, claims)
	}
	push := form(guide.Push)
	if guide.Object != nil {
		body, err := json.Marshal(guide.Object.Claims)
		if err != nil {
			t.Fatal(err)
		}
		push.Set("request", signAs(t, jose.SigningKey{Algorithm: g.portal.alg, Key: g.portal.key}, guide.Object.Header["typ"].(string), kid, body))
	}
	push.Set("client_assertion", sign(nil))
	a := g.post(g.Client(), "/par", push.Encode())
	if a.status != http.StatusCreated {
		t.Fatalf("push: %d %s", a.status, a.body)
	}
	browser := g.browser()
	back := g.post(browser, g.load(browser, a.field("request_uri")), "").callback(t)
	redeem := form(guide.Redeem)
	redeem.Set("code", back.Get("code"))
	g.portal.redeem("x", nil) // for a nonce
	redeem.Set("client_assertion", sign(map[string]any{"jti": "a second one"}))
	proof := http.Header{"Dpop": {g.portal.proof(g.portal.key, g.portal.alg, "/token", map[string]any{"htu": guide.Proof.Claims["htu"]})}}
	a = g.postWith(proof, "/token", redeem.Encode())
	if a.status != http.StatusOK {
		t.Fatalf("token: %d %s", a.status, a.body)
	}
	claims := payload(t, a.field("id_token"))
	for _, want := range guide.IDToken {
		switch got := claims[want.Name]; {
		case want.Name == "alg": // in the header
		case want.Name == "aud" || want.Name == "amr":
			if list, _ := got.([]any); !slices.Contains(list, any(want.Value)) {
				t.Errorf("%s is %v, without %q", want.Name, got, want.Value)
			}
		case want.Value == "" && got == nil, want.Value != "" && got != want.Value:
			t.Errorf("%s is %v, and the guide says %q", want.Name, got, want.Value)
		}
	}
}

// The page for portals' engineers has whatever the guide has, and names files that
// are there.
func TestPortalPage(t *testing.T) {
	page, err := os.ReadFile("../docs/portal.md")
	if err != nil {
		t.Fatal(err)
	}
	g := newGate(t)
	guide := guideFor(t, g)
	for _, p := range slices.Concat(guide.Push, guide.Redeem, guide.IDToken) {
		if p.Name != "alg" && !regexp.MustCompile("`[^`\n]*\\b"+p.Name+"\\b[^`\n]*`").Match(page) {
			t.Errorf("docs/portal.md doesn't have %s", p.Name)
		}
	}
	files := regexp.MustCompile("`(\\w+\\.go)`").FindAllSubmatch(page, -1)
	if len(files) < 6 {
		t.Errorf("only %q", files)
	}
	for _, f := range files {
		if _, err := os.Stat("../examples/portal/relyingparty/" + string(f[1])); err != nil {
			t.Error(err)
		}
	}
}

// payload is what a JWT says, unverified.
func payload(t *testing.T, token string) map[string]any {
	t.Helper()
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256, jose.PS256, jose.EdDSA, jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]any{}
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// The guide names the addresses of the discovery document: for a portal that shows
// a certificate the aliases.
func TestGuideNamesTheEndpoints(t *testing.T) {
	for name, change := range map[string]func(*oidc.Client){
		"dpop": func(*oidc.Client) {},
		"mtls": func(c *oidc.Client) { c.SenderConstraint = oidc.ByMTLS },
	} {
		g := newGate(t, func(g *gate) { g.portal.change = change })
		var document map[string]any
		if err := json.Unmarshal(g.get(g.Client(), "/.well-known/openid-configuration").body, &document); err != nil {
			t.Fatal(err)
		}
		if name == "mtls" {
			maps.Copy(document, document["mtls_endpoint_aliases"].(map[string]any))
		}
		guide := guideFor(t, g)
		if len(guide.Endpoints) != 9 {
			t.Errorf("%s: %d endpoints", name, len(guide.Endpoints))
		}
		for _, e := range guide.Endpoints {
			if document[e.Name] != e.URL {
				t.Errorf("%s: %s is %v, and the guide says %s", name, e.Name, document[e.Name], e.URL)
			}
		}
		if asked := guide.Proof != nil; asked != (name == "dpop") {
			t.Errorf("%s: a proof is asked for: %v", name, asked)
		}
	}
}

// Each weakness by the keys of gateway.yaml that it is about, and none where there
// is none.
func TestWeaknesses(t *testing.T) {
	g := newGate(t)
	now := g.now()
	certificate := func(begun, ends time.Duration) jose.JSONWebKey {
		return jose.JSONWebKey{Key: g.portal.key.Public(), KeyID: ends.String(), Certificates: []*x509.Certificate{
			{NotBefore: now.Add(begun), NotAfter: now.Add(ends)},
		}}
	}
	const day = 24 * time.Hour
	key := jose.JSONWebKey{Key: g.portal.key.Public()}
	for name, c := range map[string]struct {
		change func(*oidc.Client)
		keys   []jose.JSONWebKey
		want   string
	}{
		"none":                 {func(*oidc.Client) {}, []jose.JSONWebKey{key}, ""},
		"http":                 {func(c *oidc.Client) { c.RedirectURIs = []string{"http://localhost:1/cb", callback} }, nil, "redirect_uris"},
		"no limit":             {func(c *oidc.Client) { c.Rate = 0 }, nil, "rate"},
		"profile":              {func(c *oidc.Client) { c.Profile = oidc.ProfileOIDC }, nil, "profile"},
		"nothing bound, RS256": {lax, nil, "profile sender_constraint id_token_alg"},
		"bare hint":            {func(c *oidc.Client) { c.Profile, c.BareHint = oidc.ProfileOIDC, true }, nil, "profile bare_login_hint"},
		"secret":               {func(c *oidc.Client) { c.Auth, c.Secrets = oidc.SecretBasic, make([]oidc.Secret, 1) }, nil, "auth"},
		"two secrets":          {func(c *oidc.Client) { c.Auth, c.Secrets = oidc.SecretPost, make([]oidc.Secret, 2) }, nil, "auth secrets"},
		"keys without names":   {func(*oidc.Client) {}, []jose.JSONWebKey{key, {Key: key.Key, KeyID: "2"}}, "jwks"},
		"one name twice":       {func(*oidc.Client) {}, []jose.JSONWebKey{{Key: key.Key, KeyID: "2"}, {Key: key.Key, KeyID: "2"}}, "jwks"},
		"good certificate":     {func(*oidc.Client) {}, []jose.JSONWebKey{certificate(-30*day, 60*day)}, ""},
		"long-lived":           {func(*oidc.Client) {}, []jose.JSONWebKey{certificate(0, 399*day)}, "jwks"},
		"soon over":            {func(*oidc.Client) {}, []jose.JSONWebKey{certificate(-30*day, 29*day)}, "jwks"},
		"over":                 {func(*oidc.Client) {}, []jose.JSONWebKey{certificate(-30*day, 0)}, "jwks"},
		"old authority": {func(c *oidc.Client) {
			c.Certificate.CAs = []*x509.Certificate{{NotBefore: now.Add(-5000 * day), NotAfter: now.Add(day)}}
		}, nil, "certificate.ca_file"},
		"entra": {func(c *oidc.Client) { c.Profile, c.Rate, c.IDTokenAlg = oidc.ProfileEntraEAM, 0, jose.RS256 }, nil, ""},
	} {
		client := g.portal.client()
		client.Rate = 1
		c.change(&client)
		var got []string
		for _, w := range oidc.Weaknesses(&client, c.keys, now) {
			got = append(got, w.Key)
			if w.Problem == "" || w.Remedy == "" {
				t.Errorf("%s: %+v", name, w)
			}
		}
		if want := strings.Fields(c.want); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func lax(c *oidc.Client) {
	c.Profile, c.SenderConstraint, c.IDTokenAlg = oidc.ProfileOIDC, oidc.Unconstrained, jose.RS256
}

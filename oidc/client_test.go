package oidc_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"otpgate/oidc"
)

// A client that could not be safe is refused before anything runs.
func TestClientIsChecked(t *testing.T) {
	g := newGate(t)
	keys := func(key jose.JSONWebKey) oidc.KeySource {
		return oidc.KeySource{Set: jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key}}}
	}
	for name, change := range map[string]func(*oidc.Client){
		"no id":                     func(c *oidc.Client) { c.ID = "" },
		"no realm":                  func(c *oidc.Client) { c.Realm = "" },
		"no acr":                    func(c *oidc.Client) { c.ACR = "" },
		"no redirect URI":           func(c *oidc.Client) { c.RedirectURIs = nil },
		"no key":                    func(c *oidc.Client) { c.Keys = oidc.KeySource{} },
		"a private key":             func(c *oidc.Client) { c.Keys = keys(jose.JSONWebKey{Key: g.portal.key}) },
		"a shared secret":           func(c *oidc.Client) { c.Keys = keys(jose.JSONWebKey{Key: []byte(strings.Repeat("k", 32))}) },
		"a key of another alg":      func(c *oidc.Client) { c.Keys.Set.Keys[0].Algorithm = "PS256" },
		"a key for encryption":      func(c *oidc.Client) { c.Keys.Set.Keys[0].Use = "enc" },
		"http":                      func(c *oidc.Client) { c.RedirectURIs[0] = "http://portal.example/cb" },
		"http on almost localhost":  func(c *oidc.Client) { c.RedirectURIs[0] = "http://localhost.evil.example/cb" },
		"a fragment":                func(c *oidc.Client) { c.RedirectURIs[0] = "https://portal.example/#a" },
		"an empty fragment":         func(c *oidc.Client) { c.RedirectURIs[0] = "https://portal.example/#" },
		"a user in the URI":         func(c *oidc.Client) { c.RedirectURIs[0] = "https://user@portal.example/" },
		"no host":                   func(c *oidc.Client) { c.RedirectURIs[0] = "https:///cb" },
		"a script":                  func(c *oidc.Client) { c.RedirectURIs[0] = "javascript:alert(1)" },
		"a path":                    func(c *oidc.Client) { c.RedirectURIs[0] = "/callback" },
		"a custom scheme":           func(c *oidc.Client) { c.RedirectURIs[0] = "portal://callback" },
		"a line break in the URI":   func(c *oidc.Client) { c.RedirectURIs[0] = "https://portal.example/\r\nX: y" },
		"letters that aren't ASCII": func(c *oidc.Client) { c.RedirectURIs[0] = "https://portal.example/戻る" },
	} {
		t.Run(name, func(t *testing.T) {
			g := &gate{t: t, Server: g.Server, database: filepath.Join(t.TempDir(), "gate.db")}
			client := g.newPortal("portal", newECKey(t), jose.ES256).client()
			change(&client)
			if _, err := g.newProvider(client); err == nil || !strings.Contains(err.Error(), "oidc: client") {
				t.Errorf("is taken, or blames something else: %v", err)
			}
		})
	}
}

func TestPlainHTTPOnLoopbackOnly(t *testing.T) {
	for _, uri := range []string{"http://localhost:8080/cb", "http://127.0.0.1/cb", "http://[::1]:80/cb"} {
		g := newGate(t, func(g *gate) { g.portal.redirectURI = uri })
		if a := g.portal.push(map[string]string{"redirect_uri": uri}); a.field("request_uri") == "" {
			t.Errorf("%s: %s", uri, a.body)
		}
	}
}

func TestOneFaultOfEachClientIsTold(t *testing.T) {
	g := newGate(t)
	g = &gate{t: t, Server: g.Server, database: filepath.Join(t.TempDir(), "gate.db")}
	one, two := g.newPortal("one", newECKey(t), jose.ES256).client(), g.newPortal("two", newECKey(t), jose.ES256).client()
	one.Realm, two.ACR = "", ""
	_, err := g.newProvider(one, two, two)
	for _, fault := range []string{`"one": realm`, `"two": acr`, `"two": is there twice`} {
		if err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%v doesn't tell of %s", err, fault)
		}
	}
}

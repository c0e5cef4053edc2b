package oidc_test

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
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
		"no id":                    func(c *oidc.Client) { c.ID = "" },
		"no realm":                 func(c *oidc.Client) { c.Realm = "" },
		"no acr":                   func(c *oidc.Client) { c.ACR = "" },
		"no redirect URI":          func(c *oidc.Client) { c.RedirectURIs = nil },
		"no key":                   func(c *oidc.Client) { c.Keys = oidc.KeySource{} },
		"a private key":            func(c *oidc.Client) { c.Keys = keys(jose.JSONWebKey{Key: g.portal.key}) },
		"a shared secret":          func(c *oidc.Client) { c.Keys = keys(jose.JSONWebKey{Key: []byte(strings.Repeat("k", 32))}) },
		"a key of another alg":     func(c *oidc.Client) { c.Keys.Set.Keys[0].Algorithm = "PS256" },
		"a key for encryption":     func(c *oidc.Client) { c.Keys.Set.Keys[0].Use = "enc" },
		"http":                     func(c *oidc.Client) { c.RedirectURIs[0] = "http://portal.example/cb" },
		"http on almost localhost": func(c *oidc.Client) { c.RedirectURIs[0] = "http://localhost.evil.example/cb" },
		"a fragment":               func(c *oidc.Client) { c.RedirectURIs[0] = "https://portal.example/#a" },
		"an empty fragment":        func(c *oidc.Client) { c.RedirectURIs[0] = "https://portal.example/#" },
		"a user in the URI":        func(c *oidc.Client) { c.RedirectURIs[0] = "https://user@portal.example/" },
		"no host":                  func(c *oidc.Client) { c.RedirectURIs[0] = "https:///cb" },
		"a script":                 func(c *oidc.Client) { c.RedirectURIs[0] = "javascript:alert(1)" },
		"a path":                   func(c *oidc.Client) { c.RedirectURIs[0] = "/callback" },
		"a custom scheme":          func(c *oidc.Client) { c.RedirectURIs[0] = "portal://callback" },
		"a line break in the URI":  func(c *oidc.Client) { c.RedirectURIs[0] = "https://portal.example/\r\nX: y" },
		"no profile":               func(c *oidc.Client) { c.Profile = "" },
		"an unknown profile":       func(c *oidc.Client) { c.Profile = "fapi1" },
		"no auth":                  func(c *oidc.Client) { c.Auth = "" },
		"auth none":                func(c *oidc.Client) { c.Auth, c.Keys = oidc.NoAuth, oidc.KeySource{} },
		"auth none, profile oidc": func(c *oidc.Client) {
			c.Profile, c.Auth, c.Keys = oidc.ProfileOIDC, oidc.NoAuth, oidc.KeySource{}
		},
		"secrets with fapi2": func(c *oidc.Client) { withSecrets(oidc.SecretBasic)(c); c.Profile = oidc.ProfileFAPI2 },
		"three secrets": func(c *oidc.Client) {
			withSecrets(oidc.SecretPost)(c)
			c.Secrets = append(c.Secrets, oidc.NewSecret([]byte("x")))
		},
		"no secret":                func(c *oidc.Client) { withSecrets(oidc.SecretPost)(c); c.Secrets = nil },
		"a secret beside its keys": func(c *oidc.Client) { c.Secrets = []oidc.Secret{oidc.NewSecret([]byte(secret))} },
		"a key with entra-eam": func(c *oidc.Client) {
			c.Profile, c.Auth, c.SenderConstraint = oidc.ProfileEntraEAM, oidc.NoAuth, oidc.Unconstrained
		},
		"fapi2 without a constraint":       func(c *oidc.Client) { c.SenderConstraint = oidc.Unconstrained },
		"an unknown constraint":            func(c *oidc.Client) { c.SenderConstraint = "bearer" },
		"RS256 with fapi2":                 func(c *oidc.Client) { c.IDTokenAlg = jose.RS256 },
		"HS256":                            func(c *oidc.Client) { c.Profile, c.IDTokenAlg = oidc.ProfileOIDC, jose.HS256 },
		"no alg":                           func(c *oidc.Client) { c.IDTokenAlg = "" },
		"a negative rate":                  func(c *oidc.Client) { c.Rate = -1 },
		"keys in two places":               func(c *oidc.Client) { c.Keys.URI = "https://portal.example/jwks" },
		"keys over http":                   func(c *oidc.Client) { c.Keys = oidc.KeySource{URI: "http://portal.example/jwks"} },
		"keys from a file":                 func(c *oidc.Client) { c.Keys = oidc.KeySource{URI: "file:///etc/passwd"} },
		"self-signed without certificates": func(c *oidc.Client) { c.Auth = oidc.SelfSignedTLS },
		"a certificate without a CA":       byCertificate(oidc.Certificate{SANDNS: "portal.example"}),
		"a CA without a name":              byCertificate(oidc.Certificate{CAs: []*x509.Certificate{g.Certificate()}}),
		"a certificate of two names": byCertificate(oidc.Certificate{
			CAs: []*x509.Certificate{g.Certificate()}, SANDNS: "portal.example", SANEmail: "a@portal.example",
		}),
		"a subject that is no name": byCertificate(oidc.Certificate{CAs: []*x509.Certificate{g.Certificate()}, SubjectDN: "portal"}),
		"a certificate and nowhere": byCertificate(oidc.Certificate{CAs: []*x509.Certificate{g.Certificate()}, SANDNS: "portal.example"}),
		"bound tokens and nowhere":  func(c *oidc.Client) { c.SenderConstraint = oidc.ByMTLS },
		"http after a log-out":      func(c *oidc.Client) { c.PostLogoutRedirectURIs = []string{"http://portal.example/"} },
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

// A client that somebody prints shows no secret, nor what one could be tried
// against.
func TestSecretsAreNotPrinted(t *testing.T) {
	c := oidc.Client{Secrets: []oidc.Secret{oidc.NewSecret([]byte(secret))}}
	if printed := fmt.Sprintf("%v %+v %#v %x", c, c, c.Secrets, c.Secrets[0]); !strings.Contains(printed, "[secret]") ||
		strings.Contains(printed, fmt.Sprintf("%x", sha256.Sum256([]byte(secret)))) {
		t.Error(printed)
	}
}

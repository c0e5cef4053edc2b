package oidc_test

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"otpgate/oidc"
)

const (
	secret    = "one of 32 characters: +%&=~ä1234"
	newSecret = "the one that is to replace it 123"
)

// withSecrets makes the client one that has the two secrets.
func withSecrets(auth oidc.AuthMethod) func(*oidc.Client) {
	return func(c *oidc.Client) {
		c.Profile, c.Auth, c.Keys, c.SenderConstraint = oidc.ProfileOIDC, auth, oidc.KeySource{}, oidc.Unconstrained
		c.Secrets = []oidc.Secret{oidc.NewSecret([]byte(secret)), oidc.NewSecret([]byte(newSecret))}
	}
}

// basic is an Authorization header as RFC 6749 §2.3.1 has it.
func basic(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}

// bare is what pushForm has, without its authentication.
var bare = map[string]string{"client_assertion": "", "client_assertion_type": ""}

func with(changes ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, c := range changes {
		maps.Copy(all, c)
	}
	return all
}

// pushBy pushes form with Authorization headers, through client: that of the
// listener for everybody, or one with a certificate.
func (g *gate) pushBy(client *http.Client, origin, form string, authorization ...string) answer {
	g.t.Helper()
	r, err := http.NewRequest(http.MethodPost, origin+"/par", strings.NewReader(form))
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, a := range authorization {
		r.Header.Add("Authorization", a)
	}
	return g.do(client, r)
}

// The whole of it, with a client library that nobody here wrote.
func TestSecretBasicLogsIn(t *testing.T) {
	g := newGate(t, func(g *gate) {
		g.portal.id = "a portal & co:1"
		g.portal.change = withSecrets(oidc.SecretBasic)
	})
	pushed := g.pushBy(g.Client(), g.URL, g.portal.pushForm(bare), basic(g.portal.id, secret))
	if pushed.status != http.StatusCreated {
		t.Fatalf("%d %s", pushed.status, pushed.body)
	}
	browser := g.browser()
	page := g.get(browser, authorizePath(g.portal.id, pushed.field("request_uri"))).header.Get("Location")
	code := g.post(browser, page, "").callback(t).Get("code")
	library := oauth2.Config{
		ClientID: g.portal.id, ClientSecret: newSecret, RedirectURL: callback,
		Endpoint: oauth2.Endpoint{TokenURL: g.URL + "/token", AuthStyle: oauth2.AuthStyleInHeader},
	}
	ctx := contextWithClient(t, g.Client())
	if _, err := library.Exchange(ctx, "wrong", oauth2.VerifierOption(codeVerifier)); err == nil {
		t.Error("a made-up code is taken")
	}
	token, err := library.Exchange(ctx, code, oauth2.VerifierOption(codeVerifier))
	if err != nil || token.Extra("id_token") == nil {
		t.Errorf("%v, %v", token, err)
	}
}

// Each client by each method, right in itself: its own one passes, and no other.
func TestOnlyTheConfiguredMethod(t *testing.T) {
	ca := newCA(t)
	chain := ca.issue(t, nil)
	key := chain.PrivateKey.(*ecdsa.PrivateKey) // one key for all, so that it isn't the key that keeps one out
	methods := map[oidc.AuthMethod]func(*oidc.Client){
		oidc.PrivateKeyJWT: nil,
		oidc.SecretBasic:   withSecrets(oidc.SecretBasic),
		oidc.SecretPost:    withSecrets(oidc.SecretPost),
		oidc.TLSClientAuth: func(c *oidc.Client) {
			c.Auth, c.Keys = oidc.TLSClientAuth, oidc.KeySource{}
			c.Certificate = oidc.Certificate{CAs: []*x509.Certificate{ca.cert}, SANDNS: "portal.example"}
		},
		oidc.SelfSignedTLS: func(c *oidc.Client) {
			c.Auth = oidc.SelfSignedTLS
			c.Keys.Set.Keys = []jose.JSONWebKey{{Key: key.Public(), KeyID: "portal-key", Certificates: []*x509.Certificate{chain.Leaf}}}
		},
	}
	for method, change := range methods {
		g := newGate(t, func(g *gate) { g.portal.key, g.portal.change = key, change })
		certified := g.withCertificate(chain)
		answers := map[oidc.AuthMethod]answer{
			oidc.PrivateKeyJWT: g.portal.push(nil),
			oidc.SecretBasic:   g.pushBy(g.Client(), g.URL, g.portal.pushForm(bare), basic("portal", secret)),
			oidc.SecretPost:    g.portal.push(with(bare, map[string]string{"client_secret": secret})),
			"a certificate":    g.pushBy(certified, g.mtls.URL, g.portal.pushForm(bare)),
			oidc.NoAuth:        g.portal.push(bare),
		}
		for used, a := range answers {
			right := used == method || used == "a certificate" && (method == oidc.TLSClientAuth || method == oidc.SelfSignedTLS)
			if right && a.status != http.StatusCreated {
				t.Errorf("%s refuses its own: %d %s", method, a.status, a.body)
			}
			if !right {
				wantRefused(t, a, http.StatusUnauthorized, "invalid_client")
			}
		}
	}
}

// A certificate of the connection is no authentication of a client that has
// another method, and keeps none out: its tokens may be bound to it.
func TestAssertionOverMutualTLS(t *testing.T) {
	g := newGate(t)
	client := g.withCertificate(newCA(t).issue(t, nil))
	if a := g.pushBy(client, g.mtls.URL, g.portal.pushForm(nil)); a.status != http.StatusCreated {
		t.Errorf("%d %s", a.status, a.body)
	}
	wantRefused(t, g.pushBy(client, g.mtls.URL, g.portal.pushForm(bare)), http.StatusUnauthorized, "invalid_client")
}

func TestSecretsRefused(t *testing.T) {
	g := newGate(t, func(g *gate) {
		g.portal.change, g.other.change = withSecrets(oidc.SecretBasic), withSecrets(oidc.SecretBasic)
	})
	raw := func(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }
	for name, header := range map[string]string{
		"wrong":               basic("portal", secret+"x"),
		"empty":               basic("portal", ""),
		"a part of it":        basic("portal", secret[:31]),
		"unknown client":      basic("nobody", secret),
		"another client_id":   basic("other", secret),
		"not form-urlencoded": raw("portal:" + secret),
		"no colon":            raw("portal"),
		"not base64":          "Basic ???",
		"not UTF-8":           raw("portal:%ff"),
		"another scheme":      "Bearer " + secret,
		"too long":            basic("portal", strings.Repeat("x", 8<<10)),
		"nothing":             "",
	} {
		t.Run(name, func(t *testing.T) {
			a := g.pushBy(g.Client(), g.URL, g.portal.pushForm(bare), header)
			wantRefused(t, a, http.StatusUnauthorized, "invalid_client")
			if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Basic realm=") { // RFC 6749 §5.2
				t.Errorf("WWW-Authenticate: %q", a.header.Get("WWW-Authenticate"))
			}
		})
	}
	if log := g.log.String(); strings.Contains(log, secret) || strings.Contains(log, url.QueryEscape(secret)) {
		t.Error("a secret is in the log")
	}
}

// RFC 6749 §2.3: not even two right ones.
func TestOneMethodInARequest(t *testing.T) {
	g := newGate(t, func(g *gate) { g.other.change = withSecrets(oidc.SecretBasic) })
	right := basic("other", secret)
	for name, a := range map[string]answer{
		"assertion and Basic":  g.pushBy(g.Client(), g.URL, g.portal.pushForm(nil), basic("portal", secret)),
		"assertion and secret": g.portal.push(map[string]string{"client_secret": secret}),
		"Basic and secret":     g.pushBy(g.Client(), g.URL, g.other.pushForm(with(bare, map[string]string{"client_secret": secret})), right),
		"Basic and a type":     g.pushBy(g.Client(), g.URL, g.other.pushForm(map[string]string{"client_assertion": ""}), right),
		"Basic twice":          g.pushBy(g.Client(), g.URL, g.other.pushForm(bare), right, right),
	} {
		t.Run(name, func(t *testing.T) { wantRefused(t, a, http.StatusBadRequest, "invalid_request") })
	}
}

// Nobody learns from the answer whether there is a client of that name, or how it
// authenticates.
func TestAnswerDoesNotTellWhatWasWrong(t *testing.T) {
	g := newGate(t, func(g *gate) { g.other.change = withSecrets(oidc.SecretPost) })
	g.other.change = nil // it signs assertions all the same
	nobody := g.newPortal("nobody", newECKey(t), jose.ES256)
	show := func(a answer) string {
		a.header.Del("Date")
		return fmt.Sprint(a.status, a.header, string(a.body))
	}
	stranger := jose.SigningKey{Algorithm: jose.ES256, Key: nobody.key}
	for name, answers := range map[string][]answer{
		"by assertion": {
			g.portal.push(map[string]string{"client_assertion": g.portal.sign(stranger, "portal-key", nil)}),
			g.portal.push(map[string]string{"client_assertion": g.portal.sign(stranger, "no such kid", nil)}),
			g.portal.push(map[string]string{"client_assertion": g.portal.assertion(map[string]any{"aud": "x"})}),
			g.other.push(nil), nobody.push(nil),
		},
		"by secret": {
			g.portal.push(with(bare, map[string]string{"client_secret": "x"})),
			g.other.push(with(bare, map[string]string{"client_secret": "x"})),
			nobody.push(with(bare, map[string]string{"client_secret": "x"})),
		},
		"by nothing": {g.portal.push(bare), g.other.push(bare), nobody.push(bare)},
	} {
		for _, a := range answers {
			if show(a) != show(answers[0]) || a.status != http.StatusUnauthorized {
				t.Errorf("%s: %s\nand %s", name, show(a), show(answers[0]))
			}
		}
	}
}

// Whatever the header of an assertion says of keys is the sender's own word.
func TestKeysInTheHeaderAreNotRead(t *testing.T) {
	g := newGate(t)
	ca := newCA(t)
	var asked atomic.Int64
	lure := newTLSServer(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	chain := ca.issue(t, nil)
	key := chain.PrivateKey
	for name, options := range map[string]*jose.SignerOptions{
		"jwk": {EmbedJWK: true},
		"jku": (&jose.SignerOptions{}).WithHeader("jku", lure.URL),
		"x5u": (&jose.SignerOptions{}).WithHeader("x5u", lure.URL),
		"x5c": (&jose.SignerOptions{}).WithHeader("x5c", []string{base64.StdEncoding.EncodeToString(chain.Leaf.Raw)}),
	} {
		for _, kid := range []string{"", "portal-key"} {
			t.Run(name+kid, func(t *testing.T) {
				claims := fmt.Sprintf(`{"iss":"portal","sub":"portal","aud":%q,"jti":%q,"iat":%d,"exp":%d}`,
					g.URL, name+kid, g.now().Unix(), g.now().Add(time.Minute).Unix())
				signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, options)
				if err != nil {
					t.Fatal(err)
				}
				jws, err := signer.Sign([]byte(claims))
				if err != nil {
					t.Fatal(err)
				}
				compact, err := jws.CompactSerialize()
				if err != nil {
					t.Fatal(err)
				}
				wantRefused(t, g.portal.push(map[string]string{"client_assertion": compact}), http.StatusUnauthorized, "invalid_client")
			})
		}
	}
	if asked.Load() > 0 {
		t.Error("an address in the header was asked")
	}
}

// Of parallel uses of one assertion one passes.
func TestAssertionInParallel(t *testing.T) {
	g := newGate(t)
	form := g.portal.pushForm(nil)
	var passed atomic.Int64
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if a := g.post(g.Client(), "/par", form); a.status == http.StatusCreated {
				passed.Add(1)
			}
		})
	}
	all.Wait()
	if passed.Load() != 1 {
		t.Errorf("%d of 16 passed", passed.Load())
	}
}

// A stranger can slow himself down, and nobody else.
func TestFailuresAreHeldBack(t *testing.T) {
	g := newGate(t, func(g *gate) {
		g.stopped = time.Now()
		g.portal.change = func(c *oidc.Client) { c.Rate = 2 }
	})
	var held answer
	for range 150 {
		if held = g.portal.push(bare); held.status == http.StatusTooManyRequests {
			break
		}
		wantRefused(t, held, http.StatusUnauthorized, "invalid_client")
	}
	if held.status != http.StatusTooManyRequests || held.header.Get("Retry-After") != "1" {
		t.Errorf("%d, Retry-After %q", held.status, held.header.Get("Retry-After"))
	}
	for range 2 { // from the same address, in the same name: its whole rate is left
		if a := g.portal.push(nil); a.status != http.StatusCreated {
			t.Errorf("the client itself is held back: %d %s", a.status, a.body)
		}
	}
	wantRefused(t, g.portal.push(nil), http.StatusTooManyRequests, "temporarily_unavailable")
	if a := g.other.push(nil); a.status != http.StatusCreated {
		t.Errorf("another client is held back: %d %s", a.status, a.body)
	}
	g.advance(2 * time.Second)
	if a := g.portal.push(nil); a.status != http.StatusCreated {
		t.Errorf("after a while: %d %s", a.status, a.body)
	}
	wantRefused(t, g.portal.push(bare), http.StatusUnauthorized, "invalid_client")
}

func TestAddressRate(t *testing.T) {
	g := newGate(t, func(g *gate) { g.stopped, g.addressRate = time.Now(), 3 })
	for range 3 {
		if a := g.portal.push(nil); a.status != http.StatusCreated {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	for _, path := range []string{"/par", "/token"} {
		a := g.post(g.Client(), path, g.portal.pushForm(nil))
		wantRefused(t, a, http.StatusTooManyRequests, "temporarily_unavailable")
		if a.header.Get("Retry-After") != "1" {
			t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
		}
	}
	if a := g.get(g.Client(), "/jwks.json"); a.status != http.StatusOK {
		t.Errorf("the keys: %d", a.status)
	}
	g.advance(time.Second)
	if a := g.portal.push(nil); a.status != http.StatusCreated {
		t.Errorf("after a second: %d %s", a.status, a.body)
	}
}

// Browsers at one address don't take what its portals have, nor theirs take the browsers'.
func TestAddressRateOfBrowsers(t *testing.T) {
	g := newGate(t, func(g *gate) { g.stopped, g.addressRate = time.Now(), 3 }, asOIDC(func(c *oidc.Client) { c.BareHint = true }))
	login, uri := barePath(map[string]string{"login_hint": customer}), g.portal.requestURI(nil)
	for range 2 {
		g.portal.push(nil)
	}
	for _, path := range []string{login, authorizePath("portal", uri), login} {
		if a := g.get(g.browser(), path); a.header.Get("Set-Cookie") == "" {
			t.Fatalf("within its rate: %d %s", a.status, a.header.Get("Location"))
		}
	}
	for _, path := range []string{login, authorizePath("portal", uri), "/authorize"} {
		a := g.get(g.browser(), path)
		if a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") != "1" || a.header.Get("Set-Cookie") != "" || a.header.Get("Location") != "" {
			t.Errorf("beyond: %d, Retry-After %q", a.status, a.header.Get("Retry-After"))
		}
	}
	g.advance(time.Second)
	if a := g.get(g.browser(), authorizePath("portal", uri)); a.header.Get("Set-Cookie") == "" || g.portal.push(nil).status != http.StatusCreated {
		t.Errorf("after a second: %d", a.status)
	}
}

// Entra never asks by itself.
func TestEntraHasNoBackChannel(t *testing.T) {
	g := newGate(t, func(g *gate) {
		g.portal.change = func(c *oidc.Client) {
			c.Profile, c.Auth, c.SenderConstraint = oidc.ProfileEntraEAM, oidc.NoAuth, oidc.Unconstrained
			c.Keys, c.IDTokenAlg = oidc.KeySource{}, jose.RS256
			c.RedirectURIs, c.HintIssuers = []string{entraCallback}, []oidc.HintIssuer{newEntra(t).issuer()}
		}
	})
	wantRefused(t, g.portal.push(bare), http.StatusUnauthorized, "invalid_client")
	wantRefused(t, g.portal.push(nil), http.StatusUnauthorized, "invalid_client")
	wantRefused(t, g.portal.redeem("x", bare), http.StatusUnauthorized, "invalid_client")
}

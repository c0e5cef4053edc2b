package oidc_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func TestAssertionRefused(t *testing.T) {
	g := newGate(t)
	for name, assertion := range map[string]string{
		"empty":                     "",
		"not a JWT":                 "abc",
		"no iss":                    g.portal.assertion(map[string]any{"iss": nil}),
		"unknown iss":               g.portal.assertion(map[string]any{"iss": "nobody"}),
		"no sub":                    g.portal.assertion(map[string]any{"sub": nil}),
		"another's sub":             g.portal.assertion(map[string]any{"sub": "other"}),
		"another's iss":             g.portal.assertion(map[string]any{"iss": "other", "sub": "other"}),
		"no aud":                    g.portal.assertion(map[string]any{"aud": nil}),
		"aud of another issuer":     g.portal.assertion(map[string]any{"aud": "https://other.example"}),
		"aud is /par":               g.portal.assertion(map[string]any{"aud": g.URL + "/par"}),
		"aud is /token":             g.portal.assertion(map[string]any{"aud": g.URL + "/token"}),
		"aud with a slash":          g.portal.assertion(map[string]any{"aud": g.URL + "/"}),
		"aud is a list":             g.portal.assertion(map[string]any{"aud": []string{g.URL}}), // edge 7
		"aud is a longer list":      g.portal.assertion(map[string]any{"aud": []string{g.URL, "https://other.example"}}),
		"no exp":                    g.portal.assertion(map[string]any{"exp": nil}),
		"expired":                   g.portal.assertion(map[string]any{"exp": g.now().Add(-11 * time.Second).Unix()}),
		"exp 5 minutes ago":         g.portal.assertion(map[string]any{"exp": g.now().Add(-5 * time.Minute).Unix()}),
		"exp in an hour":            g.portal.assertion(map[string]any{"exp": g.now().Add(time.Hour).Unix()}),
		"exp is a string":           g.portal.assertion(map[string]any{"exp": fmt.Sprint(g.now().Add(time.Minute).Unix())}),
		"no iat":                    g.portal.assertion(map[string]any{"iat": nil}),
		"iat 11 minutes ago":        g.portal.assertion(map[string]any{"iat": g.now().Add(-11 * time.Minute).Unix()}),
		"iat a minute ahead":        g.portal.assertion(map[string]any{"iat": g.now().Add(61 * time.Second).Unix()}),
		"nbf a minute ahead":        g.portal.assertion(map[string]any{"nbf": g.now().Add(61 * time.Second).Unix()}),
		"no jti":                    g.portal.assertion(map[string]any{"jti": nil}),
		"long jti":                  g.portal.assertion(map[string]any{"jti": strings.Repeat("j", 256)}),
		"longer than 8 KiB":         g.portal.assertion(map[string]any{"x": strings.Repeat("x", 8<<10)}),
		"signed with another's":     g.portal.sign(jose.SigningKey{Algorithm: jose.ES256, Key: g.other.key}, "portal-key", nil),
		"key of another by kid":     g.portal.sign(jose.SigningKey{Algorithm: jose.ES256, Key: g.other.key}, "other-key", nil),
		"kid of another":            g.portal.sign(jose.SigningKey{Algorithm: jose.ES256, Key: g.portal.key}, "other-key", nil),
		"another client's":          g.other.assertion(nil),
		"alg none":                  unsigned(t, g.portal, `{"alg":"none","kid":"portal-key"}`, ""),
		"alg None":                  unsigned(t, g.portal, `{"alg":"None","kid":"portal-key"}`, ""),
		"no alg":                    unsigned(t, g.portal, `{"kid":"portal-key"}`, ""),
		"HMAC under the public key": hmacUnderPublicKey(t, g.portal),
		"signature cut off":         cutSignature(g.portal.assertion(nil)),
		"twice the same member":     unsigned(t, g.portal, `{"alg":"ES256","alg":"none"}`, "AAAA"),
		"iss in another case":       g.portal.assertion(map[string]any{"iss": nil, "ISS": "portal"}),
	} {
		t.Run(name, func(t *testing.T) {
			wantRefused(t, g.portal.push(map[string]string{"client_assertion": assertion}), http.StatusUnauthorized, "invalid_client")
		})
	}
	wantRefused(t, g.portal.push(map[string]string{"client_assertion_type": ""}), http.StatusUnauthorized, "invalid_client")
}

func TestAssertionAccepted(t *testing.T) {
	g := newGate(t)
	for name, changed := range map[string]map[string]any{
		"iat 8 s ahead":    {"iat": g.now().Add(8 * time.Second).Unix()},
		"nbf 8 s ahead":    {"nbf": g.now().Add(8 * time.Second).Unix()},
		"exp 8 s ago":      {"exp": g.now().Add(-8 * time.Second).Unix()},
		"fractional times": {"iat": float64(g.now().UnixMilli()) / 1000},
	} {
		if a := g.portal.push(map[string]string{"client_assertion": g.portal.assertion(changed)}); a.status != http.StatusCreated {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	withoutKid := g.portal.sign(jose.SigningKey{Algorithm: jose.ES256, Key: g.portal.key}, "", nil)
	if a := g.portal.push(map[string]string{"client_assertion": withoutKid}); a.status != http.StatusCreated {
		t.Errorf("without kid: %d %s", a.status, a.body)
	}
}

// Edge 7: an assertion is good once, at whichever endpoint.
func TestAssertionReplay(t *testing.T) {
	g := newGate(t)
	code := g.code()
	replayed := g.portal.assertion(nil)
	if a := g.portal.push(map[string]string{"client_assertion": replayed}); a.status != http.StatusCreated {
		t.Fatalf("first use: %d %s", a.status, a.body)
	}
	wantRefused(t, g.portal.push(map[string]string{"client_assertion": replayed}), http.StatusUnauthorized, "invalid_client")
	wantRefused(t, g.portal.redeem(code, map[string]string{"client_assertion": replayed}), http.StatusUnauthorized, "invalid_client")
	g.advance(65 * time.Second) // past exp, within the tolerance for clocks
	wantRefused(t, g.portal.push(map[string]string{"client_assertion": replayed}), http.StatusUnauthorized, "invalid_client")

	// The same jti of another client is another assertion.
	mine, theirs := g.portal.assertion(map[string]any{"jti": "1"}), g.other.assertion(map[string]any{"jti": "1"})
	if a := g.portal.push(map[string]string{"client_assertion": mine}); a.status != http.StatusCreated {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := g.other.push(map[string]string{"client_assertion": theirs}); a.status != http.StatusCreated {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// A refused assertion must not use up the jti of the right one.
func TestForgedAssertionUsesNothingUp(t *testing.T) {
	g := newGate(t)
	forged := g.portal.sign(jose.SigningKey{Algorithm: jose.ES256, Key: g.other.key}, "portal-key", map[string]any{"jti": "known"})
	wantRefused(t, g.portal.push(map[string]string{"client_assertion": forged}), http.StatusUnauthorized, "invalid_client")
	right := g.portal.assertion(map[string]any{"jti": "known"})
	if a := g.portal.push(map[string]string{"client_assertion": right}); a.status != http.StatusCreated {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestAssertionAlgorithms(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	g := newGate(t, func(g *gate) {
		g.portal = g.newPortal("portal", rsaKey, jose.PS256)
		g.other = g.newPortal("other", edKey, jose.EdDSA)
	})
	for _, p := range []*portal{g.portal, g.other} {
		if a := p.push(nil); a.status != http.StatusCreated {
			t.Errorf("%s: %d %s", p.alg, a.status, a.body)
		}
	}
	rs256 := g.portal.sign(jose.SigningKey{Algorithm: jose.RS256, Key: rsaKey}, "portal-key", nil)
	wantRefused(t, g.portal.push(map[string]string{"client_assertion": rs256}), http.StatusUnauthorized, "invalid_client")
}

// unsigned is a right assertion's payload under a header and signature at will.
func unsigned(t *testing.T, p *portal, header, signature string) string {
	t.Helper()
	return b64(header) + "." + strings.Split(p.assertion(nil), ".")[1] + "." + signature
}

// hmacUnderPublicKey is the classic confusion: HS256 keyed with bytes that
// everybody knows.
func hmacUnderPublicKey(t *testing.T, p *portal) string {
	t.Helper()
	public, err := x509.MarshalPKIXPublicKey(p.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return p.sign(jose.SigningKey{Algorithm: jose.HS256, Key: public}, "portal-key", nil)
}

func cutSignature(compact string) string { return compact[:strings.LastIndexByte(compact, '.')+1] }

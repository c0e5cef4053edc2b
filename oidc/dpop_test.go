package oidc_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// proof is a right DPoP proof for a POST to path, but for the changed claims; nil
// takes a claim away.
func (p *portal) proof(key crypto.Signer, alg jose.SignatureAlgorithm, path string, changed map[string]any) string {
	p.gate.t.Helper()
	return p.signProof(jose.SigningKey{Algorithm: alg, Key: key}, jose.JSONWebKey{Key: key.Public()}, "dpop+jwt", path, changed)
}

func (p *portal) signProof(key jose.SigningKey, jwk jose.JSONWebKey, typ, path string, changed map[string]any) string {
	p.gate.t.Helper()
	claims := map[string]any{
		"jti": fmt.Sprintf("proof-%d", p.jtis.Add(1)), "htm": http.MethodPost, "htu": p.gate.URL + path,
		"iat": p.gate.now().Unix(), "nonce": p.nonce,
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
	signer, err := jose.NewSigner(key, (&jose.SignerOptions{}).WithType(jose.ContentType(typ)).WithHeader("jwk", jwk))
	if err != nil {
		p.gate.t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		p.gate.t.Fatal(err)
	}
	compact, err := jws.CompactSerialize()
	if err != nil {
		p.gate.t.Fatal(err)
	}
	return compact
}

// tokens lets a customer pass and redeems the code.
func (g *gate) tokens() answer {
	g.t.Helper()
	a := g.portal.redeem(g.code(), nil)
	if a.status != http.StatusOK || a.field("token_type") != "DPoP" {
		g.t.Fatalf("redeem: %d %s", a.status, a.body)
	}
	return a
}

func TestTokenNeedsAProof(t *testing.T) {
	g := newGate(t)
	p := g.portal
	p.redeem("x", nil) // has given a nonce
	weak := newECKey(t)
	good := jose.SigningKey{Algorithm: jose.ES256, Key: weak}
	replayed := p.proof(weak, jose.ES256, "/token", nil)
	for name, proofs := range map[string][]string{
		"none":                 {},
		"two":                  {p.proof(weak, jose.ES256, "/token", nil), p.proof(weak, jose.ES256, "/token", nil)},
		"no JWT":               {"x.y.z"},
		"too long":             {strings.Repeat("x", 9000)},
		"of another endpoint":  {p.proof(weak, jose.ES256, "/par", nil)},
		"of another host":      {p.proof(weak, jose.ES256, "/token", map[string]any{"htu": "https://evil.example/token"})},
		"of another method":    {p.proof(weak, jose.ES256, "/token", map[string]any{"htm": "GET"})},
		"method in lower case": {p.proof(weak, jose.ES256, "/token", map[string]any{"htm": "post"})},
		"without jti":          {p.proof(weak, jose.ES256, "/token", map[string]any{"jti": nil})},
		"with a huge jti":      {p.proof(weak, jose.ES256, "/token", map[string]any{"jti": strings.Repeat("j", 300)})},
		"without iat":          {p.proof(weak, jose.ES256, "/token", map[string]any{"iat": nil})},
		"old":                  {p.proof(weak, jose.ES256, "/token", map[string]any{"iat": g.now().Add(-2 * time.Minute).Unix()})},
		"of the future":        {p.proof(weak, jose.ES256, "/token", map[string]any{"iat": g.now().Add(2 * time.Minute).Unix()})},
		"expired":              {p.proof(weak, jose.ES256, "/token", map[string]any{"exp": g.now().Add(-time.Minute).Unix()})},
		"not valid yet":        {p.proof(weak, jose.ES256, "/token", map[string]any{"nbf": g.now().Add(time.Minute).Unix()})},
		"claims twice":         {p.proof(weak, jose.ES256, "/token", map[string]any{"JTI": "x", "jti": 7})},
		"of another type":      {p.signProof(good, jose.JSONWebKey{Key: weak.Public()}, "JWT", "/token", nil)},
		"by another key":       {p.signProof(good, jose.JSONWebKey{Key: newECKey(t).Public()}, "dpop+jwt", "/token", nil)},
		"with the private key": {p.signProof(good, jose.JSONWebKey{Key: weak}, "dpop+jwt", "/token", nil)},
		"with a shared secret": {p.signProof(jose.SigningKey{Algorithm: jose.HS256, Key: bytes.Repeat([]byte("k"), 32)}, jose.JSONWebKey{Key: weak.Public()}, "dpop+jwt", "/token", nil)},
		"signed by nobody":     {withoutSignature(t, replayed)},
	} {
		t.Run(name, func(t *testing.T) {
			code := g.code()
			a := g.postWith(http.Header{"Dpop": proofs}, "/token", p.tokenForm(code, nil))
			wantRefused(t, a, http.StatusBadRequest, "invalid_dpop_proof")
			if a := p.redeem(code, nil); a.status != http.StatusOK {
				t.Errorf("the code was lost: %d %s", a.status, a.body)
			}
		})
	}

	code := g.code()
	first := g.postWith(http.Header{"Dpop": {replayed}}, "/token", p.tokenForm(code, map[string]string{"code": "wrong"}))
	wantRefused(t, first, http.StatusBadRequest, "invalid_grant")
	second := g.postWith(http.Header{"Dpop": {replayed}}, "/token", p.tokenForm(code, nil))
	wantRefused(t, second, http.StatusBadRequest, "invalid_dpop_proof")
}

// withoutSignature is a JWS with alg none instead.
func withoutSignature(t *testing.T, jws string) string {
	t.Helper()
	parts := strings.Split(jws, ".")
	header, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil {
		t.Fatal(err)
	}
	none := bytes.Replace(header, []byte(`"alg":"ES256"`), []byte(`"alg":"none"`), 1)
	return base64.RawURLEncoding.EncodeToString(none) + "." + parts[1] + "."
}

func TestProofOfTheSameAddress(t *testing.T) {
	g := newGate(t)
	p := g.portal
	u, err := url.Parse(g.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, htu := range []string{
		"HTTPS://" + u.Host + "/token", "https://" + u.Host + "/token?x=y", "https://" + u.Host + "/token#f",
	} {
		p.redeem("x", nil)
		a := g.postWith(http.Header{"Dpop": {p.proof(p.key, p.alg, "", map[string]any{"htu": htu})}}, "/token", p.tokenForm(g.code(), nil))
		if a.status != http.StatusOK {
			t.Errorf("%s: %s", htu, a.body)
		}
	}
}

func TestNonces(t *testing.T) {
	g := newGate(t)
	p := g.portal
	ask := func(nonce any) answer {
		return g.postWith(http.Header{"Dpop": {p.proof(p.key, p.alg, "/token", map[string]any{"nonce": nonce})}}, "/token", p.tokenForm("x", nil))
	}
	a := ask(nil)
	wantRefused(t, a, http.StatusBadRequest, "use_dpop_nonce")
	nonce := a.header.Get("DPoP-Nonce")
	wantRefused(t, ask(nonce), http.StatusBadRequest, "invalid_grant")
	g.advance(time.Minute)
	wantRefused(t, ask(nonce), http.StatusBadRequest, "invalid_grant") // the last one is good still
	g.advance(time.Minute)
	wantRefused(t, ask(nonce), http.StatusBadRequest, "use_dpop_nonce")
	wantRefused(t, ask("made up"), http.StatusBadRequest, "use_dpop_nonce")
	fresh := ask(nil).header.Get("DPoP-Nonce")
	g.restart()
	g.advance(time.Minute)
	wantRefused(t, ask(fresh), http.StatusBadRequest, "use_dpop_nonce") // used proofs are forgotten, so none may come again
}

// A clock that is a little wrong keeps no portal out (FAPI 2.0: 10 s at least).
func TestProofsOfOtherClocks(t *testing.T) {
	g := newGate(t)
	p := g.portal
	p.redeem("x", nil) // for a nonce
	for _, off := range []time.Duration{-10 * time.Second, 10 * time.Second} {
		at := g.now().Add(off).Unix()
		proof := p.proof(p.key, p.alg, "/token", map[string]any{"iat": at, "nbf": at, "exp": at + 60})
		if a := g.postWith(http.Header{"Dpop": {proof}}, "/token", p.tokenForm(g.code(), nil)); a.status != http.StatusOK {
			t.Errorf("%s off: %s", off, a.body)
		}
	}
}

// A code that was bound when the request was pushed is redeemed by that key alone.
func TestPushedKeyBindsTheCode(t *testing.T) {
	g := newGate(t)
	p := g.portal
	thumbprint := func(key *ecdsa.PrivateKey) string {
		sum, err := (&jose.JSONWebKey{Key: key.Public()}).Thumbprint(crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(sum)
	}
	mine, others := thumbprint(p.key.(*ecdsa.PrivateKey)), thumbprint(newECKey(t))
	pass := func(changed map[string]string) answer {
		browser := g.browser()
		code := g.post(browser, g.load(browser, p.requestURI(changed)), "").callback(t).Get("code")
		return p.redeem(code, nil)
	}
	if a := pass(map[string]string{"dpop_jkt": mine}); a.status != http.StatusOK {
		t.Errorf("by its own key: %s", a.body)
	}
	wantRefused(t, pass(map[string]string{"dpop_jkt": others}), http.StatusBadRequest, "invalid_grant")
	wantRefused(t, p.push(map[string]string{"dpop_jkt": "short"}), http.StatusBadRequest, "invalid_request")
	proof := http.Header{"Dpop": {p.proof(p.key, p.alg, "/par", nil)}}
	wantRefused(t, g.postWith(proof, "/par", p.pushForm(map[string]string{"dpop_jkt": others})), http.StatusBadRequest, "invalid_dpop_proof")
	proof = http.Header{"Dpop": {p.proof(newECKey(t), p.alg, "/par", nil)}}
	a := g.postWith(proof, "/par", p.pushForm(nil))
	browser := g.browser()
	code := g.post(browser, g.load(browser, a.field("request_uri")), "").callback(t).Get("code")
	wantRefused(t, p.redeem(code, nil), http.StatusBadRequest, "invalid_grant")
}

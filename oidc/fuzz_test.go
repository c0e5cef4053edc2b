package oidc

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
)

// Whatever a form holds: what comes out is bounded, single and UTF-8, and no
// checked request lacks what the rest relies upon.
func FuzzPushedForm(f *testing.F) {
	f.Add("response_type=code&client_id=portal&scope=openid&redirect_uri=https%3A%2F%2Fportal.example%2Fcb&login_hint=7" +
		"&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256&state=s&nonce=n&ui_locales=ja+en")
	f.Add("a=1&a=2")
	f.Add("a=%zz;b")
	f.Add("login_hint=%ff%00&redirect_uri=https%253A%252F%252Fportal.example")
	client := &Client{ID: "portal", ACR: DefaultACR, RedirectURIs: []string{"https://portal.example/cb"}}
	f.Fuzz(func(t *testing.T, body string) {
		form, err := parseForm(body)
		if err != nil {
			return
		}
		if len(form) > maxParams {
			t.Errorf("%d parameters", len(form))
		}
		for name, value := range form {
			if value == "" || !utf8.ValidString(value) {
				t.Errorf("parameter %q is %q", name, value)
			}
		}
		req, _, err := readRequest(client, form, pushed, time.Unix(0, 0))
		if err != nil {
			return
		}
		name, err := namedPlainly(form["login_hint"])
		if err != nil {
			return
		}
		if req.Client != "portal" || req.RedirectURI != client.RedirectURIs[0] || len(req.Challenge) != 43 ||
			name.customer == "" || len(name.customer) > 255 || len(req.State) > maxState || len(req.Locales) > maxLocales {
			t.Errorf("request %+v", req)
		}
	})
}

// No bytes are an assertion of a client that didn't sign them.
func FuzzAssertion(f *testing.F) {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	js, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: signer}, nil)
	if err != nil {
		f.Fatal(err)
	}
	for _, payload := range []string{
		`{"iss":"portal","sub":"portal","aud":"https://gate.example","jti":"1","exp":60}`,
		`{"iss":"portal","aud":["https://gate.example"],"exp":1e300}`,
		`[]`, `{"iss":"a","iss":"b"}`, `{"exp":-1,"iat":null}`,
	} {
		jws, err := js.Sign([]byte(payload))
		if err != nil {
			f.Fatal(err)
		}
		compact, err := jws.CompactSerialize()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(compact)
	}
	f.Add("eyJhbGciOiJub25lIn0.e30.")
	f.Add("..")
	keys := []jose.JSONWebKey{{Key: stranger.Public()}}
	f.Fuzz(func(t *testing.T, raw string) {
		a, err := parseAssertion(raw)
		if err != nil {
			return
		}
		if err := a.verify("portal", keys, "https://gate.example", time.Unix(0, 0), time.Unix(0, 0)); err == nil {
			t.Errorf("verified: %q", raw)
		}
	})
}

// No header is a client's credentials unless it is the base64 of both, escaped:
// what comes out goes in again.
func FuzzBasic(f *testing.F) {
	f.Add("Basic cG9ydGFsOnNlY3JldA==")
	f.Add("basic cCUzQXE6JTJCJTI1")
	f.Add("Basic Og==")
	f.Add("Bearer x")
	f.Fuzz(func(t *testing.T, header string) {
		id, secret, err := parseBasic(header)
		if err != nil {
			if id != "" || secret != "" {
				t.Errorf("a refused header gives %q", id)
			}
			return
		}
		if !printable(id, maxClientID) || !utf8.ValidString(secret) || len(secret) > maxBasic {
			t.Errorf("id %q, secret of %d bytes", id, len(secret))
		}
		again := "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
		if id2, secret2, err := parseBasic(again); len(again) <= maxBasic && (err != nil || id2 != id || secret2 != secret) {
			t.Errorf("%q isn't %q again: %v", again, header, err)
		}
	})
}

// Whatever a portal's server publishes: what is taken is few, public and strong.
func FuzzKeySet(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	for _, k := range []jose.JSONWebKey{{Key: key.Public(), KeyID: "1"}, {Key: key}, {Key: []byte("shared")}} {
		set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{k}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(set)
	}
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQ","e":"AQAB"},null,{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseKeySet(data, keysFor(PrivateKeyJWT))
		if err != nil {
			return
		}
		if err := checkKeys(jose.JSONWebKeySet{Keys: keys}, keysFor(PrivateKeyJWT)); err != nil {
			t.Errorf("taken: %v", err)
		}
	})
}

// No bytes are a proof by a key that didn't sign them, nor of another endpoint than
// the signer has named.
func FuzzProof(f *testing.F) {
	signer := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) // the same in every process that fuzzes
	js, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: signer}, (&jose.SignerOptions{EmbedJWK: true}).WithType(proofType))
	if err != nil {
		f.Fatal(err)
	}
	for _, payload := range []string{
		`{"jti":"1","htm":"POST","htu":"https://gate.example/token","iat":0,"nonce":"n","ath":"a"}`,
		`{"jti":"","htm":["POST"],"iat":1e300}`, `[]`, `{"jti":"a","jti":"b"}`, `{"htu":"https://gate.example:443/token?x#y"}`,
	} {
		jws, err := js.Sign([]byte(payload))
		if err != nil {
			f.Fatal(err)
		}
		compact, err := jws.CompactSerialize()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(compact)
	}
	f.Add("eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6Im5vbmUifQ.e30.")
	f.Add("..")
	key := jose.JSONWebKey{Key: signer.Public()}
	sum, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		f.Fatal(err)
	}
	elsewhere := httptest.NewRequest(http.MethodPost, "https://gate.example/par", nil)
	f.Fuzz(func(t *testing.T, raw string) {
		p, err := parseProof(raw)
		if err != nil {
			return
		}
		if p.thumbprint != base64.RawURLEncoding.EncodeToString(sum) {
			t.Errorf("a proof by %s: %q", p.thumbprint, raw)
		}
		if err := p.verify(elsewhere, []string{"https://gate.example"}, "", time.Unix(0, 0)); err == nil {
			t.Errorf("taken at another endpoint: %q", raw)
		}
	})
}

// No bytes are a request object of a client that didn't sign them, and no parameter
// that comes out of one is more than text.
func FuzzRequestObject(f *testing.F) {
	signer := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) // the same in every process that fuzzes
	js, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: signer}, (&jose.SignerOptions{}).WithType(objectType))
	if err != nil {
		f.Fatal(err)
	}
	for _, payload := range []string{
		`{"iss":"portal","aud":"https://gate.example","jti":"1","nbf":0,"exp":60,"client_id":"portal","max_age":0,"claims":{"id_token":{}}}`,
		`{"iss":"portal","iss":"x"}`, `{"request":"x"}`, `{"claims":[[[[[[[[[[]]]]]]]]]]}`, `[]`, `{"state":null,"scope":["openid"]}`,
	} {
		jws, err := js.Sign([]byte(payload))
		if err != nil {
			f.Fatal(err)
		}
		compact, err := jws.CompactSerialize()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(compact)
	}
	f.Add("eyJ0eXAiOiJvYXV0aC1hdXRoei1yZXErand0IiwiYWxnIjoibm9uZSJ9.e30.")
	stranger, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		o, err := parseObject(raw)
		if err != nil {
			return
		}
		if err := o.verify("portal", []jose.JSONWebKey{{Key: stranger}}, "https://gate.example", time.Unix(0, 0), time.Unix(0, 0)); err == nil {
			t.Errorf("verified: %q", raw)
		}
		form, err := o.params()
		if err != nil {
			return
		}
		for name, value := range form {
			if value == "" || !utf8.ValidString(value) || name == "request" || name == "request_uri" || name == "sub" {
				t.Errorf("parameter %q is %q", name, value)
			}
		}
	})
}

// Whatever claims ask for: what is read is met, or it is refused.
func FuzzClaims(f *testing.F) {
	for _, seed := range []string{
		`{"id_token":{"acr":{"essential":true,"values":["urn:otpgate:acr:otp"]},"amr":null}}`,
		`{"id_token":{"acr":{"essential":true,"value":"x"}}}`, `{"id_token":{"sub":{"value":"7"}},"userinfo":{}}`, ` {}`, `null`, `{"a":1}{}`,
		`{"id_token":{"ACR":{"essential":true,"value":"x"}}}`,
	} {
		f.Add(seed)
	}
	client := &Client{ACR: DefaultACR}
	f.Fuzz(func(t *testing.T, raw string) {
		wanted, err := parseClaims(raw)
		if err != nil {
			return
		}
		acr, err := chooseContext(client, &wanted, nil)
		if err == nil && (acr != DefaultACR || wanted.IDToken.ACR.excludes(acr)) {
			t.Errorf("%q is answered by %q", raw, acr)
		}
	})
}

// Whatever authorization_details hold: what is kept reads the same again, and shows
// nothing but what its type has.
func FuzzDetails(f *testing.F) {
	types := []DetailType{{Type: "payment", Fields: []DetailField{
		{Name: "amount", Kind: DetailAmount, Required: true},
		{Name: "currency", Kind: DetailCurrency},
		{Name: "payee", Kind: DetailText, MaxLength: 40},
		{Name: "account", Kind: DetailAccount},
		{Name: "due", Kind: DetailDate},
	}}}
	for _, seed := range []string{
		`[{"type":"payment","amount":"1500000","currency":"JPY","payee":"山田","account":"12-3","due":"2026-11-30"}]`,
		`[{"type":"payment","amount":"1","amount":"2"}]`, `[{"type":"payment","amount":1}]`, `[null]`, `[{"type":"payment","amount":"1","payee":"\u202e"}]`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		kept, err := parseDetails(types, raw)
		if err != nil || kept == nil {
			return
		}
		again, err := parseDetails(types, string(kept))
		if err != nil || string(again) != string(kept) {
			t.Errorf("%q reads as %q: %v", kept, again, err)
		}
		details, err := decodeDetails(kept)
		if err != nil || len(details) == 0 || len(details) > maxDetails {
			t.Fatalf("%q: %d, %v", kept, len(details), err)
		}
		for _, d := range details {
			for _, value := range d.Values {
				if value == "" || len(value) > 4*maxDetailText || strings.ContainsFunc(value, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }) {
					t.Errorf("shown: %q", value)
				}
			}
		}
	})
}

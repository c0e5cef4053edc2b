package oidc_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
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

func ath(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// userInfo asks by scheme, with the proofs.
func (g *gate) userInfo(scheme, token string, proofs ...string) answer {
	g.t.Helper()
	r, err := http.NewRequest(http.MethodPost, g.URL+"/userinfo", nil)
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header.Set("Authorization", scheme+" "+token)
	for _, proof := range proofs {
		r.Header.Add("DPoP", proof)
	}
	return g.do(g.Client(), r)
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

func TestUserInfo(t *testing.T) {
	g := newGate(t)
	p := g.portal
	token := g.tokens().field("access_token")
	proof := func(changed map[string]any) string {
		claims := map[string]any{"ath": ath(token)}
		for name, value := range changed {
			claims[name] = value
		}
		return p.proof(p.key, p.alg, "/userinfo", claims)
	}
	a := g.userInfo("dpop", token, proof(nil))
	if a.status != http.StatusOK || a.field("sub") != customer || a.field("acr") == "" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("userinfo: %d %s", a.status, a.body)
	}
	replayed := proof(nil)
	g.userInfo("DPoP", token, replayed)
	for name, refused := range map[string]struct {
		answer
		code string
	}{
		"as a bearer token":     {g.userInfo("Bearer", token), "invalid_token"},
		"bearer with a proof":   {g.userInfo("Bearer", token, proof(nil)), "invalid_token"},
		"without proof":         {g.userInfo("DPoP", token), "invalid_token"},
		"another key":           {g.userInfo("DPoP", token, p.proof(newECKey(t), jose.ES256, "/userinfo", map[string]any{"ath": ath(token)})), "invalid_token"},
		"another token's proof": {g.userInfo("DPoP", token, proof(map[string]any{"ath": ath("x")})), "invalid_dpop_proof"},
		"without ath":           {g.userInfo("DPoP", token, proof(map[string]any{"ath": nil})), "invalid_dpop_proof"},
		"replayed proof":        {g.userInfo("DPoP", token, replayed), "invalid_dpop_proof"},
		"stale nonce":           {g.userInfo("DPoP", token, proof(map[string]any{"nonce": "old"})), "use_dpop_nonce"},
		"made up":               {g.userInfo("DPoP", "made-up", proof(map[string]any{"ath": ath("made-up")})), "invalid_token"},
		"the code":              {g.userInfo("DPoP", g.code(), proof(nil)), "invalid_token"},
	} {
		challenges := strings.Join(refused.header.Values("WWW-Authenticate"), "\n")
		if refused.status != http.StatusUnauthorized || !strings.Contains(challenges, `error="`+refused.code+`"`) || strings.Contains(string(refused.body), customer) {
			t.Errorf("%s: %d %s %s", name, refused.status, refused.body, challenges)
		}
	}
	if a := g.get(g.Client(), "/userinfo"); a.status != http.StatusUnauthorized || strings.Contains(a.header.Get("WWW-Authenticate"), "error") {
		t.Errorf("without a token: %d %v", a.status, a.header)
	}
	if a := g.get(g.Client(), "/userinfo?access_token="+token); a.status != http.StatusBadRequest {
		t.Errorf("token in the address: %d", a.status)
	}
	g.advance(6 * time.Minute)
	if a := g.userInfo("DPoP", token, proof(nil)); a.status != http.StatusUnauthorized {
		t.Errorf("expired: %d %s", a.status, a.body)
	}
}

func TestIntrospectionAndRevocation(t *testing.T) {
	g := newGate(t)
	token := g.tokens().field("access_token")
	ask := func(p *portal, path string) answer {
		return g.post(g.Client(), path, p.form(url.Values{"token": {token}}, nil))
	}
	if a := ask(g.portal, "/introspect"); a.field("active") != "true" || a.field("sub") != customer || a.field("token_type") != "DPoP" || !strings.Contains(a.field("cnf"), "jkt") {
		t.Errorf("one's own: %s", a.body)
	}
	if a := ask(g.other, "/introspect"); strings.TrimSpace(string(a.body)) != `{"active":false}` {
		t.Errorf("another's: %s", a.body)
	}
	if a := ask(g.other, "/revoke"); a.status != http.StatusOK {
		t.Errorf("revoking another's: %d", a.status)
	}
	if a := ask(g.portal, "/introspect"); a.field("active") != "true" {
		t.Error("another client has revoked it")
	}
	wantRefused(t, g.post(g.Client(), "/introspect", url.Values{"token": {token}, "client_id": {"portal"}}.Encode()), http.StatusUnauthorized, "invalid_client")
	for range 2 {
		if a := ask(g.portal, "/revoke"); a.status != http.StatusOK || len(a.body) > 0 {
			t.Errorf("revoking: %d %s", a.status, a.body)
		}
	}
	if a := ask(g.portal, "/introspect"); strings.TrimSpace(string(a.body)) != `{"active":false}` {
		t.Errorf("revoked: %s", a.body)
	}
}

// A code that comes a second time was stolen: what the first has given ends.
func TestReusedCodeRevokesItsToken(t *testing.T) {
	g := newGate(t)
	code := g.code()
	token := g.portal.redeem(code, nil).field("access_token")
	wantRefused(t, g.portal.redeem(code, nil), http.StatusBadRequest, "invalid_grant")
	a := g.post(g.Client(), "/introspect", g.portal.form(url.Values{"token": {token}}, nil))
	if a.field("active") != "false" {
		t.Errorf("its token lives: %s", a.body)
	}
}

func TestStatus(t *testing.T) {
	g := newGate(t)
	a := g.post(g.Client(), "/status", g.portal.form(url.Values{"login_hint": {customer}}, nil))
	if a.status != http.StatusOK || a.field("status") != "status of "+customer+"@retail" {
		t.Errorf("%d %s", a.status, a.body)
	}
	wantRefused(t, g.post(g.Client(), "/status", url.Values{"login_hint": {customer}, "client_id": {"portal"}}.Encode()), http.StatusUnauthorized, "invalid_client")
	wantRefused(t, g.post(g.Client(), "/status", g.portal.form(url.Values{}, nil)), http.StatusBadRequest, "invalid_request")
}

func TestEndSession(t *testing.T) {
	g := newGate(t)
	idToken := g.tokens().field("id_token")
	g.advance(time.Hour) // that it has expired is no matter
	browser := g.browser()
	page := g.load(browser, g.portal.requestURI(nil))
	end := func(values url.Values) answer { return g.get(browser, "/end_session?"+values.Encode()) }

	if a := end(nil); a.status != http.StatusOK || string(a.body) != "nobody is signed in" {
		t.Errorf("without a hint: %d %s", a.status, a.body)
	}
	if a := end(url.Values{"post_logout_redirect_uri": {"https://portal.example/bye"}}); a.header.Get("Location") != "" {
		t.Error("an open redirect")
	}
	for name, values := range map[string]url.Values{
		"unregistered":   {"id_token_hint": {idToken}, "post_logout_redirect_uri": {"https://portal.example/bye/"}},
		"another client": {"id_token_hint": {idToken}, "client_id": {"other"}},
		"not ours":       {"id_token_hint": {g.portal.assertion(nil)}},
		"altered":        {"id_token_hint": {idToken[:len(idToken)-6] + "AAAAAA"}},
		"unsigned":       {"id_token_hint": {withoutSignature(t, idToken)}},
		"too long":       {"id_token_hint": {strings.Repeat("x", 9000)}},
	} {
		if a := end(values); a.status < 400 || a.header.Get("Location") != "" {
			t.Errorf("%s: %d %s", name, a.status, a.header.Get("Location"))
		}
	}
	browser = g.browser()
	page = g.load(browser, g.portal.requestURI(nil))
	a := end(url.Values{"id_token_hint": {idToken}, "post_logout_redirect_uri": {"https://portal.example/bye"}, "state": {"a b"}})
	if a.status != http.StatusSeeOther || a.header.Get("Location") != "https://portal.example/bye?state=a+b" {
		t.Errorf("%d %s", a.status, a.header.Get("Location"))
	}
	if a := g.get(browser, page); a.status != http.StatusGone {
		t.Errorf("the open request goes on: %d %s", a.status, a.body)
	}
}

package oidc_test

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"otpgate/oidc"

	"github.com/go-jose/go-jose/v4"
)

func ath(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// userInfo asks by scheme, with the proofs.
func (g *gate) userInfo(scheme, token string, proofs ...string) answer {
	g.t.Helper()
	r := g.asking(http.MethodPost, token, proofs...)
	r.Header.Set("Authorization", scheme+" "+token)
	return g.do(g.Client(), r)
}

// asking is a request to UserInfo.
func (g *gate) asking(method, token string, proofs ...string) *http.Request {
	g.t.Helper()
	r, err := http.NewRequest(method, g.URL+"/userinfo", nil)
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header.Set("Authorization", "DPoP "+token)
	for _, proof := range proofs {
		r.Header.Add("DPoP", proof)
	}
	return r
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
		"endless":               {g.userInfo("DPoP", strings.Repeat("x", 8<<10), proof(nil)), "invalid_token"},
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
	for _, method := range []string{http.MethodHead, http.MethodPut} {
		if a := g.do(g.Client(), g.asking(method, token, proof(map[string]any{"htm": method}))); a.status != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", method, a.status)
		}
	}
	g.advance(time.Minute)
	p.redeem("x", nil) // for a nonce
	if a := g.userInfo("DPoP", token, proof(nil)); a.status != http.StatusUnauthorized {
		t.Errorf("expired: %d %s", a.status, a.body)
	}
}

// Edge 12: the library splits opaque tokens at colons.
func TestUserInfoOfANameWithColons(t *testing.T) {
	g := newGate(t)
	const name = "urn:bank:customer:7"
	browser := g.browser()
	page := g.load(browser, g.portal.requestURI(map[string]string{"login_hint": name}))
	token := g.portal.redeem(g.post(browser, page, "").callback(t).Get("code"), nil).field("access_token")
	proof := g.portal.proof(g.portal.key, g.portal.alg, "/userinfo", map[string]any{"ath": ath(token), "htm": http.MethodGet})
	if a := g.do(g.Client(), g.asking(http.MethodGet, token, proof)); a.status != http.StatusOK || a.field("sub") != name {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// Of all that show one proof at the same time, one is answered.
func TestProofIsUsedOnce(t *testing.T) {
	g := newGate(t)
	token := g.tokens().field("access_token")
	proof := g.portal.proof(g.portal.key, g.portal.alg, "/userinfo", map[string]any{"ath": ath(token)})
	var answered, refused atomic.Int32
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			switch a := g.userInfo("DPoP", token, proof); {
			case a.status == http.StatusOK:
				answered.Add(1)
			case a.status == http.StatusUnauthorized && a.field("error") == "invalid_dpop_proof":
				refused.Add(1)
			}
		})
	}
	all.Wait()
	if answered.Load() != 1 || refused.Load() != 15 {
		t.Errorf("%d answered, %d refused", answered.Load(), refused.Load())
	}
}

// Whoever has stolen a token, but not the key, can't use up the client's room.
func TestStrangersProofsTakeNoRoom(t *testing.T) {
	g := newGate(t)
	token, stranger := g.tokens().field("access_token"), newECKey(t)
	before := g.provider.Taken()
	for range 10 {
		a := g.userInfo("DPoP", token, g.portal.proof(stranger, jose.ES256, "/userinfo", map[string]any{"ath": ath(token)}))
		if a.status != http.StatusUnauthorized || a.field("error") != "invalid_token" {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if after := g.provider.Taken(); after > before {
		t.Errorf("%d bytes more are taken", after-before)
	}
}

// The body is a place for tokens that nothing binds, and only for those.
func TestTokenInTheBody(t *testing.T) {
	g := newGate(t, func(g *gate) { g.portal.change = withSecrets(oidc.SecretPost) })
	shown := with(bare, map[string]string{"client_secret": secret})
	browser := g.browser()
	code := g.post(browser, g.load(browser, g.portal.requestURI(shown)), "").callback(t).Get("code")
	token := g.post(g.Client(), "/token", g.portal.tokenForm(code, shown)).field("access_token")
	if a := g.post(g.Client(), "/userinfo", "access_token="+token); a.status != http.StatusOK || a.field("sub") != customer {
		t.Errorf("in the body: %d %s", a.status, a.body)
	}
	if a := g.userInfo("bearer", token); a.status != http.StatusOK {
		t.Errorf("in the header: %d %s", a.status, a.body)
	}
	twice := http.Header{"Authorization": {"Bearer " + token}}
	wantRefused(t, g.postWith(twice, "/userinfo", "access_token="+token), http.StatusBadRequest, "invalid_request")
}

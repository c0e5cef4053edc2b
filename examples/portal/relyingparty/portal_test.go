package relyingparty_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/text/language"

	"otpgate/examples/portal/relyingparty"
	"otpgate/internal/store/bolt"
	"otpgate/internal/store/memory"
	"otpgate/oidc"
	"otpgate/verifier"
)

const (
	customer = "00123456789"
	password = "secret"
	acr      = "urn:otpgate:acr:otp"
)

// bank is a portal behind a real server, with one browser.
type bank struct {
	*httptest.Server
	t       *testing.T
	browser *http.Client
	ahead   atomic.Int64 // ns that the portal's clock was moved ahead
}

// newBank starts a portal of the gateway at issuer. register is given the
// portal's keys and redirect URI before anything is asked of the gateway.
func newBank(t *testing.T, gateway *httptest.Server, register func(keys jose.JSONWebKeySet, redirectURI string)) *bank {
	t.Helper()
	keyFile, jwksFile, err := relyingparty.MakeKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	key, err := relyingparty.ReadKey(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	b := &bank{t: t}
	var handler http.Handler
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(b.Close)
	register(readKeySet(t, jwksFile), b.URL+"/callback")
	handler, err = relyingparty.New(relyingparty.Config{
		Issuer: gateway.URL, ClientID: "portal", Key: key, URL: b.URL, ACR: acr,
		Accounts: map[string]string{customer: password, "other": "other"},
		HTTP:     gateway.Client(), Now: func() time.Time { return time.Now().Add(time.Duration(b.ahead.Load())) },
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	b.browser = newBrowser(t, gateway)
	return b
}

func newBrowser(t *testing.T, gateway *httptest.Server) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{
		Transport: gateway.Client().Transport, Jar: jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// page is what a browser gets.
type page struct {
	status   int
	location string
	header   http.Header
	text     string
}

func (b *bank) do(r *http.Request) page {
	b.t.Helper()
	response, err := b.browser.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return page{response.StatusCode, response.Header.Get("Location"), response.Header, string(body)}
}

func (b *bank) get(address string) page {
	b.t.Helper()
	if strings.HasPrefix(address, "/") {
		address = b.URL + address
	}
	r, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Accept-Language", "en")
	return b.do(r)
}

func (b *bank) post(path string, form url.Values) page {
	b.t.Helper()
	r, err := http.NewRequest(http.MethodPost, b.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept-Language", "en")
	return b.do(r)
}

// login gives the first factor and returns where the browser is sent.
func (b *bank) login() string {
	b.t.Helper()
	p := b.post("/login", url.Values{"number": {customer}, "password": {password}})
	if p.status != http.StatusSeeOther {
		b.t.Fatalf("log-in: %d %s", p.status, p.text)
	}
	return p.location
}

// wantOut checks that a page says so, names a way back, and that nobody is in.
func (b *bank) wantOut(p page, status int, text string) {
	b.t.Helper()
	if p.status != status || !strings.Contains(p.text, text) || !strings.Contains(p.text, `href="/"`) {
		b.t.Errorf("got %d %q, want %d %q", p.status, p.text, status, text)
	}
	if in := b.get("/account"); in.status != http.StatusSeeOther || in.location != "/" {
		b.t.Errorf("logged in all the same: %d %s", in.status, in.location)
	}
}

func readKeySet(t *testing.T, file string) jose.JSONWebKeySet {
	t.Helper()
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(readFile(t, file)), &keys); err != nil {
		t.Fatal(err)
	}
	return keys
}

// The portal against the real gateway, all but its code page.
func TestCustomerLogsIn(t *testing.T) {
	gateway, complete := newGateway(t)
	b := newBank(t, gateway.Server, gateway.register)
	p := b.get("/")
	if p.status != http.StatusOK || !strings.Contains(p.text, "Log in") || !strings.Contains(p.text, customer) {
		t.Fatalf("log-in page: %d %s", p.status, p.text)
	}
	location := b.login()
	if strings.Contains(location, customer) {
		t.Errorf("the customer's name is in the browser's hands: %s", location)
	}
	p = b.get(complete(b, location))
	if p.status != http.StatusSeeOther || p.location != "/account" {
		t.Fatalf("callback: %d %s", p.status, p.text)
	}
	p = b.get("/account")
	for _, shown := range []string{"You are logged in", customer, acr, "otp, hwk", gateway.URL} {
		if !strings.Contains(p.text, shown) {
			t.Errorf("the page doesn't show %q:\n%s", shown, p.text)
		}
	}
	if p := b.post("/logout", nil); p.location != "/" {
		t.Errorf("logout: %d", p.status)
	}
	if p := b.get("/account"); p.status != http.StatusSeeOther {
		t.Errorf("still in after logout: %d", p.status)
	}
}

// gateway is the real provider behind a server.
type gateway struct {
	*httptest.Server
	t        *testing.T
	mux      *http.ServeMux
	provider *oidc.Provider
}

// newGateway returns the gateway, and what its code page does when the code is
// right: it returns the address of the callback.
func newGateway(t *testing.T) (*gateway, func(b *bank, location string) string) {
	g := &gateway{t: t, mux: http.NewServeMux()}
	g.Server = httptest.NewTLSServer(g.mux)
	t.Cleanup(g.Close)
	g.mux.HandleFunc("GET /otp/{id}", func(w http.ResponseWriter, r *http.Request) {
		accepted := verifier.Result{Outcome: verifier.Accepted, Carrier: verifier.Hardware, At: time.Now()}
		location, err := g.provider.Accept(w, r, r.PathValue("id"), accepted)
		if err != nil {
			t.Error(err)
		}
		http.Redirect(w, r, location, http.StatusSeeOther)
	})
	return g, func(b *bank, location string) string {
		return b.get(g.URL + b.get(location).location).location
	}
}

func (g *gateway) register(keys jose.JSONWebKeySet, redirectURI string) {
	records, err := bolt.Open(filepath.Join(g.t.TempDir(), "gate.db"), bolt.Options{})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { records.Close() })
	g.provider, err = oidc.New(g.t.Context(), oidc.Config{
		Issuer: g.URL,
		Clients: []oidc.Client{{
			ID: "portal", Realm: "retail", ACR: acr, RedirectURIs: []string{redirectURI},
			Profile: oidc.ProfileFAPI2, Auth: oidc.PrivateKeyJWT, Keys: oidc.KeySource{Set: keys},
			IDTokenAlg: jose.ES256, SenderConstraint: oidc.ByDPoP,
		}},
		Locales: []language.Tag{language.Japanese, language.English},
		Passing: memory.New(time.Now, oidc.ClientBytes), Records: records, Seal: noSeal{},
		NoteKey:  func(context.Context, string, string, string) error { return nil },
		CodePage: func(id, _ string) string { return "/otp/" + id }, NoRequest: func(w http.ResponseWriter, r *http.Request, _ int) { http.NotFound(w, r) },
		SignedOut: http.NotFound, Status: func(context.Context, string, string) (string, error) { return "none", nil },
		Now: time.Now, Logger: slog.New(slog.NewTextHandler(g.t.Output(), nil)), Metrics: prometheus.NewRegistry(),
	})
	if err != nil {
		g.t.Fatal(err)
	}
	g.provider.Mount(g.mux)
}

type noSeal struct{}

func (noSeal) Seal(_, _ string, plaintext []byte) []byte       { return plaintext }
func (noSeal) Open(_, _ string, sealed []byte) ([]byte, error) { return sealed, nil }

// liar is a gateway that answers with whatever claims a test wants.
type liar struct {
	*httptest.Server
	t   *testing.T
	key *ecdsa.PrivateKey

	mu     sync.Mutex // guards the rest
	pushed url.Values
	nonce  string         // wanted in proofs; "": none
	seen   []string       // nonces of the proofs at /par
	claims map[string]any // in place of the right ones; nil takes one away
	signer *ecdsa.PrivateKey
	down   bool
}

func newLiar(t *testing.T) *liar {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	l := &liar{t: t, key: key, signer: key}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", l.json(func() any {
		return map[string]any{
			"issuer": l.URL, "authorization_endpoint": l.URL + "/authorize", "token_endpoint": l.URL + "/token",
			"jwks_uri": l.URL + "/jwks.json", "pushed_authorization_request_endpoint": l.URL + "/par",
			"id_token_signing_alg_values_supported": []string{"ES256"},
		}
	}))
	mux.HandleFunc("GET /jwks.json", l.json(func() any {
		return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k", Algorithm: "ES256", Use: "sig"}}}
	}))
	mux.HandleFunc("POST /par", l.push)
	mux.HandleFunc("POST /token", l.json(func() any {
		return map[string]any{"access_token": "x", "token_type": "Bearer", "id_token": l.idToken()}
	}))
	l.Server = httptest.NewTLSServer(mux)
	t.Cleanup(l.Close)
	return l
}

func (l *liar) json(answer func() any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(answer())
	}
}

func (l *liar) push(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := r.ParseForm(); err != nil {
		l.t.Error(err)
	}
	l.pushed = r.PostForm
	nonce := nonceOf(l.t, r)
	l.seen = append(l.seen, nonce)
	if l.nonce != "" && nonce != l.nonce {
		w.Header().Set("DPoP-Nonce", strings.TrimSuffix(l.nonce, "!"))
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"error":"use_dpop_nonce"}`)
		return
	}
	if l.down {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusCreated)
	io.WriteString(w, `{"request_uri":"urn:ietf:params:oauth:request_uri:x","expires_in":90}`)
}

// nonceOf is the nonce in a request's proof.
func nonceOf(t *testing.T, r *http.Request) string {
	jws, err := jose.ParseSignedCompact(r.Header.Get("DPoP"), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Errorf("no DPoP proof: %v", err)
		return ""
	}
	var claims struct {
		Nonce string `json:"nonce"`
	}
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &claims); err != nil {
		t.Error(err)
	}
	return claims.Nonce
}

func (l *liar) idToken() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	claims := map[string]any{
		"iss": l.URL, "aud": "portal", "sub": customer, "nonce": l.pushed.Get("nonce"), "acr": acr, "amr": []string{"otp"},
		"iat": now.Unix(), "exp": now.Add(time.Minute).Unix(), "auth_time": now.Unix(),
	}
	maps.Copy(claims, l.claims)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	payload, err := json.Marshal(claims)
	if err != nil {
		l.t.Error(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: l.signer, KeyID: "k"}}, nil)
	if err != nil {
		l.t.Error(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		l.t.Error(err)
	}
	compact, err := jws.CompactSerialize()
	if err != nil {
		l.t.Error(err)
	}
	return compact
}

// answer is the callback's address with the right response, but for the changes.
func (l *liar) answer(changed map[string]string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	response := url.Values{"code": {"c"}, "state": {l.pushed.Get("state")}, "iss": {l.URL}}
	for name, value := range changed {
		response.Set(name, value)
		if value == "" {
			response.Del(name)
		}
	}
	return "/callback?" + response.Encode()
}

func newLiedTo(t *testing.T) (*liar, *bank) {
	l := newLiar(t)
	return l, newBank(t, l.Server, func(jose.JSONWebKeySet, string) {})
}

func TestIDTokenIsChecked(t *testing.T) {
	l, b := newLiedTo(t)
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, claims := range map[string]map[string]any{
		"another customer":        {"sub": "other"},
		"no customer":             {"sub": nil},
		"another nonce":           {"nonce": "x"},
		"no nonce":                {"nonce": nil},
		"another issuer":          {"iss": "https://evil.example"},
		"another audience":        {"aud": "other-portal"},
		"expired":                 {"exp": time.Now().Add(-time.Minute).Unix()},
		"another acr":             {"acr": "urn:otpgate:acr:card"},
		"no acr":                  {"acr": nil},
		"no one-time password":    {"amr": []string{"pwd"}},
		"shown before the log-in": {"auth_time": time.Now().Add(-time.Minute).Unix()},
		"shown in the future":     {"auth_time": time.Now().Add(time.Minute).Unix()},
		"no auth_time":            {"auth_time": nil},
	} {
		t.Run(name, func(t *testing.T) {
			b.t, l.claims = t, claims
			b.login()
			b.wantOut(b.get(l.answer(nil)), http.StatusForbidden, "could not be accepted")
		})
	}
	t.Run("signed by a stranger", func(t *testing.T) {
		b.t, l.claims, l.signer = t, nil, stranger
		b.login()
		b.wantOut(b.get(l.answer(nil)), http.StatusForbidden, "could not be accepted")
	})
	t.Run("right", func(t *testing.T) {
		b.t, l.claims, l.signer = t, nil, l.key
		b.login()
		if p := b.get(l.answer(nil)); p.location != "/account" {
			t.Errorf("refused: %d %s", p.status, p.text)
		}
	})
}

func TestAnswerIsBoundToTheBrowser(t *testing.T) {
	l, b := newLiedTo(t)
	b.wantOut(b.get("/callback?code=c&state=s"), http.StatusBadRequest, "Please log in again") // none under way

	b.login()
	b.wantOut(b.get(l.answer(map[string]string{"state": "x"})), http.StatusBadRequest, "Please log in again")
	b.wantOut(b.get(l.answer(nil)), http.StatusBadRequest, "Please log in again") // used up by the wrong one

	b.login()
	stale := l.answer(nil)
	b.login() // in a second tab
	b.wantOut(b.get(stale), http.StatusBadRequest, "Please log in again")

	b.login()
	mine := b.browser
	b.browser = newBrowser(t, l.Server)
	b.wantOut(b.get(l.answer(nil)), http.StatusBadRequest, "Please log in again")
	b.browser = mine

	b.ahead.Store(int64(13 * time.Minute))
	b.wantOut(b.get(l.answer(nil)), http.StatusBadRequest, "Please log in again")
}

func TestIssuerOfTheAnswer(t *testing.T) {
	l, b := newLiedTo(t)
	for _, iss := range []string{"", "https://evil.example"} {
		b.login()
		b.wantOut(b.get(l.answer(map[string]string{"iss": iss})), http.StatusForbidden, "could not be accepted")
	}
}

func TestGatewayRefuses(t *testing.T) {
	l, b := newLiedTo(t)
	for code, want := range map[string]struct {
		status int
		text   string
	}{
		"access_denied":                     {http.StatusForbidden, "was cancelled"},
		"unmet_authentication_requirements": {http.StatusForbidden, "not in service"},
		"temporarily_unavailable":           {http.StatusBadGateway, "in a few minutes"},
	} {
		b.login()
		b.wantOut(b.get(l.answer(map[string]string{"code": "", "error": code, "error_description": "<b>x</b>"})), want.status, want.text)
	}
	b.login()
	b.wantOut(b.get(l.answer(map[string]string{
		"code": "", "error": "access_denied", "error_description": "the customer's one-time password is locked",
	})), http.StatusForbidden, "ask your branch to unlock it")
	l.down = true
	b.wantOut(b.post("/login", url.Values{"number": {customer}, "password": {password}}), http.StatusBadGateway, "in a few minutes")
}

// The gateway's nonce is taken up, and a gateway that is never content isn't asked
// without end.
func TestNonceOfTheGateway(t *testing.T) {
	l, b := newLiedTo(t)
	l.nonce = "n1"
	b.login()
	first := l.pushed.Get("client_assertion")
	b.login()
	if !slices.Equal(l.seen, []string{"", "n1", "n1"}) || first == l.pushed.Get("client_assertion") {
		t.Errorf("nonces in the proofs: %q", l.seen)
	}
	l.nonce, l.seen = "n2!", nil // it hands out another than it takes
	b.wantOut(b.post("/login", url.Values{"number": {customer}, "password": {password}}), http.StatusBadGateway, "in a few minutes")
	if !slices.Equal(l.seen, []string{"n1", "n2"}) {
		t.Errorf("nonces in the proofs: %q", l.seen)
	}
}

// Without the first factor nothing is asked of the gateway.
func TestFirstFactor(t *testing.T) {
	l, b := newLiedTo(t)
	for name, form := range map[string]url.Values{
		"wrong password":     {"number": {customer}, "password": {"x"}},
		"no password":        {"number": {customer}},
		"another's password": {"number": {customer}, "password": {"other"}},
		"unknown number":     {"number": {"nobody"}, "password": {""}},
		"nothing":            {},
	} {
		p := b.post("/login", form)
		if p.status != http.StatusUnauthorized || !strings.Contains(p.text, "Check your contract number") {
			t.Errorf("%s: %d", name, p.status)
		}
	}
	if l.pushed != nil {
		t.Errorf("pushed: %v", l.pushed)
	}
	if b.login(); l.pushed.Get("login_hint") != customer {
		t.Errorf("pushed for %q", l.pushed.Get("login_hint"))
	}
}

func TestFormsOfOtherSitesAreRefused(t *testing.T) {
	l, b := newLiedTo(t)
	r, err := http.NewRequest(http.MethodPost, b.URL+"/login", strings.NewReader("number="+customer+"&password="+password))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "https://evil.example")
	if p := b.do(r); p.status != http.StatusForbidden || l.pushed != nil {
		t.Errorf("%d, pushed %v", p.status, l.pushed)
	}
}

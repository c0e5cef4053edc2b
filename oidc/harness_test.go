package oidc_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/text/language"

	"otpgate/internal/store"
	"otpgate/internal/store/bolt"
	"otpgate/internal/store/memory"
	"otpgate/oidc"
	"otpgate/verifier"
)

const (
	callback     = "https://portal.example/callback"
	callbackPath = "https://portal.example/a%2Fb?from=gate" // one whose bytes matter
	customer     = "00123456789"
	codeVerifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk" // RFC 7636 appendix B
	challenge    = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
)

// gate is a provider behind a real HTTPS server, with a stand-in for the code
// page that takes any POST for a right code.
type gate struct {
	*httptest.Server
	mtls     *httptest.Server // where clients show a certificate
	t        *testing.T
	provider *oidc.Provider
	metrics  *prometheus.Registry
	log      *syncBuffer
	database string
	records  store.Records
	passing  store.Passing
	portal   *portal // the client "portal"
	other    *portal // the client "other"

	addressRate int // 0: no limit

	handler atomic.Pointer[http.ServeMux]
	forMTLS atomic.Pointer[http.ServeMux]
	ahead   atomic.Int64 // ns that the clock was moved ahead
	stopped time.Time    // unless zero: where the clock stands still
	result  atomic.Pointer[verifier.Result]

	rotation  time.Duration
	algorithm jose.SignatureAlgorithm // of both clients
	notes     []string
}

// portal is a client with its key.
type portal struct {
	id   string
	key  crypto.Signer
	alg  jose.SignatureAlgorithm
	gate *gate

	nonce       string             // of the last answer, for DPoP proofs
	redirectURI string             // beside the usual two
	change      func(*oidc.Client) // of its registration
	jtis        atomic.Int64
}

// newGate starts a gate. setup may change its clients and its database.
func newGate(t *testing.T, setup ...func(*gate)) *gate {
	t.Helper()
	g := &gate{t: t, log: new(syncBuffer)}
	g.Server = httptest.NewTLSServer(http.HandlerFunc(g.serve))
	t.Cleanup(g.Close)
	g.mtls = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.forMTLS.Load().ServeHTTP(w, r) }))
	g.mtls.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	g.mtls.StartTLS()
	t.Cleanup(g.mtls.Close)
	g.passing = memory.New(g.now, 2*oidc.ClientBytes)
	g.result.Store(&verifier.Result{Outcome: verifier.Accepted, Carrier: verifier.Software, At: g.now()})
	g.portal = g.newPortal("portal", newECKey(t), jose.ES256)
	g.other = g.newPortal("other", newECKey(t), jose.ES256)
	g.database = filepath.Join(t.TempDir(), "gate.db")
	for _, change := range setup {
		change(g)
	}
	g.start()
	return g
}

// restart starts the gate anew, as a process does: what isn't on disk is gone.
func (g *gate) restart() {
	g.t.Helper()
	if err := g.records.Close(); err != nil {
		g.t.Fatal(err)
	}
	g.passing = memory.New(g.now, 2*oidc.ClientBytes)
	g.start()
}

func (g *gate) start() {
	g.t.Helper()
	var err error
	g.metrics = prometheus.NewRegistry()
	if g.provider, err = g.newProvider(g.portal.client(), g.other.client()); err != nil {
		g.t.Fatal(err)
	}
	mux := http.NewServeMux()
	g.provider.Mount(mux)
	mux.HandleFunc("GET /otp/{id}", g.showPage)
	mux.HandleFunc("POST /otp/{id}", g.postCode)
	g.handler.Store(mux)
	forMTLS := http.NewServeMux()
	g.provider.MountMTLS(forMTLS)
	g.forMTLS.Store(forMTLS)
}

func (g *gate) serve(w http.ResponseWriter, r *http.Request) { g.handler.Load().ServeHTTP(w, r) }

func (g *gate) newProvider(clients ...oidc.Client) (*oidc.Provider, error) {
	records, err := bolt.Open(g.database, bolt.Options{})
	if err != nil {
		return nil, err
	}
	g.records = records
	g.t.Cleanup(func() { records.Close() })
	mtlsURL := ""
	if g.mtls != nil {
		mtlsURL = g.mtls.URL
	}
	return oidc.New(g.t.Context(), oidc.Config{
		Issuer:  g.URL,
		MTLSURL: mtlsURL,
		Clients: clients,

		AddressRate: g.addressRate,

		Locales:     []language.Tag{language.Japanese, language.English},
		Passing:     g.passing,
		Records:     records,
		Seal:        openSeal{},
		KeyRotation: g.rotation, NoteKey: g.noteKey,
		CodePage: func(id, _ string) string { return "/otp/" + id },
		NoRequest: func(w http.ResponseWriter, _ *http.Request, status int) {
			if status == http.StatusNotFound {
				status = http.StatusGone // not to be taken for a route that isn't there
			}
			w.WriteHeader(status)
		},
		SignedOut: func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "nobody is signed in") },
		PostForm:  func(w http.ResponseWriter, _ *http.Request, form oidc.Form) { json.NewEncoder(w).Encode(form) },
		Status: func(_ context.Context, realm, customer string) (string, error) {
			return "status of " + customer + "@" + realm, nil
		},
		Now:     g.now,
		Logger:  slog.New(slog.NewTextHandler(g.log, nil)),
		Metrics: g.metrics,
	})
}

func (g *gate) now() time.Time {
	if !g.stopped.IsZero() {
		return g.stopped.Add(time.Duration(g.ahead.Load()))
	}
	return time.Now().Add(time.Duration(g.ahead.Load()))
}

func (g *gate) advance(d time.Duration) { g.ahead.Add(int64(d)) }
func (g *gate) pageError(err error) int {
	switch {
	case errors.Is(err, oidc.ErrNoRequest):
		return http.StatusGone
	case errors.Is(err, oidc.ErrOtherBrowser):
		return http.StatusForbidden
	}
	return http.StatusInternalServerError
}

func (g *gate) showPage(w http.ResponseWriter, r *http.Request) {
	request, err := g.provider.Pending(r, r.PathValue("id"))
	if err != nil {
		http.Error(w, err.Error(), g.pageError(err))
		return
	}
	json.NewEncoder(w).Encode(request)
}

// postCode ends the request: refused if the form says why, else accepted. A
// second press of the button says that it is one.
func (g *gate) postCode(w http.ResponseWriter, r *http.Request) {
	var location string
	var err error
	if why := r.PostFormValue("refuse"); why != "" {
		location, err = g.provider.Refuse(w, r, r.PathValue("id"), oidc.Refusal(why))
	} else if r.PostFormValue("second") != "" {
		location, err = g.provider.Answered(r, r.PathValue("id"))
	} else {
		location, err = g.provider.Accept(w, r, r.PathValue("id"), *g.result.Load())
	}
	if err != nil {
		http.Error(w, err.Error(), g.pageError(err))
		return
	}
	http.Redirect(w, r, location, http.StatusSeeOther)
}

// browser is a fresh browser: it keeps cookies and shows every redirect.
func (g *gate) browser() *http.Client {
	jar, err := cookiejar.New(nil)
	if err != nil {
		g.t.Fatal(err)
	}
	return &http.Client{
		Transport:     g.Client().Transport,
		Jar:           jar,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// answer is a response that was read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// field is a member of a JSON answer, as a string.
func (a answer) field(name string) string {
	var members map[string]any
	json.Unmarshal(a.body, &members)
	if members[name] == nil {
		return ""
	}
	return fmt.Sprint(members[name])
}

// callback are the parameters of the redirect back to the portal.
func (a answer) callback(t *testing.T) url.Values {
	t.Helper()
	location, err := url.Parse(a.header.Get("Location"))
	if err != nil || a.status != http.StatusSeeOther || location.Host != "portal.example" {
		t.Fatalf("not sent back to the portal: %d %s %s", a.status, location, a.body)
	}
	return location.Query()
}

func (g *gate) do(client *http.Client, r *http.Request) answer {
	g.t.Helper()
	response, err := client.Do(r)
	if err != nil {
		g.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, body}
}

func (g *gate) get(client *http.Client, path string) answer {
	g.t.Helper()
	r, err := http.NewRequest(http.MethodGet, g.URL+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	return g.do(client, r)
}

func (g *gate) post(client *http.Client, path, form string) answer {
	g.t.Helper()
	r, err := http.NewRequest(http.MethodPost, g.URL+path, strings.NewReader(form))
	if err != nil {
		g.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return g.do(client, r)
}

// postWith posts a form with headers.
func (g *gate) postWith(headers http.Header, path, form string) answer {
	g.t.Helper()
	r, err := http.NewRequest(http.MethodPost, g.URL+path, strings.NewReader(form))
	if err != nil {
		g.t.Fatal(err)
	}
	maps.Copy(r.Header, headers)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return g.do(g.Client(), r)
}

// load opens requestURI in a browser and returns the path of the code page.
func (g *gate) load(browser *http.Client, requestURI string) string {
	g.t.Helper()
	a := g.get(browser, authorizePath("portal", requestURI))
	if a.status != http.StatusSeeOther || !strings.HasPrefix(a.header.Get("Location"), "/otp/") {
		g.t.Fatalf("authorize: %d %s", a.status, a.header.Get("Location"))
	}
	return a.header.Get("Location")
}

func authorizePath(clientID, requestURI string) string {
	return "/authorize?" + url.Values{"client_id": {clientID}, "request_uri": {requestURI}}.Encode()
}

// code lets a customer pass and returns the authorization code.
func (g *gate) code() string {
	g.t.Helper()
	browser := g.browser()
	page := g.load(browser, g.portal.requestURI(nil))
	return g.post(browser, page, "").callback(g.t).Get("code")
}

func (g *gate) newPortal(id string, key crypto.Signer, alg jose.SignatureAlgorithm) *portal {
	return &portal{id: id, key: key, alg: alg, gate: g}
}

func (p *portal) client() oidc.Client {
	redirectURIs := []string{callback, callbackPath}
	if p.redirectURI != "" {
		redirectURIs = append(redirectURIs, p.redirectURI)
	}
	c := oidc.Client{
		ID: p.id, Realm: "retail", ACR: oidc.DefaultACR,
		Profile: oidc.ProfileFAPI2, Auth: oidc.PrivateKeyJWT, IDTokenAlg: cmp.Or(p.gate.algorithm, jose.ES256), SenderConstraint: oidc.ByDPoP,
		RedirectURIs:           redirectURIs,
		PostLogoutRedirectURIs: []string{"https://portal.example/bye"},
		Keys: oidc.KeySource{Set: jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
			{Key: p.key.Public(), KeyID: p.id + "-key", Algorithm: string(p.alg), Use: "sig"},
		}}},
	}
	if c.IDTokenAlg == jose.RS256 { // which FAPI 2.0 has not
		c.Profile = oidc.ProfileOIDC
	}
	if p.change != nil {
		p.change(&c)
	}
	return c
}

// assertion is a right client assertion, but for the changed claims; nil takes
// a claim away.
func (p *portal) assertion(changed map[string]any) string {
	return p.sign(jose.SigningKey{Algorithm: p.alg, Key: p.key}, p.id+"-key", changed)
}

func (p *portal) sign(key jose.SigningKey, kid string, changed map[string]any) string {
	p.gate.t.Helper()
	now := p.gate.now()
	claims := map[string]any{
		"iss": p.id, "sub": p.id, "aud": p.gate.URL,
		"jti": fmt.Sprintf("%s-%d", p.id, p.jtis.Add(1)),
		"iat": now.Unix(), "exp": now.Add(time.Minute).Unix(),
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
	signer, err := jose.NewSigner(key, (&jose.SignerOptions{}).WithHeader("kid", kid))
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

// form is form with the client's authentication and the changes; an empty
// value takes a parameter away.
func (p *portal) form(form url.Values, changed map[string]string) string {
	form.Set("client_id", p.id)
	form.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	form.Set("client_assertion", p.assertion(nil))
	for name, value := range changed {
		form.Set(name, value)
		if value == "" {
			form.Del(name)
		}
	}
	return form.Encode()
}

// pushForm is a right pushed request, but for the changes.
func (p *portal) pushForm(changed map[string]string) string {
	return p.form(url.Values{
		"response_type": {"code"}, "scope": {"openid"}, "redirect_uri": {callback},
		"login_hint": {customer}, "nonce": {"the-nonce"}, "state": {"the state"},
		"code_challenge": {challenge}, "code_challenge_method": {"S256"},
	}, changed)
}

func (p *portal) push(changed map[string]string) answer {
	p.gate.t.Helper()
	return p.gate.post(p.gate.Client(), "/par", p.pushForm(changed))
}

func (p *portal) requestURI(changed map[string]string) string {
	p.gate.t.Helper()
	a := p.push(changed)
	if a.status != http.StatusCreated {
		p.gate.t.Fatalf("push: %d %s", a.status, a.body)
	}
	return a.field("request_uri")
}

// tokenForm is a right token request for code, but for the changes.
func (p *portal) tokenForm(code string, changed map[string]string) string {
	return p.form(url.Values{
		"grant_type": {"authorization_code"}, "code": {code},
		"redirect_uri": {callback}, "code_verifier": {codeVerifier},
	}, changed)
}

func (p *portal) redeem(code string, changed map[string]string) answer {
	p.gate.t.Helper()
	for {
		a := p.gate.postWith(http.Header{"Dpop": {p.proof(p.key, p.alg, "/token", nil)}}, "/token", p.tokenForm(code, changed))
		p.nonce = a.header.Get("DPoP-Nonce")
		if a.field("error") != "use_dpop_nonce" {
			return a
		}
	}
}

// wantRefused checks an error answer, and that nothing was handed out with it.
func wantRefused(t *testing.T, a answer, status int, code string) {
	t.Helper()
	if a.status != status || a.field("error") != code {
		t.Errorf("got %d %s, want %d %s", a.status, a.body, status, code)
	}
	for _, issued := range []string{"request_uri", "access_token", "id_token", "code"} {
		if a.field(issued) != "" {
			t.Errorf("a refusal hands out %s", issued)
		}
	}
	if a.header.Get("Cache-Control") != "no-store" {
		t.Error("a refusal may be cached")
	}
}

func newECKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// openSeal stands in for the AEAD: it binds a value to its record and purpose,
// and hides nothing.
type openSeal struct{}

func (openSeal) Seal(recordKey, purpose string, plaintext []byte) []byte {
	sum := sha256.Sum256([]byte(recordKey + purpose))
	return append(sum[:], plaintext...)
}

func (openSeal) Open(recordKey, purpose string, sealed []byte) ([]byte, error) {
	sum := sha256.Sum256([]byte(recordKey + purpose))
	plaintext, ok := bytes.CutPrefix(sealed, sum[:])
	if !ok {
		return nil, errors.New("sealed for another record")
	}
	return plaintext, nil
}

// syncBuffer collects the log.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// Package relyingparty is a small banking portal that sends its customers to
// otpgate for the second factor: the demo's portal, and an example of all that
// a portal must do and check. It uses common client libraries only
// (coreos/go-oidc, golang.org/x/oauth2, go-jose) and knows the gateway by its
// HTTP interface alone.
//
// Routes, and the way of a customer through them:
//
//	GET  /           log-in page: contract number and password, the first factor
//	POST /login      right: the request is pushed (RFC 9126) for exactly this
//	                 customer, with a DPoP proof (RFC 9449, proof.go), and the
//	                 browser is sent to the gateway
//	GET  /callback   the answer is checked (callback.go lists how), then logged in
//	GET  /account    what the gateway has said: the claims of the ID token
//	POST /logout     back to the log-in page
//
// Not here: real accounts. Those of the demo are a map, and their passwords are
// shown on the log-in page.
package relyingparty

import (
	"crypto/ecdsa"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// Config is what a Portal is made of. All fields are required.
type Config struct {
	Issuer   string            // the gateway, as its discovery document names itself
	ClientID string            // this portal, as gateway.yaml names it
	Key      *ecdsa.PrivateKey // its public half stands in the client's jwks_file
	// URL is this portal's own origin. URL + "/callback" stands in the client's
	// redirect_uris. https, or http for loopback.
	URL string
	// ACR is what the gateway must say it has done, or nobody gets in.
	ACR string
	// Accounts are the throw-away customers: contract number → password.
	Accounts map[string]string

	HTTP   *http.Client // to the gateway; see NewHTTPClient
	Now    func() time.Time
	Logger *slog.Logger
}

// Portal is the portal as an http.Handler. Safe for concurrent use.
type Portal struct {
	Config
	keyID   string
	pages   *pages
	handler http.Handler

	pending  shelf[login]   // sent to the gateway, not back yet
	sessions shelf[session] // logged in

	mu      sync.Mutex     // guards gateway
	gateway *oidc.Provider // nil until its discovery document was read
}

// login is a customer who has passed the first factor and was sent to the
// gateway. It stays here; the browser holds a cookie that names it.
type login struct {
	customer string
	begun    time.Time
	state    string
	nonce    string
	verifier string // PKCE
}

// session is a customer who has passed both factors.
type session struct {
	customer string
	claims   map[string]any
}

// How long the two live: a little longer than the gateway's own page, and as
// long as a bank leaves a screen alone.
const (
	loginLife   = 12 * time.Minute
	sessionLife = 10 * time.Minute
)

// New returns the portal. It doesn't ask the gateway for anything yet: that may
// be started later.
func New(c Config) (*Portal, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || c.URL != u.Scheme+"://"+u.Host || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("portal URL %q must be an origin, such as http://localhost:8080", c.URL)
	}
	if c.Key == nil {
		return nil, errors.New("the portal needs a key: make one with -make-key")
	}
	p := &Portal{Config: c}
	if p.keyID, err = keyID(&c.Key.PublicKey); err != nil {
		return nil, err
	}
	if p.pages, err = loadPages(); err != nil {
		return nil, err
	}
	if p.HTTP, err = newProver(c.HTTP, c.Now); err != nil {
		return nil, err
	}
	p.pending = newShelf[login](loginLife, c.Now)
	p.sessions = newShelf[session](sessionLife, c.Now)

	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.showLogin)
	mux.HandleFunc("POST /login", p.postLogin)
	mux.HandleFunc("GET /callback", p.callback)
	mux.HandleFunc("GET /account", p.showAccount)
	mux.HandleFunc("POST /logout", p.logout)
	mux.HandleFunc("GET /style.css", p.pages.style)
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) { p.problem(w, r, notFound) })
	p.handler = http.NewCrossOriginProtection().Handler(mux)
	return p, nil
}

// ServeHTTP implements http.Handler.
func (p *Portal) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	// form-action names the gateway too: the answer to the log-in form is a
	// redirect to it, and browsers hold redirects of forms to this list.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action 'self' "+p.Issuer+
		"; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	p.handler.ServeHTTP(w, r)
}

// secure reports whether the portal is served over TLS.
func (p *Portal) secure() bool { return strings.HasPrefix(p.URL, "https://") }

func (p *Portal) showAccount(w http.ResponseWriter, r *http.Request) {
	s, ok := p.sessions.get(p.cookie(r, sessionCookie))
	if !ok {
		http.Redirect(w, r, "/", http.StatusSeeOther)
		return
	}
	p.render(w, r, http.StatusOK, "account", s)
}

func (p *Portal) logout(w http.ResponseWriter, r *http.Request) {
	p.sessions.take(p.cookie(r, sessionCookie))
	p.setCookie(w, sessionCookie, "", -time.Second)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

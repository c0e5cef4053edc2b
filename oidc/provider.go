package oidc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/text/language"
	"golang.org/x/time/rate"

	"otpgate/internal/store"
)

// Config is what a Provider is made of. All fields are required but where it says
// otherwise.
type Config struct {
	// Issuer is the gateway's own name: an https origin without a path.
	Issuer string
	// MTLSURL is the origin where MountMTLS is served, as clients see it. "": it
	// isn't, and no client may need it.
	MTLSURL string
	Clients []Client
	// AddressRate is how many requests a second one address may make at the back
	// channel, and apart from these at /authorize; 0: no limit.
	AddressRate int
	Locales     []language.Tag // the languages of the code page

	Passing store.Passing // with room for ClientBytes of each client
	Records store.Records // for the signing keys and the marks of assertions
	Seal    Sealer

	// KeyRotation is how long a key signs until the next one does; 0: until it is
	// rotated by hand.
	KeyRotation time.Duration
	NoteKey     NoteKey

	// CodePage is the path of the page that asks for the code of a client's
	// transaction id, on the issuer's origin, with a query if need be.
	CodePage func(id, client string) string
	// NoRequest answers a browser at /authorize with a page, since there is no
	// address that it could safely be sent to. status is 404 if its request is
	// unknown, expired or ended; 503 if that can't be said now, 429 if too much
	// comes from there: the same address may lead on in a moment.
	NoRequest func(w http.ResponseWriter, r *http.Request, status int)
	// SignedOut answers a browser at /end_session that need not go back to a
	// portal.
	SignedOut func(w http.ResponseWriter, r *http.Request)
	// PostForm answers a browser with a page whose form takes an answer to a portal.
	PostForm func(w http.ResponseWriter, r *http.Request, form Form)
	// Status is what a portal is told of a customer: the verifier's service state.
	Status func(ctx context.Context, realm, customer string) (string, error)

	Now     func() time.Time
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

// Provider is the OIDC door. Safe for concurrent use; its fields don't change
// once it is made.
type Provider struct {
	issuer    string
	clients   map[string]*Client
	accounts  map[string]*account          // by client id
	unproven  map[string]*unprovenRequests // by client id
	marks     map[string]*mark             // by client id
	fetched   map[keyOwner]*keySet         // those with a jwks_uri
	decoys    []jose.JSONWebKey            // what to verify by for want of a key
	limits    *limits
	mtls      string // MTLSURL
	discovery []byte

	passing   store.Passing
	loading   sync.Mutex // held while the loads of a request change: Passing has no way to change a value
	records   store.Records
	keys      *keeper
	storage   *storage
	nonces    nonces
	codePage  func(id, client string) string
	noRequest func(w http.ResponseWriter, r *http.Request, status int)
	signedOut func(w http.ResponseWriter, r *http.Request)
	postForm  func(w http.ResponseWriter, r *http.Request, form Form)

	customerStatus func(ctx context.Context, realm, customer string) (string, error)

	started  time.Time
	now      func() time.Time
	steady   steadyClock
	log      *slog.Logger
	refused  *rate.Limiter          // of log lines about refusals
	failed   *rate.Limiter          // of log lines about failures
	requests *prometheus.CounterVec // by endpoint, client, result
}

// New checks the configuration, makes the signing keys that are missing and
// returns the provider.
func New(ctx context.Context, c Config) (*Provider, error) {
	if err := checkIssuer(c.Issuer); err != nil {
		return nil, err
	}
	clients, err := checkClients(c.Clients)
	if err != nil {
		return nil, err
	}
	if err := checkMTLS(c.MTLSURL, clients); err != nil {
		return nil, err
	}
	keys := &keeper{
		issuer: c.Issuer, records: c.Records, seal: c.Seal, algorithms: algorithmsOf(clients), rotation: c.KeyRotation,
		now: c.Now, note: c.NoteKey, log: c.Logger,
	}
	if err := keys.tend(ctx, "", keys.due); err != nil {
		return nil, err
	}
	marks, err := loadMarks(ctx, c.Records, clients)
	if err != nil {
		return nil, err
	}
	decoys, err := newDecoys()
	if err != nil {
		return nil, err
	}
	fetched, err := newKeySets(clients, c.Now, c.Logger, c.Metrics)
	if err != nil {
		return nil, err
	}
	p := &Provider{
		issuer:    c.Issuer,
		mtls:      c.MTLSURL,
		fetched:   fetched,
		decoys:    decoys,
		limits:    newLimits(c.Now, c.AddressRate, clients),
		clients:   clients,
		accounts:  newAccounts(clients, c.Now()),
		unproven:  newUnprovenRequests(clients),
		marks:     marks,
		passing:   c.Passing,
		records:   c.Records,
		keys:      keys,
		storage:   &storage{keys: keys, now: c.Now},
		codePage:  c.CodePage,
		noRequest: c.NoRequest,
		signedOut: c.SignedOut,
		postForm:  c.PostForm,
		nonces:    newNonces(),

		customerStatus: c.Status,
		started:        c.Now(),
		now:            c.Now,
		log:            c.Logger,
		refused:        rate.NewLimiter(linesLogged, linesBurst),
		failed:         rate.NewLimiter(linesLogged, linesBurst),
		requests:       newRequestCounter(),
	}
	for id, client := range clients {
		if client.BareHint {
			c.Logger.WarnContext(ctx, "a client takes login_hint from the browser, so whoever holds the browser says whose one-time password is asked for; "+
				"push the request, sign it, or name the customer by an id_token_hint", "client", id)
		}
	}
	if err := c.Metrics.Register(p.requests); err != nil {
		return nil, fmt.Errorf("oidc: metrics: %w", err)
	}
	if p.discovery, err = p.discoveryDocument(c.Locales); err != nil {
		return nil, err
	}
	return p, nil
}

// Mount adds the provider's routes to mux, for everybody.
func (p *Provider) Mount(mux *http.ServeMux) {
	mux.HandleFunc("/.well-known/openid-configuration", p.api("discovery", p.serveDiscovery))
	mux.HandleFunc("/jwks.json", p.api("jwks", p.serveKeys))
	mux.HandleFunc("/authorize", p.serveAuthorize)
	mux.HandleFunc("GET "+responsePath+"{id}", p.serveResponse)
	mux.HandleFunc("/end_session", p.serveEndSession)
	p.MountMTLS(mux)
}

// MountMTLS adds the routes that clients talk to by themselves to the mux of a
// server that asks for their certificates (RFC 8705 §5). It must demand one and
// leave it to the provider whether it is good.
func (p *Provider) MountMTLS(mux *http.ServeMux) {
	mux.HandleFunc("/par", p.backChannel("par", p.servePushed))
	mux.HandleFunc("/token", p.backChannel("token", p.serveToken))
	mux.HandleFunc("/userinfo", p.backChannel("userinfo", p.serveUserInfo))
	mux.HandleFunc("/introspect", p.backChannel("introspect", p.serveIntrospect))
	mux.HandleFunc("/revoke", p.backChannel("revoke", p.serveRevoke))
	mux.HandleFunc("/status", p.backChannel("status", p.serveStatus))
}

// checkMTLS: a client that nobody would ask for its certificate could never
// authenticate.
func checkMTLS(origin string, clients map[string]*Client) error {
	if origin != "" {
		if err := checkOrigin(origin); err != nil {
			return fmt.Errorf("oidc: mutual TLS: %w", err)
		}
		return nil
	}
	for _, c := range clients {
		if c.Auth.mutualTLS() || c.SenderConstraint == ByMTLS {
			return fmt.Errorf("oidc: client %q: needs mutual TLS, which isn't served", c.ID)
		}
	}
	return nil
}

// checkIssuer holds the issuer to an origin: the routes are fixed, and clients
// compare the issuer byte for byte with what they have configured.
func checkIssuer(issuer string) error {
	if err := checkOrigin(issuer); err != nil {
		return fmt.Errorf("oidc: issuer: %w", err)
	}
	return nil
}

func checkOrigin(origin string) error {
	u, err := url.Parse(origin)
	if err != nil {
		return err
	}
	if u.Scheme != "https" || u.Host == "" || origin != "https://"+u.Host {
		return errors.New("must be https://host[:port], without a path or a slash at the end")
	}
	return nil
}

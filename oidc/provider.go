package oidc

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/zitadel/oidc/v3/pkg/op"
	"golang.org/x/text/language"
	"golang.org/x/time/rate"

	"otpgate/internal/store"
)

// Config is what a Provider is made of. All fields are required.
type Config struct {
	// Issuer is the gateway's own name: an https origin without a path.
	Issuer  string
	Clients []Client
	Locales []language.Tag // the languages of the code page

	Passing store.Passing // with room for ClientBytes of each client
	Records store.Records // for the signing keys and the marks of assertions
	Seal    Sealer

	// KeyRotation is how long a key signs until the next one does; 0: until it is
	// rotated by hand.
	KeyRotation time.Duration
	NoteKey     NoteKey

	// CodePage is the path of the page that asks for the code of transaction
	// id, on the issuer's origin.
	CodePage func(id string) string
	// NoRequest answers a browser at /authorize with a page, since there is no
	// address that it could safely be sent to. status is 404 if its request is
	// unknown, expired or ended; 503 if that can't be said now, and the same
	// address may lead on in a moment.
	NoRequest func(w http.ResponseWriter, r *http.Request, status int)

	Now     func() time.Time
	Logger  *slog.Logger
	Metrics prometheus.Registerer
}

// Provider is the OIDC door. Safe for concurrent use; its fields don't change
// once it is made.
type Provider struct {
	issuer    string
	clients   map[string]*Client
	accounts  map[string]*account // by client id
	marks     map[string]*mark    // by client id
	discovery []byte

	passing   store.Passing
	loading   sync.Mutex // held while the loads of a request change: Passing has no way to change a value
	records   store.Records
	keys      *keeper
	storage   *storage
	tokens    *op.Provider
	codePage  func(id string) string
	noRequest func(w http.ResponseWriter, r *http.Request, status int)

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
	p := &Provider{
		issuer:    c.Issuer,
		clients:   clients,
		accounts:  make(map[string]*account, len(clients)),
		marks:     marks,
		passing:   c.Passing,
		records:   c.Records,
		keys:      keys,
		storage:   &storage{keys: keys, now: c.Now},
		codePage:  c.CodePage,
		noRequest: c.NoRequest,
		now:       c.Now,
		log:       c.Logger,
		refused:   rate.NewLimiter(linesLogged, linesBurst),
		failed:    rate.NewLimiter(linesLogged, linesBurst),
		requests:  newRequestCounter(),
	}
	for id := range clients {
		p.accounts[id] = newAccount(c.Now())
	}
	if err := c.Metrics.Register(p.requests); err != nil {
		return nil, fmt.Errorf("oidc: metrics: %w", err)
	}
	if p.discovery, err = p.discoveryDocument(c.Locales); err != nil {
		return nil, err
	}
	if p.tokens, err = newTokenMaker(c.Issuer, p.storage); err != nil {
		return nil, err
	}
	return p, nil
}

// Mount adds the provider's routes to mux.
func (p *Provider) Mount(mux *http.ServeMux) {
	mux.HandleFunc("/.well-known/openid-configuration", p.api("discovery", p.serveDiscovery))
	mux.HandleFunc("/jwks.json", p.api("jwks", p.serveKeys))
	mux.HandleFunc("/par", p.api("par", p.servePushed))
	mux.HandleFunc("/token", p.api("token", p.serveToken))
	mux.HandleFunc("/authorize", p.serveAuthorize)
}

// newTokenMaker returns the library's provider, used for making tokens only.
// Its access tokens are encrypted under a key of this process: nothing accepts
// one after a restart, and none lives longer than accessTokenLife anyway.
func newTokenMaker(issuer string, s *storage) (*op.Provider, error) {
	var key [32]byte
	rand.Read(key[:])
	maker, err := op.NewProvider(&op.Config{}, s, op.StaticIssuer(issuer),
		op.WithCrypto(op.NewAES256GCMCrypto(key, "")), op.WithCORSOptions(nil))
	if err != nil {
		return nil, fmt.Errorf("oidc: token maker: %w", err)
	}
	return maker, nil
}

// checkIssuer holds the issuer to an origin: the routes are fixed, and clients
// compare the issuer byte for byte with what they have configured.
func checkIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	if err != nil {
		return fmt.Errorf("oidc: issuer: %w", err)
	}
	if u.Scheme != "https" || u.Host == "" || issuer != "https://"+u.Host {
		return errors.New("oidc: issuer must be https://host[:port], without a path or a slash at the end")
	}
	return nil
}

package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
)

// How key sets are fetched. The address is the operator's own choice, and nothing
// that a stranger sends changes it, so it may be an internal one; redirects
// aren't followed, since they would be the portal's server's choice.
const (
	// keySetLife is how long a set is taken for what the portal publishes: how
	// long a key that it has taken out may still be used.
	keySetLife = 10 * time.Minute
	// keySetPause is the least time between two fetches, whatever kids strangers
	// make up. A portal that publishes a key and signs with it at once waits so
	// long at the most.
	keySetPause = 30 * time.Second
	// keySetGrace is how long the last set is good while the portal's server is
	// down: a night and a day to mend it.
	keySetGrace = 24 * time.Hour
	// fetchTimeout bounds a fetch. A request that needs it waits for it.
	fetchTimeout = 5 * time.Second
	dialTimeout  = 2 * time.Second
	// maxKeySet is a hundred keys with their certificates, in bytes.
	maxKeySet = 256 << 10
	// maxFetchHeader is several times what servers send, in bytes.
	maxFetchHeader = 16 << 10
)

// errNoKeys means that a client's keys can't be had.
var errNoKeys = errors.New("the client's keys can't be fetched from its jwks_uri")

// clientKeys are those keys of client that match. Keys that are fetched are
// fetched anew when they are old, or when none matches.
func (p *Provider) clientKeys(ctx context.Context, client *Client, match func(*jose.JSONWebKey) bool) ([]jose.JSONWebKey, error) {
	return p.keysOf(ctx, &client.Keys, keyOwner{client: client.ID}, match)
}

// keysOf are those keys of owner that match; source is where they are.
func (p *Provider) keysOf(ctx context.Context, source *KeySource, owner keyOwner, match func(*jose.JSONWebKey) bool) ([]jose.JSONWebKey, error) {
	keys := source.Set.Keys
	if set := p.fetched[owner]; set != nil && source.URI != "" {
		var err error
		if keys, err = set.get(ctx, match); err != nil {
			return nil, err
		}
	}
	return matching(keys, match), nil
}

// matching are those of keys that match.
func matching(keys []jose.JSONWebKey, match func(*jose.JSONWebKey) bool) []jose.JSONWebKey {
	var found []jose.JSONWebKey
	for i := range keys {
		if match(&keys[i]) {
			found = append(found, keys[i])
		}
	}
	return found
}

// algorithmOf is what key verifies, here; "" if it is no key for us.
func algorithmOf(key any) jose.SignatureAlgorithm {
	switch key.(type) {
	case *ecdsa.PublicKey:
		return jose.ES256
	case *rsa.PublicKey:
		return jose.PS256
	case ed25519.PublicKey:
		return jose.EdDSA
	}
	return ""
}

// keyOwner is whose keys a set holds: a client's or, with an issuer, those that
// sign the client's hints.
type keyOwner struct{ client, issuer string }

// keySet is a client's keys as its server publishes them. Safe for concurrent use.
type keySet struct {
	owner   keyOwner
	usable  keyCheck
	uri     string
	http    *http.Client
	now     func() time.Time
	log     *slog.Logger
	metrics *keySetMetrics

	mu      sync.Mutex // guards the rest
	keys    []jose.JSONWebKey
	fetched time.Time     // when keys came
	tried   time.Time     // when the last fetch began
	under   chan struct{} // closed when the fetch that is under way is over; nil if there is none
}

// keySetMetrics tell of all fetched key sets, by owner.
type keySetMetrics struct {
	fetches *prometheus.CounterVec // by client, issuer, result
	fetched *prometheus.GaugeVec   // by client, issuer
}

func newKeySetMetrics(reg prometheus.Registerer) (*keySetMetrics, error) {
	m := &keySetMetrics{
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "otpgate_oidc_key_fetches_total",
			Help: "Fetches of clients' key sets (jwks_uri), by result: ok or failed. issuer is that of hints, if they are its keys.",
		}, []string{"client", "issuer", "result"}),
		fetched: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "otpgate_oidc_keys_fetched_timestamp_seconds",
			Help: "When a client's key set was last fetched; after a day it isn't used any more.",
		}, []string{"client", "issuer"}),
	}
	for _, c := range []prometheus.Collector{m.fetches, m.fetched} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("oidc: metrics: %w", err)
		}
	}
	return m, nil
}

// newKeySets makes a set, yet to be fetched, of each client that has an address
// for it.
func newKeySets(clients map[string]*Client, now func() time.Time, log *slog.Logger, reg prometheus.Registerer) (map[keyOwner]*keySet, error) {
	metrics, err := newKeySetMetrics(reg)
	if err != nil {
		return nil, err
	}
	sets := make(map[keyOwner]*keySet)
	add := func(owner keyOwner, source *KeySource, usable keyCheck) {
		if source.URI != "" {
			sets[owner] = &keySet{
				owner: owner, usable: usable, uri: source.URI, http: fetchClient(source.CAs), now: now, log: log, metrics: metrics,
			}
		}
	}
	for id, c := range clients {
		add(keyOwner{client: id}, &c.Keys, keysFor(c.Auth))
		for i := range c.HintIssuers {
			issuer := &c.HintIssuers[i]
			add(keyOwner{id, issuer.Issuer}, &issuer.Keys, checkHintKey)
		}
	}
	return sets, nil
}

// fetchClient fetches from a server that cas vouch for, or without any those that
// the machine trusts.
func fetchClient(cas []*x509.Certificate) *http.Client {
	var roots *x509.CertPool
	if len(cas) > 0 {
		roots = x509.NewCertPool()
		for _, ca := range cas {
			roots.AddCert(ca)
		}
	}
	return &http.Client{
		Timeout:       fetchTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			DisableKeepAlives:      true, // the next fetch is minutes away
			DisableCompression:     true,
			MaxResponseHeaderBytes: maxFetchHeader,
		},
	}
}

// get returns the keys: new ones if those that are there are old, or if none of
// them matches. Of callers at one time one fetches, and the others wait for it.
func (s *keySet) get(ctx context.Context, match func(*jose.JSONWebKey) bool) ([]jose.JSONWebKey, error) {
	s.mu.Lock()
	now := s.now()
	good := now.Sub(s.fetched) < keySetLife && slices.ContainsFunc(s.keys, func(key jose.JSONWebKey) bool { return match(&key) })
	if !good && s.under == nil && now.Sub(s.tried) >= keySetPause {
		s.tried, s.under = now, make(chan struct{})
		go s.refresh(context.WithoutCancel(ctx)) // the others need it too
	}
	under := s.under
	s.mu.Unlock()
	if !good && under != nil {
		select {
		case <-under:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now().Sub(s.fetched) >= keySetGrace {
		return nil, errNoKeys
	}
	return s.keys, nil
}

// refresh fetches the keys. If that fails the old ones stay.
func (s *keySet) refresh(ctx context.Context) {
	keys, err := s.fetch(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.under)
	s.under = nil
	if err != nil {
		s.metrics.fetches.WithLabelValues(s.owner.client, s.owner.issuer, "failed").Inc()
		s.log.WarnContext(ctx, "a client's keys can't be fetched; the last ones, if there are any, are used for up to a day",
			"client", s.owner.client, "jwks_uri", s.uri, "fetched", s.fetched, "err", err)
		return
	}
	s.keys, s.fetched = keys, s.now()
	s.metrics.fetches.WithLabelValues(s.owner.client, s.owner.issuer, "ok").Inc()
	s.metrics.fetched.WithLabelValues(s.owner.client, s.owner.issuer).Set(float64(s.fetched.Unix()))
}

// fetch fetches the keys once.
func (s *keySet) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.uri, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json") // RFC 7517 §8.5
	response, err := s.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answers %d; redirects aren't followed", response.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxKeySet+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxKeySet {
		return nil, fmt.Errorf("the set is larger than %d bytes", maxKeySet)
	}
	return parseKeySet(data, s.usable)
}

// parseKeySet returns the keys of a JWK Set that can be used. Others are passed
// over (RFC 7517 §5), but private ones spoil the set: they have leaked.
func parseKeySet(data []byte, usable keyCheck) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("no JWK Set (RFC 7517): %w", err)
	}
	var found []jose.JSONWebKey
	for i, raw := range set.Keys {
		var key jose.JSONWebKey
		if json.Unmarshal(raw, &key) != nil || key.Key == nil {
			continue
		}
		if !key.IsPublic() {
			return nil, fmt.Errorf("keys[%d] is a private or secret key: it must be replaced", i)
		}
		if usable(&key) == nil {
			found = append(found, key)
		}
	}
	if len(found) == 0 || len(found) > maxClientKeys {
		return nil, fmt.Errorf("the set has %d keys that can be used, and 1 to %d are needed", len(found), maxClientKeys)
	}
	return found, nil
}

package oidc

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// publishedLife is how long the key set may be kept without asking again. A key that
// was withdrawn is believed for as long.
const publishedLife = 15 * time.Minute

// newOwnKeys returns the ring with its JWK Set (RFC 7517 §5).
func newOwnKeys(ring *keyring) (*ownKeys, error) {
	set := jose.JSONWebKeySet{Keys: make([]jose.JSONWebKey, 0, len(ring.keys))}
	for _, k := range ring.keys {
		set.Keys = append(set.Keys, k.public())
	}
	published, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("oidc: key set: %w", err)
	}
	sum := sha256.Sum256(published)
	return &ownKeys{ring, published, `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`}, nil
}

// serveKeys is the JWK Set.
func (p *Provider) serveKeys(w http.ResponseWriter, r *http.Request) (*Client, error) {
	if err := readOnly(w, r); err != nil {
		return nil, err
	}
	set := p.keys.current.Load()
	h := w.Header()
	h.Set("Content-Type", "application/jwk-set+json") // RFC 7517 §8.5.2
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(publishedLife.Seconds())))
	h.Set("ETag", set.etag)
	if r.Header.Get("If-None-Match") == set.etag {
		w.WriteHeader(http.StatusNotModified)
		return nil, nil
	}
	w.Write(set.published) //nolint:errcheck // the client has gone; there is no one to tell
	return nil, nil
}

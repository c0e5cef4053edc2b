package oidc

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"otpgate/internal/store"
	"strconv"
	"strings"
	"time"
)

// How long things live. A request outlives its request_uri by a transaction,
// so that the last load may still be answered.
const (
	requestURILife  = 90 * time.Second // FAPI 2.0 Security Profile §5.3.2.2: under 600 s
	transactionLife = 10 * time.Minute // time to find the token and type its code
	requestLife     = requestURILife + transactionLife
)

// maxLoads is how many transactions one request may open: reloads and tabs of
// a person, not a way to fill the memory with one pushed request.
const maxLoads = 16

// request is what a portal has pushed, checked.
type request struct {
	Client      string    `json:"client"`
	RedirectURI string    `json:"redirect_uri"`
	Subject     string    `json:"subject"` // login_hint: the customer
	Challenge   string    `json:"challenge"`
	State       string    `json:"state,omitempty"`
	Nonce       string    `json:"nonce,omitempty"`
	Locales     []string  `json:"locales,omitempty"`
	PromptNone  bool      `json:"prompt_none,omitempty"`
	LoadBefore  time.Time `json:"load_before"` // when the request_uri expires
}

// requestKey is where the request is kept until it ends. Taking it away is what
// ends it. References that browsers hold are kept as digests only: a dump of
// the memory opens nothing.
func requestKey(ref string) string { return store.Key("oidc.request", ref) }

// saveRequest keeps req and returns the secret part of its request_uri.
func (p *Provider) saveRequest(ctx context.Context, req request) (secret string, err error) {
	value, err := json.Marshal(req)
	if err != nil {
		return "", fmt.Errorf("oidc: encode request: %w", err)
	}
	secret = newSecret()
	if err := p.passing.Put(ctx, requestKey(digest(secret)), value, requestLife); err != nil {
		return "", fmt.Errorf("oidc: keep request: %w", err)
	}
	return secret, nil
}

// loadRequest returns the request ref if it hasn't ended; else nil.
func (p *Provider) loadRequest(ctx context.Context, ref string) (*request, error) {
	value, err := p.passing.Get(ctx, requestKey(ref))
	return decode[request](value, err)
}

// endRequest ends the request ref. Of all callers one gets it, the others nil.
func (p *Provider) endRequest(ctx context.Context, ref string) (*request, error) {
	value, err := p.passing.Take(ctx, requestKey(ref))
	return decode[request](value, err)
}

// countLoad claims one of the places for transactions of the request ref; false
// if none is left.
func (p *Provider) countLoad(ctx context.Context, ref string) (bool, error) {
	for i := range maxLoads {
		key := store.Key("oidc.load", ref, strconv.Itoa(i))
		free, err := p.passing.Add(ctx, key, []byte{1}, requestLife)
		if err != nil {
			return false, fmt.Errorf("oidc: count load: %w", err)
		}
		if free {
			return true, nil
		}
	}
	return false, nil
}

// answer is the address that takes an authorization response back to the
// portal: the redirect URI as it was registered, byte for byte, with the
// response, the portal's state and our name (RFC 9207 §2) added.
func (p *Provider) answer(req *request, response url.Values) string {
	if req.State != "" {
		response.Set("state", req.State)
	}
	response.Set("iss", p.issuer)
	separator := "?"
	if strings.Contains(req.RedirectURI, "?") {
		separator = "&"
	}
	return req.RedirectURI + separator + response.Encode()
}

// failure is an authorization error response (RFC 6749 §4.1.2.1).
func failure(code, description string) url.Values {
	return url.Values{"error": {code}, "error_description": {description}}
}

// decode reads a passing value; nil if there is none.
func decode[T any](value []byte, err error) (*T, error) {
	if err != nil {
		return nil, fmt.Errorf("oidc: passing store: %w", err)
	}
	if value == nil {
		return nil, nil
	}
	v := new(T)
	if err := json.Unmarshal(value, v); err != nil {
		return nil, fmt.Errorf("oidc: decode passing value: %w", err)
	}
	return v, nil
}

// newSecret is 256 bits that nobody can guess, in 43 characters of URL.
func newSecret() string {
	var secret [32]byte
	rand.Read(secret[:])
	return base64.RawURLEncoding.EncodeToString(secret[:])
}

// digest names a secret without telling it.
func digest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

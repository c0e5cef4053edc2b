package oidc

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"otpgate/internal/store"
)

// How long things live. A request outlives its request_uri by a transaction,
// so that the last load may still be answered.
const (
	requestURILife  = 90 * time.Second // FAPI 2.0 Security Profile §5.3.2.2: under 600 s
	transactionLife = 10 * time.Minute // time to find the token and type its code
	requestLife     = requestURILife + transactionLife
)

// request is what a portal has pushed, checked.
type request struct {
	Client      string      `json:"client"`
	RedirectURI string      `json:"redirect_uri"`
	Subject     string      `json:"subject"` // login_hint: the customer
	Challenge   string      `json:"challenge"`
	State       string      `json:"state,omitempty"`
	Nonce       string      `json:"nonce,omitempty"`
	Locales     []string    `json:"locales,omitempty"`
	PromptNone  bool        `json:"prompt_none,omitempty"`
	Key         string      `json:"jkt,omitempty"` // of the DPoP proofs at /token (RFC 9449 §10)
	LoadBefore  time.Time   `json:"load_before"`   // when the request_uri expires
	Reserved    reservation `json:"reserved"`      // on the client's account
}

// requestKey is where the request is kept until it ends. Taking it away is what
// ends it. References that browsers hold are kept as digests only: a dump of
// the memory opens nothing.
func requestKey(ref string) string { return store.Key("oidc.request", ref) }

// saveRequest keeps req and returns the secret part of its request_uri. Room for
// all that it may come to need is reserved first, so that nobody who has typed a
// code is turned away for want of it.
func (p *Provider) saveRequest(ctx context.Context, req request) (secret string, err error) {
	account := p.accounts[req.Client]
	var ok bool
	if req.Reserved, ok = account.reserve(p.now(), beginning, p.size(&req), requestLife+codeLife); !ok {
		return "", errAccountFull()
	}
	value, err := encode(req)
	if err != nil {
		return "", err
	}
	secret = newSecret()
	if err := p.passing.Put(ctx, requestKey(digest(secret)), value, requestLife); err != nil {
		account.release(req.Reserved)
		return "", fmt.Errorf("oidc: keep request: %w", err)
	}
	return secret, nil
}

// loadRequest returns the request ref if it hasn't ended; else nil.
func (p *Provider) loadRequest(ctx context.Context, ref string) (*request, error) {
	value, err := p.passing.Get(ctx, requestKey(ref))
	return decode[request](value, err)
}

// endRequest ends the request ref, with all its loads. Of all callers one gets
// it, the others nil; that one gives back its reservation, or passes it on.
func (p *Provider) endRequest(ctx context.Context, ref string) (*request, error) {
	p.loading.Lock() // a load that comes in between would outlive its request
	defer p.loading.Unlock()
	value, err := p.passing.Take(ctx, requestKey(ref))
	req, err := decode[request](value, err)
	if req == nil {
		return nil, err
	}
	if _, err := p.passing.Take(ctx, loadsKey(ref)); err != nil {
		return nil, fmt.Errorf("oidc: end loads: %w", err)
	}
	return req, nil
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

// encode is json.Marshal without its escapes for HTML, which make six bytes of
// one.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("oidc: encode passing value: %w", err)
	}
	return b.Bytes(), nil
}

// newSecret is 256 bits that nobody can guess, in 43 characters of URL.
func newSecret() string {
	var secret [32]byte
	rand.Read(secret[:])
	return base64.RawURLEncoding.EncodeToString(secret[:])
}

// digestLength is that of what digest returns.
const digestLength = 43

// digest names a secret without telling it.
func digest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

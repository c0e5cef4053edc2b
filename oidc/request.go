package oidc

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
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

// request is what a portal asks for, checked.
type request struct {
	replyTo
	Client    string          `json:"client"`
	Customer  string          `json:"customer"`          // whose code is asked for
	Subject   string          `json:"subject,omitempty"` // sub of the ID token; "": the customer
	IDToken   bool            `json:"id_token,omitempty"`
	Challenge string          `json:"challenge,omitempty"` // unless it is answered by an ID token at once
	Nonce     string          `json:"nonce,omitempty"`
	ACR       string          `json:"acr"`               // what a right code will have shown
	Details   json.RawMessage `json:"details,omitempty"` // authorization_details
	Silent    bool            `json:"silent,omitempty"`  // prompt=none

	Key        string      `json:"jkt,omitempty"` // of the DPoP proofs at /token (RFC 9449 §10)
	LoadBefore time.Time   `json:"load_before"`   // when the request_uri expires
	Reserved   reservation `json:"reserved"`      // on the client's account
}

// subject is the customer's name in the ID token.
func (req *request) subject() string { return cmp.Or(req.Subject, req.Customer) }

// requestKey is where the request is kept until it ends. Taking it away is what
// ends it. References that browsers hold are kept as digests only: a dump of
// the memory opens nothing.
func requestKey(ref string) string { return store.Key("oidc.request", ref) }

// saveRequest keeps req under ref. Room for all that it may come to need is reserved
// first, so that nobody who has typed a code is turned away for want of it.
func (p *Provider) saveRequest(ctx context.Context, ref string, req *request, why purpose) error {
	account := p.accounts[req.Client]
	var ok bool
	if req.Reserved, ok = account.reserve(p.now(), why, p.size(req), requestLife+codeLife); !ok {
		return errAccountFull()
	}
	value, err := encode(req)
	if err == nil {
		err = p.passing.Put(ctx, requestKey(ref), value, requestLife)
	}
	if err != nil {
		account.release(req.Reserved)
		return fmt.Errorf("oidc: keep request: %w", err)
	}
	return nil
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
	p.unproven[req.Client].remove(req.Customer, ref)
	if _, err := p.passing.Take(ctx, loadsKey(ref)); err != nil {
		return nil, fmt.Errorf("oidc: end loads: %w", err)
	}
	return req, nil
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

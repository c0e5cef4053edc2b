package oidc

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"otpgate/internal/store"
	"otpgate/verifier"
	"time"
)

var (
	// ErrNoRequest means that the id is unknown, has expired or has been answered.
	ErrNoRequest = errors.New("oidc: no such request")
	// ErrOtherBrowser means that the request is open, but in another browser,
	// or that this one keeps no cookies.
	ErrOtherBrowser = errors.New("oidc: the request belongs to another browser")
)

// Request is an open transaction, as the code page needs to know it.
type Request struct {
	ID      string   // public: it stands in the page's URL
	Realm   string   // the realm's id
	User    string   // the customer, named by the portal
	Client  string   // the relying party's id
	Locales []string // ui_locales, best first; may be empty
	Expires time.Time
	Portal  string // the origin that the answer goes to
}

// Refusal is why a request ends without a code.
type Refusal string

// The refusals, each with the error that the portal gets for it.
const (
	Cancelled Refusal = "cancelled" // access_denied
	LockedOut Refusal = "locked"    // access_denied
	NoToken   Refusal = "no_token"  // unmet_authentication_requirements
)

// transaction is one load of a request by one browser.
type transaction struct {
	Request string    `json:"request"` // the request's reference
	Browser string    `json:"browser"` // digest of the cookie
	Expires time.Time `json:"expires"`
}

func transactionKey(id string) string { return store.Key("oidc.transaction", digest(id)) }

// cookieName: one cookie for each transaction, so that two tabs don't take each
// other's away. The __Host- prefix keeps subdomains and plain http from setting
// it (RFC 6265bis §4.1.3.2).
func cookieName(id string) string { return "__Host-otpgate-" + id }

// openTransaction opens one more transaction of the request ref, binds it to
// the browser by a cookie and returns the address of its page.
func (p *Provider) openTransaction(w http.ResponseWriter, r *http.Request, ref string) (string, error) {
	allowed, err := p.countLoad(r.Context(), ref)
	if err != nil {
		return "", err
	}
	if !allowed {
		return "", refuse(invalidRequest, fmt.Sprintf("the request was loaded more than %d times", maxLoads))
	}
	id, browser := rand.Text(), newSecret()
	value, err := json.Marshal(transaction{Request: ref, Browser: digest(browser), Expires: p.now().Add(transactionLife)})
	if err != nil {
		return "", fmt.Errorf("oidc: encode transaction: %w", err)
	}
	if err := p.passing.Put(r.Context(), transactionKey(id), value, transactionLife); err != nil {
		return "", fmt.Errorf("oidc: keep transaction: %w", err)
	}
	// Lax, not Strict: the navigation that brings it back was begun by the
	// portal's site, and the page must see it.
	http.SetCookie(w, &http.Cookie{
		Name: cookieName(id), Value: browser, Path: "/", MaxAge: int(transactionLife.Seconds()),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
	return p.codePage(id), nil
}

// Pending returns the request open under id, if this browser opened it.
// ErrNoRequest or ErrOtherBrowser if not.
func (p *Provider) Pending(r *http.Request, id string) (Request, error) {
	t, err := p.transaction(r, id)
	if err != nil {
		return Request{}, err
	}
	req, err := p.loadRequest(r.Context(), t.Request)
	if err != nil {
		return Request{}, err
	}
	if req == nil {
		return Request{}, ErrNoRequest
	}
	redirect, err := url.Parse(req.RedirectURI)
	if err != nil {
		return Request{}, fmt.Errorf("oidc: redirect URI: %w", err)
	}
	return Request{
		ID: id, Realm: p.clients[req.Client].Realm, User: req.Subject, Client: req.Client,
		Locales: req.Locales, Expires: t.Expires, Portal: redirect.Scheme + "://" + redirect.Host,
	}, nil
}

// Accept ends the request with the gate's acceptance and returns the address to
// send the browser to. Only one call per request succeeds; ErrNoRequest for
// the others.
func (p *Provider) Accept(r *http.Request, id string, result verifier.Result) (location string, err error) {
	if result.Outcome != verifier.Accepted {
		return "", fmt.Errorf("oidc: the gate did not accept: %s", result.Outcome)
	}
	req, err := p.end(r, id)
	if err != nil {
		return "", err
	}
	code, err := p.storage.issueCode(r.Context(), newGrant(req, p.clients[req.Client], result))
	if err != nil {
		// The request has ended, so the way back is all that is left to give.
		p.record(r, "response", p.clients[req.Client], err)
		return p.answer(req, failure(asProtocolError(err).code, "the gateway could not finish; begin again")), nil
	}
	p.record(r, "response", p.clients[req.Client], nil)
	return p.answer(req, url.Values{"code": {code}}), nil
}

// Refuse ends the request without a code, likewise.
func (p *Provider) Refuse(r *http.Request, id string, why Refusal) (location string, err error) {
	var refusal *protocolError
	switch why {
	case Cancelled:
		refusal = refuse(accessDenied, "the customer cancelled")
	case LockedOut:
		refusal = refuse(accessDenied, "the customer's one-time password is locked")
	case NoToken:
		refusal = refuse(unmetAuthentication, "the customer has no one-time password in service")
	default:
		return "", fmt.Errorf("oidc: unknown refusal %q", why)
	}
	req, err := p.end(r, id)
	if err != nil {
		return "", err
	}
	p.record(r, "response", p.clients[req.Client], refusal)
	return p.answer(req, failure(refusal.code, refusal.description)), nil
}

// end ends the request that id is a transaction of. Of all its transactions,
// and of all parallel calls, one gets it.
func (p *Provider) end(r *http.Request, id string) (*request, error) {
	t, err := p.transaction(r, id)
	if err != nil {
		return nil, err
	}
	// Answered even if the browser has gone meanwhile: the code it typed is
	// used up by now.
	req, err := p.endRequest(context.WithoutCancel(r.Context()), t.Request)
	if err != nil {
		return nil, err
	}
	if req == nil {
		return nil, ErrNoRequest
	}
	return req, nil
}

// transaction returns the open transaction id of this browser.
func (p *Provider) transaction(r *http.Request, id string) (*transaction, error) {
	value, err := p.passing.Get(r.Context(), transactionKey(id))
	t, err := decode[transaction](value, err)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, ErrNoRequest
	}
	cookie, err := r.Cookie(cookieName(id))
	if err != nil || subtle.ConstantTimeCompare([]byte(digest(cookie.Value)), []byte(t.Browser)) != 1 {
		return nil, ErrOtherBrowser
	}
	return t, nil
}

package oidc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"otpgate/verifier"
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
	// Details are the transactions that are confirmed with the code; usually none.
	Details []Detail
}

// Refusal is why a request ends without a code.
type Refusal string

// The refusals, each with the error that the portal gets for it.
const (
	Cancelled Refusal = "cancelled" // access_denied
	LockedOut Refusal = "locked"    // access_denied
	NoToken   Refusal = "no_token"  // unmet_authentication_requirements
)

// Pending returns the request open under id, if this browser opened it.
// ErrNoRequest or ErrOtherBrowser if not.
func (p *Provider) Pending(r *http.Request, id string) (Request, error) {
	ref, l, err := p.transaction(r, id)
	if err != nil {
		return Request{}, err
	}
	req, err := p.loadRequest(r.Context(), ref)
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
	var details []Detail
	if req.Details != nil {
		if details, err = decodeDetails(req.Details); err != nil {
			return Request{}, fmt.Errorf("oidc: details of the request: %w", err)
		}
	}
	return Request{
		ID: id, Realm: p.clients[req.Client].Realm, User: req.Customer, Client: req.Client,
		Locales: req.Locales, Expires: time.Unix(l.Expires, 0), Portal: redirect.Scheme + "://" + redirect.Host,
		Details: details,
	}, nil
}

// Accept ends the request with the gate's acceptance and returns the address to
// send the browser to; on w it clears the request's cookies, but that of id when
// Answered ends. Only one call per
// request succeeds; ErrNoRequest for the others.
func (p *Provider) Accept(w http.ResponseWriter, r *http.Request, id string, result verifier.Result) (location string, err error) {
	if result.Outcome != verifier.Accepted {
		return "", fmt.Errorf("oidc: the gate did not accept: %s", result.Outcome)
	}
	r = detached(r)
	req, l, err := p.end(w, r, id)
	if err != nil {
		return "", err
	}
	client := p.clients[req.Client]
	values, err := p.grantedValues(r.Context(), client, req, newGrant(req, client, result, id))
	p.record(r, "response", client, err)
	if err != nil {
		// The request has ended, so the way back is all that is left to give.
		return p.endRefused(r, id, l, req, failure(asProtocolError(err).code, "the gateway could not finish; begin again"))
	}
	answer := p.answer(&req.replyTo, values)
	return p.leadBack(r, id, l, req, answer)
}

// leadBack keeps answer for a second press, and returns where to send the browser.
func (p *Provider) leadBack(r *http.Request, id string, l load, req *request, answer response) (location string, err error) {
	location, err = p.keepAnswer(r.Context(), id, &keptAnswer{Browser: l.Browser, Client: req.Client, Locales: req.Locales, Answer: answer})
	if err != nil && answer.Fields == nil {
		p.logFailure(r, slog.LevelWarn, "answer", req.Client, err) // a second press will find nothing; this one is answered
		return answer.Location, nil
	}
	return location, err
}

// grantedValues are what a portal gets whose customer has passed: a code, or the ID
// token itself.
func (p *Provider) grantedValues(ctx context.Context, client *Client, req *request, g *grant) (url.Values, error) {
	if !req.IDToken {
		code, err := p.issueCode(ctx, g)
		return url.Values{"code": {code}}, err
	}
	token, err := p.idToken(ctx, client, g, "", "")
	if err != nil {
		return nil, err
	}
	p.accounts[client.ID].exchange(p.now(), req.Reserved, p.answerSize(req), formLife)
	return url.Values{"id_token": {token}}, nil
}

// endRefused is the way back for a request that has ended without a grant.
func (p *Provider) endRefused(r *http.Request, id string, l load, req *request, values url.Values) (location string, err error) {
	answer := p.answer(&req.replyTo, values)
	life := secondPress
	if answer.Fields != nil {
		life = formLife
	}
	p.accounts[req.Client].exchange(p.now(), req.Reserved, p.answerSize(req), life)
	return p.leadBack(r, id, l, req, answer)
}

// Refuse ends the request without a code, likewise.
func (p *Provider) Refuse(w http.ResponseWriter, r *http.Request, id string, why Refusal) (location string, err error) {
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
	r = detached(r)
	req, l, err := p.end(w, r, id)
	if err != nil {
		return "", err
	}
	p.record(r, "response", p.clients[req.Client], refusal)
	return p.endRefused(r, id, l, req, failure(refusal.code, refusal.description))
}

// detached is r, answered even if the browser has gone meanwhile: the code it
// typed is used up by now.
func detached(r *http.Request) *http.Request {
	return r.WithContext(context.WithoutCancel(r.Context()))
}

// end ends the request that id is a transaction of, and clears the cookies of all
// its transactions in this browser; that of id itself only when the answer is
// forgotten: the page stays while the portal's is loading, and its button works. Of
// all its transactions, and of all parallel calls, one gets it.
func (p *Provider) end(w http.ResponseWriter, r *http.Request, id string) (*request, load, error) {
	ref, l, err := p.transaction(r, id)
	if err != nil {
		return nil, load{}, err
	}
	req, err := p.endRequest(r.Context(), ref)
	if err != nil {
		return nil, load{}, err
	}
	if req == nil {
		return nil, load{}, ErrNoRequest
	}
	for n := range maxLoads {
		other := transactionID(ref, n)
		cookie, err := r.Cookie(cookieName(other))
		switch {
		case err != nil: // this browser has none
		case other == id && req.FormPost: // it is still to fetch the answer
			setCookie(w, id, cookie.Value, formLife)
		case other == id: // its page stays while the portal's is loading
			setCookie(w, id, cookie.Value, secondPress)
		default:
			setCookie(w, other, "", -time.Second)
		}
	}
	return req, l, nil
}

// transaction returns the open transaction id of this browser, and the request
// that it is one of.
func (p *Provider) transaction(r *http.Request, id string) (ref string, l load, err error) {
	ref, n, ok := parseTransactionID(id)
	if !ok {
		return "", load{}, ErrNoRequest
	}
	loads, err := p.loads(r.Context(), ref)
	if err != nil {
		return "", load{}, err
	}
	if n >= len(loads) || p.now().Unix() >= loads[n].Expires {
		return "", load{}, ErrNoRequest
	}
	if !sameBrowser(r, id, loads[n].Browser) {
		return "", load{}, ErrOtherBrowser
	}
	return ref, loads[n], nil
}

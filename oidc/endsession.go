package oidc

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	josejson "github.com/go-jose/go-jose/v4/json"
)

// serveEndSession is the end-session endpoint (OpenID Connect RP-Initiated Logout
// 1.0 §2). Nobody is signed in here: each code is for one request. What it ends
// are the requests that the client has open in this browser for the customer of the
// id_token_hint.
func (p *Provider) serveEndSession(w http.ResponseWriter, r *http.Request) {
	secure(w)
	client, location, err := p.endSession(w, r)
	p.record(r, "end_session", client, err)
	switch {
	case err != nil:
		p.refuseBrowser(w, r, err)
	case location == "":
		p.signedOut(w, r)
	default:
		sendOn(w, location)
	}
}

// endSession returns where to send the browser; "" for a page of our own.
func (p *Provider) endSession(w http.ResponseWriter, r *http.Request) (*Client, string, error) {
	form, err := readBrowserForm(w, r)
	if err != nil {
		return nil, "", err
	}
	client, subject, err := p.hinted(form)
	if err != nil {
		return client, "", err
	}
	if client == nil { // nothing shows that a client asks: a link of anybody's may have led here
		return nil, "", nil
	}
	location, err := wayBack(client, form)
	if err != nil {
		return client, "", err
	}
	return client, location, p.endTransactions(w, r, client, subject)
}

// wayBack is where the client wants the browser; "" if it doesn't say.
func wayBack(client *Client, form params) (location string, err error) {
	back, state := form["post_logout_redirect_uri"], form["state"]
	switch {
	case back == "":
		return "", nil
	case !slices.Contains(client.PostLogoutRedirectURIs, back): // byte for byte
		return "", refuse(invalidRequest, "post_logout_redirect_uri is not one that is configured for this client")
	case state == "":
		return back, nil
	}
	if err := checkEchoes(client, form); err != nil {
		return "", err
	}
	separator := "?"
	if strings.Contains(back, "?") {
		separator = "&"
	}
	return back + separator + url.Values{"state": {state}}.Encode(), nil
}

// readBrowserForm reads what a browser brings, by either method.
func readBrowserForm(w http.ResponseWriter, r *http.Request) (params, error) {
	switch {
	case r.Method == http.MethodPost:
		return readForm(w, r)
	case r.Method != http.MethodGet:
		return nil, &protocolError{status: http.StatusMethodNotAllowed, code: invalidRequest, description: "use GET or POST"}
	case len(r.URL.RawQuery) > maxBody:
		return nil, refuse(invalidRequest, "the query is too long")
	}
	return parseForm(r.URL.RawQuery)
}

// hinted returns the client that the id_token_hint was issued to, and the subject
// that it is about; nil without one.
func (p *Provider) hinted(form params) (client *Client, subject string, err error) {
	hint := form["id_token_hint"]
	if hint == "" {
		return nil, "", nil
	}
	audience, subject, err := p.issuedFor(hint)
	if err != nil {
		return nil, "", refuse(invalidRequest, "id_token_hint is not an ID token of this gateway").because(err)
	}
	client = p.clients[audience]
	if client == nil || form["client_id"] != "" && form["client_id"] != client.ID {
		return client, "", refuse(invalidRequest, "id_token_hint is another client's")
	}
	return client, subject, nil
}

// issuedFor is the client that we have issued an ID token to, and the subject that
// it is about. That it has expired doesn't matter here (RP-Initiated Logout §4).
func (p *Provider) issuedFor(token string) (clientID, subject string, err error) {
	if len(token) > maxHint {
		return "", "", fmt.Errorf("longer than %d bytes", maxHint)
	}
	jws, err := jose.ParseSignedCompact(token, signingAlgorithms())
	if err != nil {
		return "", "", err
	}
	header := jws.Signatures[0].Protected
	for _, key := range p.keys.current.Load().keys {
		if key.id != header.KeyID || string(key.algorithm) != header.Algorithm {
			continue
		}
		payload, err := jws.Verify(key.private.Public())
		if err != nil {
			return "", "", err
		}
		var claims struct {
			Issuer   string   `json:"iss"`
			Subject  string   `json:"sub"`
			Audience []string `json:"aud"`
		}
		if err := josejson.Unmarshal(payload, &claims); err != nil {
			return "", "", err
		}
		if claims.Issuer != p.issuer || len(claims.Audience) != 1 {
			return "", "", errors.New("it isn't for one client of ours")
		}
		return claims.Audience[0], claims.Subject, nil
	}
	return "", "", errors.New("it was signed by no key that is in use")
}

// endTransactions ends the client's requests for subject that this browser has open.
func (p *Provider) endTransactions(w http.ResponseWriter, r *http.Request, client *Client, subject string) error {
	for _, cookie := range r.Cookies() {
		id, ok := strings.CutPrefix(cookie.Name, cookieName(""))
		if !ok {
			continue
		}
		theirs, err := p.openFor(r, id, client, subject)
		if err != nil {
			return err
		}
		if !theirs {
			continue
		}
		if _, err := p.Refuse(w, r, id, Cancelled); err != nil && !errors.Is(err, ErrNoRequest) {
			return err
		}
	}
	return nil
}

// openFor reports whether id is open in this browser, for the client and subject: an
// ID token of one customer, which a link may bring, must not end another's log-in.
func (p *Provider) openFor(r *http.Request, id string, client *Client, subject string) (bool, error) {
	ref, _, err := p.transaction(r, id)
	if errors.Is(err, ErrNoRequest) || errors.Is(err, ErrOtherBrowser) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	req, err := p.loadRequest(r.Context(), ref)
	if err != nil || req == nil {
		return false, err
	}
	return req.Client == client.ID && req.subject() == subject, nil
}

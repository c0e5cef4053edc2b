package oidc

import (
	"net/http"
	"strings"
)

// errNoSuchRequest is why /authorize shows a page instead of going on.
var errNoSuchRequest = refuse(invalidRequest, "the request is unknown, expired or ended")

// serveAuthorize is the authorization endpoint. Of all that a browser carries
// it reads client_id and request_uri (RFC 9126 §4); the rest of the request is
// what the portal has pushed.
func (p *Provider) serveAuthorize(w http.ResponseWriter, r *http.Request) {
	secure(w)
	client, location, err := p.authorize(w, r)
	p.record(r, "authorize", client, err)
	if err != nil {
		p.refuseBrowser(w, r, err)
		return
	}
	sendOn(w, location)
}

// refuseBrowser answers a browser that can't safely be sent anywhere.
func (p *Provider) refuseBrowser(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusNotFound
	if asProtocolError(err).status >= http.StatusInternalServerError {
		status = http.StatusServiceUnavailable
	}
	p.noRequest(w, r, status)
}

func sendOn(w http.ResponseWriter, location string) {
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusSeeOther) // RFC 9700 §4.12: never a 307
}

// authorize returns where to send the browser. It has set the cookie that binds
// the transaction, if one was opened.
func (p *Provider) authorize(w http.ResponseWriter, r *http.Request) (*Client, string, error) {
	clientID, requestURI, err := readReference(w, r)
	if err != nil {
		return nil, "", err
	}
	client := p.clients[clientID]
	secret, isOurs := strings.CutPrefix(requestURI, requestURIPrefix)
	if client == nil || !isOurs {
		return client, "", errNoSuchRequest
	}
	ref := digest(secret)
	req, err := p.loadRequest(r.Context(), ref)
	if err != nil {
		return client, "", err
	}
	if req == nil || req.Client != client.ID || !p.now().Before(req.LoadBefore) {
		return client, "", errNoSuchRequest
	}
	if req.PromptNone {
		location, err := p.refuseSilently(r, ref)
		return client, location, err
	}
	location, err := p.openTransaction(w, r, ref, client.ID)
	return client, location, err
}

// refuseSilently ends a request that must not show a page: there is no session
// that could answer it (OIDC Core §3.1.2.6).
func (p *Provider) refuseSilently(r *http.Request, ref string) (string, error) {
	req, err := p.endRequest(r.Context(), ref)
	if err != nil {
		return "", err
	}
	if req == nil { // another load was faster
		return "", errNoSuchRequest
	}
	p.accounts[req.Client].release(req.Reserved)
	return p.answer(req, failure(loginRequired, "a one-time password is always asked for")), nil
}

// readReference reads the two parameters that count, each exactly once, from
// the query of a GET or the body of a POST (OIDC Core §3.1.2.1).
func readReference(w http.ResponseWriter, r *http.Request) (clientID, requestURI string, err error) {
	var form string
	switch r.Method {
	case http.MethodGet:
		form = r.URL.RawQuery
		if len(form) > maxBody {
			return "", "", refuse(invalidRequest, "the query is too long")
		}
	case http.MethodPost:
		form, err = readBody(w, r)
	default:
		err = refuse(invalidRequest, "use GET or POST")
	}
	if err != nil {
		return "", "", err
	}
	values, err := parseValues(form)
	if err != nil {
		return "", "", err
	}
	if len(values["client_id"]) != 1 || len(values["request_uri"]) != 1 {
		return "", "", refuse(invalidRequest, "client_id and request_uri are required, once each: push the request to /par")
	}
	return values.Get("client_id"), values.Get("request_uri"), nil
}

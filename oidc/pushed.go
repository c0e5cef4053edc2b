package oidc

import (
	"context"
	"errors"
	"net/http"
	"slices"
)

const requestURIPrefix = "urn:ietf:params:oauth:request_uri:" // RFC 9126 §2.2

// servePushed is the pushed authorization request endpoint (RFC 9126 §2).
func (p *Provider) servePushed(w http.ResponseWriter, r *http.Request) (*Client, error) {
	form, client, err := p.fromClient(w, r, beginning)
	if err != nil {
		return client, err
	}
	form, object, err := p.pushedParams(r.Context(), client, form)
	if err != nil {
		return client, err
	}
	req, err := p.newRequest(r.Context(), client, form, pushed)
	if err != nil {
		return client, err
	}
	thumbprint, err := p.checkProof(w, r, client, expectedProof{why: beginning})
	if err != nil {
		return client, err
	}
	if req.Key, err = boundKey(form["dpop_jkt"], thumbprint); err != nil {
		return client, err
	}
	if object != nil { // last: a client that lacks a nonce only sends it again
		fresh, err := p.useObject(r.Context(), client, object)
		if err != nil {
			return client, err
		}
		if !fresh {
			return client, refuse(invalidRequestObject, "the request object is not accepted").because(errors.New("jti was used before"))
		}
	}
	secret := newSecret()
	if err := p.saveRequest(r.Context(), digest(secret), req, beginning); err != nil {
		return client, err
	}
	writeJSON(w, http.StatusCreated, struct {
		RequestURI string `json:"request_uri"`
		ExpiresIn  int    `json:"expires_in"` // seconds
	}{requestURIPrefix + secret, int(requestURILife.Seconds())})
	return client, nil
}

// pushedParams are the parameters of the request in form: its own or, if it has a
// request object, the object's (RFC 9126 §3).
func (p *Provider) pushedParams(ctx context.Context, client *Client, form params) (params, *requestObject, error) {
	switch {
	case form["request"] == "" && client.RequestObject == ObjectsRequired:
		return nil, nil, refuse(invalidRequest, "this client's requests must be signed: send a request object")
	case form["request"] == "":
		return form, nil, nil
	}
	for name := range form {
		if !slices.Contains([]string{"request", "client_id", "client_assertion", "client_assertion_type", "client_secret"}, name) {
			return nil, nil, refuse(invalidRequest, "beside a request object only what authenticates the client is taken")
		}
	}
	return p.openObject(ctx, client, form["request"])
}

// boundKey is the key that the code is bound to: that of the request's proof, or
// the one that it names (RFC 9449 §10, §10.1).
func boundKey(named, proved string) (string, error) {
	switch {
	case named == "":
		return proved, nil
	case len(named) != digestLength:
		return "", refuse(invalidRequest, "dpop_jkt must be a SHA-256 thumbprint")
	case proved != "" && proved != named:
		return "", refuse(invalidDPoPProof, "dpop_jkt isn't the thumbprint of the proof's key")
	}
	return named, nil
}

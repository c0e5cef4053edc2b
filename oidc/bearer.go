package oidc

import (
	"fmt"
	"net/http"
	"strings"
)

// How an access token is shown (RFC 6750 §2.1, RFC 9449 §7.1).
const (
	schemeBearer = "Bearer"
	schemeDPoP   = "DPoP"
)

// refuseToken is a refusal of a protected resource, in the header as well (RFC 6750
// §3, RFC 9449 §7.1).
func (p *Provider) refuseToken(w http.ResponseWriter, status int, code, description string) *protocolError {
	attributes := ""
	if code != "" {
		attributes = fmt.Sprintf(` error=%q, error_description=%q,`, code, description)
	}
	w.Header().Add("WWW-Authenticate", schemeBearer+strings.TrimSuffix(attributes, ","))
	w.Header().Add("WWW-Authenticate", fmt.Sprintf(`%s%s algs="%s"`, schemeDPoP, attributes, strings.Join(algorithmNames(assertionAlgorithms()), " ")))
	return &protocolError{status: status, code: code, description: description}
}

// errNoToken has no code: who has shown no token isn't told about one (RFC 6750
// §3.1).
const errNoToken = "an access token is required"

// bearer returns what the access token in r stands for, if its sender may use it.
func (p *Provider) bearer(w http.ResponseWriter, r *http.Request, form params) (*access, *Client, error) {
	scheme, token, err := p.shown(w, r, form)
	if err != nil {
		return nil, nil, err
	}
	a, err := p.loadAccess(r.Context(), token)
	if err != nil {
		return nil, nil, err
	}
	if a == nil || p.clients[a.Client] == nil {
		return nil, nil, p.refuseToken(w, http.StatusUnauthorized, invalidToken, "the access token is unknown, expired or revoked")
	}
	client := p.clients[a.Client]
	if err := p.mayUse(w, r, a, client, scheme, token); err != nil {
		return nil, client, err
	}
	return a, client, nil
}

// shown returns the access token in r, which has it in exactly one place.
func (p *Provider) shown(w http.ResponseWriter, r *http.Request, form params) (scheme, token string, err error) {
	headers := r.Header.Values("Authorization")
	inBody := form["access_token"]
	switch {
	case r.URL.Query().Has("access_token"): // RFC 9700 §4.3.2
		return "", "", p.refuseToken(w, http.StatusBadRequest, invalidRequest, "an access token must not stand in an address")
	case len(headers) == 0 && inBody == "":
		return "", "", p.refuseToken(w, http.StatusUnauthorized, "", errNoToken)
	case len(headers) > 1 || len(headers) == 1 && inBody != "":
		return "", "", p.refuseToken(w, http.StatusBadRequest, invalidRequest, "there is more than one access token")
	case inBody != "":
		return schemeBearer, inBody, nil
	}
	scheme, token, _ = strings.Cut(headers[0], " ")
	switch {
	case strings.EqualFold(scheme, schemeBearer) && token != "": // RFC 9110 §11.1: in any case
		return schemeBearer, token, nil
	case strings.EqualFold(scheme, schemeDPoP) && token != "":
		return schemeDPoP, token, nil
	}
	return "", "", p.refuseToken(w, http.StatusUnauthorized, "", errNoToken)
}

// mayUse refuses a sender without what the token is bound to.
func (p *Provider) mayUse(w http.ResponseWriter, r *http.Request, a *access, client *Client, scheme, token string) error {
	if scheme != a.Bound.tokenType() {
		return p.refuseToken(w, http.StatusUnauthorized, invalidToken, "the access token is shown by another scheme than it was issued for")
	}
	if a.Bound.Certificate != "" && a.Bound.Certificate != presented(r) {
		return p.refuseToken(w, http.StatusUnauthorized, invalidToken, "the access token is bound to another certificate")
	}
	if a.Bound.Key == "" {
		return nil
	}
	thumbprint, err := p.checkProof(w, r, client, token)
	if err != nil {
		e := asProtocolError(err)
		if e.status >= http.StatusInternalServerError {
			return err
		}
		return p.refuseToken(w, http.StatusUnauthorized, e.code, e.description).because(e.cause)
	}
	if thumbprint != a.Bound.Key {
		w.Header().Set(nonceHeader, p.nonces.at(p.now()))
		return p.refuseToken(w, http.StatusUnauthorized, invalidToken, "a DPoP proof by the key that the access token is bound to is required")
	}
	return nil
}

package oidc

import (
	"net/http"
)

// introspection is what a client is told of a token (RFC 7662 §2.2). An inactive
// one says nothing else.
type introspection struct {
	Active   bool     `json:"active"`
	Scope    string   `json:"scope,omitempty"`
	ClientID string   `json:"client_id,omitempty"`
	Type     string   `json:"token_type,omitempty"`
	Expires  int64    `json:"exp,omitempty"`
	Issued   int64    `json:"iat,omitempty"`
	Subject  string   `json:"sub,omitempty"`
	Audience string   `json:"aud,omitempty"`
	Issuer   string   `json:"iss,omitempty"`
	ACR      string   `json:"acr,omitempty"` // RFC 9470 §6.2
	AuthTime int64    `json:"auth_time,omitempty"`
	Bound    *binding `json:"cnf,omitempty"`
}

// serveIntrospect tells a client about an access token of its own (RFC 7662).
// Another's is as good as none.
func (p *Provider) serveIntrospect(w http.ResponseWriter, r *http.Request) (*Client, error) {
	_, a, client, err := p.ownAccess(w, r)
	if err != nil {
		return client, err
	}
	if a == nil {
		writeJSON(w, http.StatusOK, introspection{})
		return client, nil
	}
	answer := introspection{
		Active: true, Scope: "openid", ClientID: a.Client, Type: a.Bound.tokenType(), Expires: a.Expires, Issued: a.Issued,
		Subject: a.Subject, Audience: a.Client, Issuer: p.issuer, ACR: a.ACR, AuthTime: a.AuthTime.Unix(),
	}
	if a.Bound != (binding{}) {
		answer.Bound = &a.Bound
	}
	writeJSON(w, http.StatusOK, answer)
	return client, nil
}

// serveRevoke ends an access token of the client's (RFC 7009). What isn't one is
// no error (§2.2).
func (p *Provider) serveRevoke(w http.ResponseWriter, r *http.Request) (*Client, error) {
	token, a, client, err := p.ownAccess(w, r)
	if err != nil {
		return client, err
	}
	if a != nil {
		if err := p.revoke(r.Context(), accessKey(token)); err != nil {
			return client, err
		}
	}
	w.WriteHeader(http.StatusOK)
	return client, nil
}

// ownAccess returns the token that an authenticated client asks about, and what it
// stands for; nil unless it is an access token of that client's.
func (p *Provider) ownAccess(w http.ResponseWriter, r *http.Request) (token string, a *access, client *Client, err error) {
	form, client, err := p.fromClient(w, r, finishing)
	if err != nil {
		return "", nil, client, err
	}
	token = form["token"]
	if token == "" {
		return "", nil, client, refuse(invalidRequest, "token is required")
	}
	if a, err = p.loadAccess(r.Context(), token); err != nil {
		return "", nil, client, err
	}
	if a != nil && a.Client != client.ID {
		a = nil
	}
	return token, a, client, nil
}

package oidc

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// How an access token is shown (RFC 6750 §2.1, RFC 9449 §7.1).
const (
	schemeBearer = "Bearer"
	schemeDPoP   = "DPoP"
)

// shownToken is an access token as a request shows it.
type shownToken struct {
	scheme string
	token  string
	inBody bool
}

// bearer returns what the access token in r stands for, if its sender may use it,
// and the client it was issued to. A refusal is one of a protected resource.
func (p *Provider) bearer(w http.ResponseWriter, r *http.Request, form params) (*access, *Client, error) {
	shown, err := readToken(r, form)
	if err != nil {
		return nil, nil, challenged(err, shown.scheme)
	}
	a, err := p.loadAccess(r.Context(), shown.token)
	if err != nil {
		return nil, nil, err
	}
	if a == nil || p.clients[a.Client] == nil {
		return nil, nil, challenged(refuse(invalidToken, "the access token is unknown, expired or revoked"), shown.scheme)
	}
	client := p.clients[a.Client]
	if err := p.mayUse(w, r, a, client, shown); err != nil {
		return nil, client, challenged(err, shown.scheme)
	}
	// After it is known who asks: a stranger must not use up a client's rate.
	return a, client, p.limits.client(client.ID)
}

// readToken returns the access token in r, which has it in exactly one place.
func readToken(r *http.Request, form params) (shownToken, error) {
	headers, inBody := r.Header.Values("Authorization"), form["access_token"]
	switch {
	case r.URL.Query().Has("access_token"): // RFC 9700 §4.3.2
		return shownToken{}, refuse(invalidRequest, "an access token must not stand in an address")
	case len(headers) > 1 || len(headers) == 1 && inBody != "": // RFC 6750 §2
		return shownToken{}, refuse(invalidRequest, "there is more than one access token")
	case inBody != "":
		return shownToken{schemeBearer, inBody, true}, nil
	case len(headers) == 0:
		return shownToken{}, errNoToken()
	}
	named, token, _ := strings.Cut(headers[0], " ")
	for _, scheme := range []string{schemeBearer, schemeDPoP} {
		if strings.EqualFold(named, scheme) && token != "" { // RFC 9110 §11.1: in any case
			return shownToken{scheme, token, false}, nil
		}
	}
	return shownToken{}, errNoToken()
}

// errNoToken has no code: who has shown no token isn't told about one (RFC 6750
// §3.1).
func errNoToken() *protocolError {
	return refuse("", "").because(errors.New("there is no access token"))
}

// mayUse refuses a sender without what the token is bound to.
func (p *Provider) mayUse(w http.ResponseWriter, r *http.Request, a *access, client *Client, shown shownToken) error {
	switch {
	case shown.inBody && client.Profile != ProfileOIDC: // FAPI 2.0 Security Profile §5.3.4
		return refuse(invalidRequest, "the access token belongs in the Authorization header")
	case shown.scheme != a.Bound.tokenType():
		return refuse(invalidToken, "the access token is shown by another scheme than it was issued for")
	case a.Bound.Certificate != "" && a.Bound.Certificate != presented(r):
		return refuse(invalidToken, "the access token is bound to another certificate")
	case a.Bound.Key == "":
		return nil
	}
	thumbprint, err := p.checkProof(w, r, client, expectedProof{key: a.Bound.Key, token: shown.token, why: finishing})
	if err == nil && thumbprint == "" {
		p.offerNonce(w)
		return refuse(invalidToken, "a DPoP proof by the key that the access token is bound to is required")
	}
	return err
}

// challenged adds to a refusal what a protected resource says in the header as
// well (RFC 6750 §3, RFC 9449 §7.1): by which schemes a token may be shown, and, of
// the one that was used, what was wrong.
func challenged(err error, scheme string) error {
	e := new(protocolError)
	if !errors.As(err, &e) || e.status != http.StatusBadRequest {
		return err
	}
	if e.code != invalidRequest {
		e.status = http.StatusUnauthorized
	}
	bearer, dpop := schemeBearer, fmt.Sprintf("%s algs=%q", schemeDPoP, strings.Join(algorithmNames(assertionAlgorithms()), " "))
	reason := fmt.Sprintf("error=%q, error_description=%q", e.code, e.description)
	switch {
	case e.code == "":
	case scheme == schemeDPoP:
		dpop += ", " + reason
	default:
		bearer += " " + reason
	}
	e.challenge = bearer + ", " + dpop
	return e
}

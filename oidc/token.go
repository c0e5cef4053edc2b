package oidc

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/zitadel/oidc/v3/pkg/op"
)

// serveToken is the token endpoint (RFC 6749 §4.1.3).
func (p *Provider) serveToken(w http.ResponseWriter, r *http.Request) (*Client, error) {
	form, err := readForm(w, r)
	if err != nil {
		return nil, err
	}
	client, err := p.authenticate(r, form, finishing)
	if err != nil {
		return client, err
	}
	g, err := p.redeem(r, client, form)
	if err != nil {
		return client, err
	}
	ctx := op.ContextWithIssuer(r.Context(), p.issuer)
	response, err := op.CreateTokenResponse(ctx, g, tokenClient{client}, p.tokens, true, form["code"], "")
	if err != nil {
		return client, fmt.Errorf("oidc: make tokens: %w", err)
	}
	writeJSON(w, http.StatusOK, response)
	return client, nil
}

// redeem uses up the code in form and returns its grant, if the client may have
// it. The code is taken before anything about it is compared: of parallel
// redemptions one can succeed, and a wrong one costs the code.
func (p *Provider) redeem(r *http.Request, client *Client, form params) (*grant, error) {
	switch form["grant_type"] {
	case "authorization_code":
	case "":
		return nil, refuse(invalidRequest, "grant_type is required")
	default:
		return nil, refuse(unsupportedGrantType, "grant_type must be authorization_code")
	}
	if form["code"] == "" {
		return nil, refuse(invalidRequest, "code is required")
	}
	g, err := p.takeCode(r.Context(), form["code"])
	if err != nil {
		return nil, err
	}
	// One answer to all of these: whoever holds a code that isn't theirs must
	// not learn what is wrong with it. The log has the reason.
	var reason string
	switch {
	case g == nil:
		reason = "the code is unknown, expired or used"
	case g.Client != client.ID:
		reason = "the code is another client's"
	case g.RedirectURI != form["redirect_uri"]:
		reason = "redirect_uri differs"
	case !g.proves(form["code_verifier"]):
		reason = "code_verifier doesn't prove the code_challenge"
	default:
		return g, nil
	}
	return nil, refuse(invalidGrant, "the code, redirect_uri or code_verifier is not right").because(errors.New(reason))
}

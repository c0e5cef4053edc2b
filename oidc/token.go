package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// serveToken is the token endpoint (RFC 6749 §4.1.3).
func (p *Provider) serveToken(w http.ResponseWriter, r *http.Request) (*Client, error) {
	form, client, err := p.fromClient(w, r, finishing)
	if err != nil {
		return client, err
	}
	if err := checkTokenRequest(form); err != nil {
		return client, err
	}
	bound, err := p.bind(w, r, client) // first: a client that lacks a nonce only must not lose its code
	if err != nil {
		return client, err
	}
	g, token, err := p.redeem(r, client, form, bound)
	if err != nil {
		return client, err
	}
	answer, err := p.issueTokens(r.Context(), client, g, token, form["code"], bound)
	if err != nil {
		return client, err
	}
	writeJSON(w, http.StatusOK, answer)
	return client, nil
}

// checkTokenRequest refuses what no proof could mend, and uses nothing up.
func checkTokenRequest(form params) error {
	switch form["grant_type"] {
	case "authorization_code":
	case "":
		return refuse(invalidRequest, "grant_type is required")
	default:
		return refuse(unsupportedGrantType, "grant_type must be authorization_code")
	}
	if form["authorization_details"] != "" { // RFC 9396 §6: fewer could be asked for here
		return refuse(invalidAuthorizations, "what was asked for when the request was made is what is granted")
	}
	if form["code"] == "" {
		return refuse(invalidRequest, "code is required")
	}
	return nil
}

// tokenResponse is RFC 6749 §5.1 with OIDC Core §3.1.3.3.
type tokenResponse struct {
	AccessToken string `json:"access_token"`
	Type        string `json:"token_type"`
	ExpiresIn   int    `json:"expires_in"` // seconds
	Scope       string `json:"scope"`
	IDToken     string `json:"id_token"`

	Details json.RawMessage `json:"authorization_details,omitempty"` // RFC 9396 §7
}

func (p *Provider) issueTokens(ctx context.Context, client *Client, g *grant, token, code string, bound binding) (tokenResponse, error) {
	if err := p.issueAccess(ctx, g, token, code, bound); err != nil {
		return tokenResponse{}, err
	}
	idToken, err := p.idToken(ctx, client, g, token, code)
	if err != nil {
		return tokenResponse{}, err
	}
	return tokenResponse{
		AccessToken: token, Type: bound.tokenType(), ExpiresIn: int(accessTokenLife.Seconds()), Scope: oidc.ScopeOpenID, IDToken: idToken,
		Details: g.Details,
	}, nil
}

// idToken makes the ID token of g, with the hashes of what goes beside it.
func (p *Provider) idToken(ctx context.Context, client *Client, g *grant, accessToken, code string) (string, error) {
	token, err := op.CreateIDToken(withAlgorithm(ctx, client.IDTokenAlg), p.issuer, g, idTokenLife, accessToken, code, p.storage, tokenClient{client})
	if err != nil {
		return "", fmt.Errorf("oidc: make ID token: %w", err)
	}
	return token, nil
}

// redeem uses up the code in form and returns its grant and the access token that is
// to be issued for it, if the client may have it. The code is taken before anything
// about it is compared: of parallel redemptions one can succeed, and a wrong one costs
// the code.
func (p *Provider) redeem(r *http.Request, client *Client, form params, bound binding) (g *grant, token string, err error) {
	g, token, err = p.useCode(r.Context(), form["code"])
	if err != nil {
		return nil, "", err
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
	case g.Key != "" && g.Key != bound.Key:
		reason = "it was bound to another DPoP key when the request was pushed"
	default:
		return g, token, nil
	}
	if g != nil {
		if err := p.revokeReused(r.Context(), form["code"]); err != nil { // the note takes room that is given back
			return nil, "", err
		}
		p.accounts[g.Client].release(g.Reserved)
	}
	return nil, "", refuseCode(reason)
}

func refuseCode(reason string) error {
	return refuse(invalidGrant, "the code, redirect_uri or code_verifier is not right").because(errors.New(reason))
}

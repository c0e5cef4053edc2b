package relyingparty

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// clockSkew is how far the gateway's clock may differ from ours.
const clockSkew = 10 * time.Second

// Why an answer is not accepted.
var (
	errNoLogin   = errors.New("this browser has no log-in under way")
	errState     = errors.New("state is not the one that was sent")
	errIssuer    = errors.New("the answer is from another issuer")
	errNonce     = errors.New("nonce is not the one that was sent")
	errSubject   = errors.New("the gateway answers for another customer")
	errACR       = errors.New("the gateway has not done what was asked for")
	errMethod    = errors.New("no one-time password was used")
	errAuthTime  = errors.New("the one-time password was not shown for this log-in")
	errNoIDToken = errors.New("the gateway sent no ID token")
)

// refusedError is an answer of the gateway that says no.
type refusedError struct{ code, description string }

func (e *refusedError) Error() string {
	return fmt.Sprintf("the gateway refuses: %s: %q", e.code, e.description)
}

// callback takes the gateway's answer. What it holds of the log-in is used up
// by looking at it: an answer can't be tried twice.
func (p *Portal) callback(w http.ResponseWriter, r *http.Request) {
	l, ok := p.pending.take(p.cookie(r, loginCookie))
	p.setCookie(w, loginCookie, "", -time.Second)
	err := errNoLogin
	var claims map[string]any
	if ok {
		claims, err = p.check(r.Context(), l, r.URL.Query())
	}
	if err != nil {
		p.Logger.WarnContext(r.Context(), "log-in not completed", "error", err)
		p.problem(w, r, problemOf(err))
		return
	}
	name, ok := p.sessions.put(session{customer: l.customer, claims: claims})
	if !ok {
		p.problem(w, r, noGateway)
		return
	}
	p.setCookie(w, sessionCookie, name, sessionLife)
	http.Redirect(w, r, "/account", http.StatusSeeOther)
}

// check returns the claims of the ID token if the answer completes l. In this
// order, each for its own reason:
//
//	state      the answer belongs to the log-in that this browser began
//	iss        and comes from our gateway (RFC 9207), before its code is used
//	error      the gateway says no
//	code       redeemed with the PKCE verifier that never left this server
//	ID token   signature, iss, aud, exp (go-oidc)
//	nonce      made for this log-in
//	sub        THE customer who has passed the first factor, and no other
//	acr, amr   it was what we asked for, and a one-time password
//	auth_time  shown after the log-in had begun
func (p *Portal) check(ctx context.Context, l login, answer url.Values) (map[string]any, error) {
	if subtle.ConstantTimeCompare([]byte(answer.Get("state")), []byte(l.state)) != 1 {
		return nil, errState
	}
	if answer.Get("iss") != p.Issuer {
		return nil, errIssuer
	}
	if code := answer.Get("error"); code != "" {
		return nil, &refusedError{code, answer.Get("error_description")}
	}
	idToken, err := p.redeem(ctx, answer.Get("code"), l.verifier)
	if err != nil {
		return nil, err
	}
	var said struct {
		ACR      string   `json:"acr"`
		AMR      []string `json:"amr"`
		AuthTime int64    `json:"auth_time"`
	}
	claims := make(map[string]any)
	if err := errors.Join(idToken.Claims(&said), idToken.Claims(&claims)); err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	authTime := time.Unix(said.AuthTime, 0)
	switch {
	case subtle.ConstantTimeCompare([]byte(idToken.Nonce), []byte(l.nonce)) != 1:
		return nil, errNonce
	case idToken.Subject != l.customer:
		return nil, errSubject
	case said.ACR != p.ACR:
		return nil, errACR
	case !slices.Contains(said.AMR, "otp"):
		return nil, errMethod
	case authTime.Before(l.begun.Add(-clockSkew)) || authTime.After(p.Now().Add(clockSkew)):
		return nil, errAuthTime
	}
	return claims, nil
}

// redeem redeems the code and returns the verified ID token. It has no use for the
// access token: what UserInfo would say stands in the ID token.
func (p *Portal) redeem(ctx context.Context, code, verifier string) (*oidc.IDToken, error) {
	ctx = oidc.ClientContext(ctx, p.HTTP)
	gateway, err := p.discover(ctx)
	if err != nil {
		return nil, err
	}
	token, err := withNonce(func() (*oauth2.Token, error) {
		assertion, err := p.assertion()
		if err != nil {
			return nil, err
		}
		return p.client(gateway).Exchange(ctx, code, oauth2.VerifierOption(verifier),
			oauth2.SetAuthURLParam("client_assertion_type", assertionTypeJWT),
			oauth2.SetAuthURLParam("client_assertion", assertion))
	})
	if err != nil {
		return nil, fmt.Errorf("redeem code: %w", err)
	}
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return nil, errNoIDToken
	}
	idToken, err := gateway.Verifier(&oidc.Config{
		ClientID: p.ClientID, SupportedSigningAlgs: []string{oidc.ES256}, Now: p.Now,
	}).Verify(ctx, raw)
	if err != nil {
		return nil, fmt.Errorf("ID token: %w", err)
	}
	return idToken, nil
}

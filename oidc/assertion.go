package oidc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejson "github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"

	"otpgate/internal/store"
)

const assertionTypeJWT = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" // RFC 7523 §2.2

// The limits of a client assertion.
const (
	// maxAssertion is four times a PS256 assertion with an RSA-4096 key.
	maxAssertion = 8 << 10
	// maxJTI leaves room for any UUID, hash or random string.
	maxJTI = 255
	// clockSkew is how far a client's clock may differ (FAPI 2.0 Security
	// Profile §5.3.2.1: 10 s ahead must pass, 60 s ahead must not).
	clockSkew = 10 * time.Second
	// maxAssertionLife bounds how long a jti has to be remembered, and how long
	// ago an assertion may have been made.
	maxAssertionLife = 10 * time.Minute
)

// assertionAlgorithms are those of FAPI 2.0 Security Profile §5.4.1. Anything
// else fails to parse: none, and HMAC under a public key, among it.
func assertionAlgorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.ES256, jose.PS256, jose.EdDSA}
}

// assertion is a client assertion (RFC 7523 §3) that nobody has verified yet.
type assertion struct {
	jws    *jose.JSONWebSignature
	claims assertionClaims
}

// assertionClaims are read by go-jose's decoder: it tells names that differ in
// case apart and refuses one that is there twice. Audience is a string, not a
// list: an assertion for several receivers could be replayed by one of them
// at another (FAPI 2.0 Security Profile §5.3.2.1).
type assertionClaims struct {
	Issuer    string           `json:"iss"`
	Subject   string           `json:"sub"`
	Audience  string           `json:"aud"`
	ID        string           `json:"jti"`
	Expiry    *jwt.NumericDate `json:"exp"`
	IssuedAt  *jwt.NumericDate `json:"iat"`
	NotBefore *jwt.NumericDate `json:"nbf"`
}

// authenticate returns the client that form is from (RFC 7521 §4.2). With an
// error too, if one is named: as whom it failed, for the log.
func (p *Provider) authenticate(ctx context.Context, form params, why purpose) (*Client, error) {
	if form["client_secret"] != "" {
		return p.clients[form["client_id"]], refuse(invalidRequest, "the one client authentication here is private_key_jwt")
	}
	if form["client_assertion_type"] != assertionTypeJWT || form["client_assertion"] == "" {
		return p.clients[form["client_id"]], refuse(invalidClient, "client_assertion and client_assertion_type are required (private_key_jwt)")
	}
	a, err := parseAssertion(form["client_assertion"])
	if err != nil {
		return p.clients[form["client_id"]], refuse(invalidClient, "the client assertion is not accepted").because(err)
	}
	client := p.clients[a.claims.Issuer]
	if client == nil {
		return nil, refuse(invalidClient, "the client assertion is not accepted").because(errors.New("no such client"))
	}
	if named := form["client_id"]; named != "" && named != client.ID {
		return client, refuse(invalidClient, "the client assertion is not accepted").because(errors.New("client_id names another client"))
	}
	now := p.now()
	steady := p.steady.read(now)
	if err := a.verify(client, p.issuer, now, steady); err != nil {
		return client, refuse(invalidClient, "the client assertion is not accepted").because(err)
	}
	if err := p.passMark(ctx, client, a.claims.IssuedAt.Time()); err != nil {
		return client, err
	}
	if err := p.useAssertion(ctx, client, a, steady, why); err != nil {
		return client, err
	}
	return client, nil
}

// parseAssertion reads what a client sent, without believing any of it.
func parseAssertion(raw string) (*assertion, error) {
	if len(raw) > maxAssertion {
		return nil, fmt.Errorf("longer than %d bytes", maxAssertion)
	}
	jws, err := jose.ParseSignedCompact(raw, assertionAlgorithms())
	if err != nil {
		return nil, err
	}
	a := &assertion{jws: jws}
	if err := josejson.Unmarshal(jws.UnsafePayloadWithoutVerification(), &a.claims); err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	return a, nil
}

// verify reports the first thing wrong with a as an assertion of client to
// issuer at time now, and that it is expired by a clock that never goes back.
func (a *assertion) verify(client *Client, issuer string, now, steady time.Time) error {
	if !a.signedBy(client) {
		return errors.New("no key of the client verifies the signature")
	}
	c := a.claims
	switch {
	case c.Issuer != client.ID || c.Subject != client.ID:
		return errors.New("iss and sub must be the client_id") // RFC 7523 §3, OIDC Core §9
	case c.Audience != issuer:
		return errors.New("aud must be the issuer")
	case c.ID == "" || len(c.ID) > maxJTI:
		return fmt.Errorf("jti must have 1 to %d bytes", maxJTI)
	case c.Expiry == nil:
		return errors.New("exp is missing")
	case !steady.Before(c.Expiry.Time().Add(clockSkew)):
		return errors.New("is expired")
	case c.Expiry.Time().After(now.Add(maxAssertionLife + clockSkew)):
		return fmt.Errorf("exp is more than %s ahead", maxAssertionLife)
	case c.IssuedAt == nil:
		return errors.New("iat is missing") // see mark.go
	case c.IssuedAt.Time().After(now.Add(clockSkew)):
		return errors.New("iat is in the future")
	case c.IssuedAt.Time().Before(now.Add(-maxAssertionLife - clockSkew)):
		return fmt.Errorf("iat is more than %s ago", maxAssertionLife)
	case c.NotBefore != nil && c.NotBefore.Time().After(now.Add(clockSkew)):
		return errors.New("nbf is in the future")
	}
	return nil
}

// signedBy tries the client's own keys: the one that kid names, else all.
func (a *assertion) signedBy(client *Client) bool {
	kid := a.jws.Signatures[0].Header.KeyID
	for i := range client.Keys.Set.Keys {
		key := &client.Keys.Set.Keys[i]
		if kid != "" && key.KeyID != kid {
			continue
		}
		if _, err := a.jws.Verify(key.Key); err == nil {
			return true
		}
	}
	return false
}

// useAssertion uses up the jti of an assertion that has been verified (before,
// anyone could fill the memory with them).
func (p *Provider) useAssertion(ctx context.Context, client *Client, a *assertion, steady time.Time, why purpose) error {
	key := store.Key("oidc.jti", client.ID, digest(a.claims.ID))
	life := a.claims.Expiry.Time().Add(clockSkew).Sub(steady)
	account := p.accounts[client.ID]
	reserved, ok := account.reserve(p.now(), why, entrySize(len(client.ID)), life)
	if !ok {
		return errAccountFull()
	}
	fresh, err := p.passing.Add(ctx, key, []byte{1}, life)
	if err != nil {
		account.release(reserved)
		return fmt.Errorf("oidc: remember jti: %w", err)
	}
	if !fresh {
		account.release(reserved) // the first has its own
		return refuse(invalidClient, "the client assertion is not accepted").because(errors.New("jti was used before"))
	}
	return nil
}

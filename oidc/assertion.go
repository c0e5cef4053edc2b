package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"slices"
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

// proveByAssertion verifies a as one of client and uses it up.
func (p *Provider) proveByAssertion(ctx context.Context, client *Client, a *assertion, why purpose) error {
	kid := a.jws.Signatures[0].Header.KeyID
	keys, err := p.clientKeys(ctx, client, func(key *jose.JSONWebKey) bool { return kid == "" || key.KeyID == kid })
	if err != nil {
		return notAuthenticated(err.Error())
	}
	now := p.now()
	steady := p.steady.read(now)
	if err := a.verify(client.ID, p.orDecoy(keys, a.jws), p.issuer, now, steady); err != nil {
		return notAuthenticated(err.Error())
	}
	if err := p.passMark(ctx, client, a.claims.IssuedAt.Time()); err != nil {
		return err
	}
	return p.useAssertion(ctx, client, a, steady, why)
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

// verify reports the first thing wrong with a as an assertion of the client id,
// which has keys, to issuer at time now, and that it is expired by a clock that
// never goes back.
func (a *assertion) verify(id string, keys []jose.JSONWebKey, issuer string, now, steady time.Time) error {
	if !signedBy(a.jws, keys) {
		return errors.New("no key of the client verifies the signature")
	}
	c := a.claims
	switch {
	case c.Issuer != id || c.Subject != id:
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

// signedBy tries the keys one by one. Whatever else the header says of keys (jwk,
// jku, x5c, x5u) is the sender's own word, and isn't read.
func signedBy(jws *jose.JSONWebSignature, keys []jose.JSONWebKey) bool {
	return slices.ContainsFunc(keys, func(key jose.JSONWebKey) bool {
		_, err := jws.Verify(key.Key)
		return err == nil
	})
}

// orDecoy is those of keys that jws can be signed by; if there are none, a key that
// has signed nothing, so that it takes as long to say no.
func (p *Provider) orDecoy(keys []jose.JSONWebKey, jws *jose.JSONWebSignature) []jose.JSONWebKey {
	alg := jose.SignatureAlgorithm(jws.Signatures[0].Header.Algorithm)
	fits := matching(keys, func(key *jose.JSONWebKey) bool { return algorithmOf(key.Key) == alg })
	if len(fits) > 0 {
		return fits
	}
	return matching(p.decoys, func(key *jose.JSONWebKey) bool { return algorithmOf(key.Key) == alg })
}

// newDecoys are public keys, one of each kind, whose private halves nobody has.
func newDecoys() ([]jose.JSONWebKey, error) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("oidc: make decoy key: %w", err)
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("oidc: make decoy key: %w", err)
	}
	modulus := make([]byte, minRSABits/8) // of no known factors: to verify, none are needed
	rand.Read(modulus)
	modulus[0] |= 0x80
	modulus[len(modulus)-1] |= 1
	public := &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537}
	return []jose.JSONWebKey{{Key: ec.Public()}, {Key: ed}, {Key: public}}, nil
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
		return notAuthenticated("jti was used before")
	}
	return nil
}

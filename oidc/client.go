package oidc

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// DefaultACR is the authentication context that says: a one-time password was
// right.
const DefaultACR = "urn:otpgate:acr:otp"

// The limits of a client's registration.
const (
	maxClientID     = 255  // octets; it is a metrics label and part of a record key
	maxACR          = 255  // octets; it stands in every grant
	maxClientKeys   = 16   // an assertion without kid is tried against each
	maxRedirectURIs = 64   // compared one by one at every pushed request
	minRSABits      = 2048 // FAPI 2.0 Security Profile §5.4.1
)

// Client is a relying party: a portal.
type Client struct {
	ID    string
	Realm string // the realm whose customers it names
	// ACR is what the realm's ID tokens say of a passed one-time password.
	ACR string
	// RedirectURIs are compared byte for byte. https, or http on loopback.
	RedirectURIs []string
	// Keys are the public keys that verify its assertions: EC P-256 (ES256),
	// RSA of 2048 bits or more (PS256), Ed25519 (EdDSA).
	Keys jose.JSONWebKeySet
	// IDTokenAlg is what its ID tokens are signed with: ES256, EdDSA, PS256 or
	// RS256. Empty: ES256.
	IDTokenAlg jose.SignatureAlgorithm
}

func (c *Client) idTokenAlg() jose.SignatureAlgorithm {
	return cmp.Or(c.IDTokenAlg, jose.ES256)
}

// checkClients returns the clients by id, or every fault in them.
func checkClients(clients []Client) (map[string]*Client, error) {
	byID := make(map[string]*Client, len(clients))
	var faults []error
	for i := range clients {
		c := clients[i]
		if err := c.check(); err != nil {
			faults = append(faults, fmt.Errorf("oidc: client %q: %w", c.ID, err))
		}
		if byID[c.ID] != nil {
			faults = append(faults, fmt.Errorf("oidc: client %q: is there twice", c.ID))
		}
		byID[c.ID] = &c
	}
	return byID, errors.Join(faults...)
}

func (c *Client) check() error {
	switch {
	case !printable(c.ID, maxClientID):
		return fmt.Errorf("id: must be 1 to %d printable characters", maxClientID)
	case c.Realm == "":
		return errors.New("realm: is missing")
	case c.ACR == "":
		return errors.New("acr: is missing")
	case !printable(c.ACR, maxACR):
		return fmt.Errorf("acr: must be at most %d printable characters", maxACR)
	case len(c.RedirectURIs) == 0 || len(c.RedirectURIs) > maxRedirectURIs:
		return fmt.Errorf("redirect_uris: must be 1 to %d", maxRedirectURIs)
	case len(c.Keys.Keys) == 0 || len(c.Keys.Keys) > maxClientKeys:
		return fmt.Errorf("jwks: must hold 1 to %d keys", maxClientKeys)
	case !slices.Contains(signingAlgorithms(), c.idTokenAlg()):
		return fmt.Errorf("id_token_signed_response_alg: must be one of %s", signingAlgorithms())
	}
	for _, uri := range c.RedirectURIs {
		if err := checkRedirectURI(uri); err != nil {
			return fmt.Errorf("redirect_uri %q: %w", uri, err)
		}
	}
	for i := range c.Keys.Keys {
		if err := checkClientKey(&c.Keys.Keys[i]); err != nil {
			return fmt.Errorf("jwks: key %d: %w", i+1, err)
		}
	}
	return nil
}

// checkRedirectURI keeps codes off the open network: plain http only to this
// very machine (RFC 8252 §7.3), where the demo and developers' portals listen.
func checkRedirectURI(uri string) error {
	u, err := url.Parse(uri)
	switch {
	case err != nil:
		return errors.New("is not a URI")
	case len(uri) > maxURI || strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fmt.Errorf("must be at most %d ASCII characters without spaces", maxURI) // it becomes a header
	case u.Host == "" || u.User != nil:
		return errors.New("must name a host, and no user")
	case u.Fragment != "" || u.RawFragment != "" || uri[len(uri)-1] == '#':
		return errors.New("must not have a fragment (RFC 6749 §3.1.2)")
	case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	}
	return errors.New("must be https; http only for localhost")
}

func loopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

func checkClientKey(key *jose.JSONWebKey) error {
	if !key.Valid() {
		return errors.New("is not a valid key")
	}
	if key.Use != "" && key.Use != "sig" {
		return fmt.Errorf("use %q: must be sig", key.Use)
	}
	var alg jose.SignatureAlgorithm
	switch k := key.Key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return errors.New("EC keys must be on P-256")
		}
		alg = jose.ES256
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSABits {
			return fmt.Errorf("RSA keys must have at least %d bits", minRSABits)
		}
		alg = jose.PS256
	case ed25519.PublicKey:
		alg = jose.EdDSA
	default: // private keys and shared secrets too: they must not lie about here
		return errors.New("must be a public EC P-256, RSA or Ed25519 key")
	}
	if key.Algorithm != "" && key.Algorithm != string(alg) {
		return fmt.Errorf("alg %q: must be %s for this key", key.Algorithm, alg)
	}
	return nil
}

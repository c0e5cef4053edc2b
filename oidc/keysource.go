package oidc

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"

	"github.com/go-jose/go-jose/v4"
)

// KeySource is where a client's public keys are: in a fixed set, or at an address
// from which they are fetched.
type KeySource struct {
	// Set holds 1 to 16 keys: EC P-256 (ES256), RSA of 2048 bits or more (PS256),
	// Ed25519 (EdDSA). With SelfSignedTLS each has a certificate (x5c) or its
	// SHA-256 (x5t#S256).
	Set jose.JSONWebKeySet
	// URI is the address of such a set, https.
	URI string
	// CAs vouch for the server at URI; without any, the system's do.
	CAs []*x509.Certificate
}

func (s *KeySource) given() bool { return len(s.Set.Keys) > 0 || s.URI != "" }

func (s *KeySource) check(usable keyCheck) error {
	switch {
	case s.URI != "" && len(s.Set.Keys) > 0:
		return errors.New("jwks: are both given and fetched")
	case s.URI != "":
		return checkKeysURI(s.URI)
	}
	return checkKeys(s.Set, usable)
}

// checkKeysURI: keys that come over plain http are anybody's.
func checkKeysURI(uri string) error {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" || len(uri) > maxURI {
		return fmt.Errorf("jwks_uri: must be an https URI with a host, without a user or fragment, of at most %d bytes", maxURI)
	}
	return nil
}

// keyCheck reports why a key is of no use for what keys are wanted for.
type keyCheck func(key *jose.JSONWebKey) error

func checkKeys(set jose.JSONWebKeySet, usable keyCheck) error {
	if len(set.Keys) == 0 || len(set.Keys) > maxClientKeys {
		return fmt.Errorf("jwks: must hold 1 to %d keys", maxClientKeys)
	}
	for i := range set.Keys {
		if err := usable(&set.Keys[i]); err != nil {
			return fmt.Errorf("jwks: key %d: %w", i+1, err)
		}
	}
	return nil
}

// keysFor are keys of a client that has the method auth.
func keysFor(auth AuthMethod) keyCheck {
	return func(key *jose.JSONWebKey) error {
		alg, err := checkStrength(key)
		switch {
		case err != nil:
			return err
		case auth == SelfSignedTLS && len(key.Certificates) == 0 && len(key.CertificateThumbprintSHA256) == 0:
			return errors.New("has no certificate (x5c), nor its SHA-256 (x5t#S256)")
		case auth != SelfSignedTLS && key.Algorithm != "" && key.Algorithm != string(alg):
			return fmt.Errorf("alg %q: must be %s for this key", key.Algorithm, alg)
		}
		return nil
	}
}

// checkStrength returns what key verifies by FAPI 2.0 Security Profile §5.4.1.
func checkStrength(key *jose.JSONWebKey) (jose.SignatureAlgorithm, error) {
	if !key.Valid() {
		return "", errors.New("is not a valid key")
	}
	if key.Use != "" && key.Use != "sig" {
		return "", fmt.Errorf("use %q: must be sig", key.Use)
	}
	var alg jose.SignatureAlgorithm
	switch k := key.Key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return "", errors.New("EC keys must be on P-256")
		}
		alg = jose.ES256
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSABits {
			return "", fmt.Errorf("RSA keys must have at least %d bits", minRSABits)
		}
		alg = jose.PS256
	case ed25519.PublicKey:
		alg = jose.EdDSA
	default: // private keys and shared secrets too: they must not lie about here
		return "", errors.New("must be a public EC P-256, RSA or Ed25519 key")
	}
	return alg, nil
}

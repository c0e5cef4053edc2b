package oidc

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/url"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// When a certificate is worth a word.
const (
	// longCertificate is longer than public authorities give certificates for (398
	// days): a lost key of such a one is good for as long, since revocation isn't
	// looked up.
	longCertificate = 398 * 24 * time.Hour
	// soonExpired leaves a bank's change calendar time for a new one.
	soonExpired = 30 * 24 * time.Hour
)

// Weakness is something about a client that is allowed, and could be better.
type Weakness struct {
	Key     string `json:"key"` // of the client in gateway.yaml
	Problem string `json:"problem"`
	Remedy  string `json:"remedy"`
}

// Weaknesses are those of client at now, whose keys are keys (ClientKeys).
func Weaknesses(client *Client, keys []jose.JSONWebKey, now time.Time) []Weakness {
	var found []Weakness
	for _, find := range []func(*Client) []Weakness{weakProfile, weakSecrets, weakRedirects, weakLimits} {
		found = append(found, find(client)...)
	}
	found = append(found, weakKeys(keys)...)
	found = append(found, weakCertificates("jwks", certificatesOf(keys), now)...)
	return append(found, weakAuthorities("certificate.ca_file", client.Certificate.CAs, now)...)
}

// ClientKeys are the public keys of client; fetched, once, if they are at an
// address.
func ClientKeys(ctx context.Context, client *Client) ([]jose.JSONWebKey, error) {
	if client.Keys.URI == "" {
		return client.Keys.Set.Keys, nil
	}
	set := keySet{usable: keysFor(client.Auth), uri: client.Keys.URI, http: fetchClient(client.Keys.CAs)}
	keys, err := set.fetch(ctx)
	if err != nil {
		return nil, fmt.Errorf("jwks_uri: %w", err)
	}
	return keys, nil
}

// KeyAlgorithm is what a client's key signs by; "" if it is of no use.
func KeyAlgorithm(key *jose.JSONWebKey) string { return string(algorithmOf(key.Key)) }

func weakProfile(c *Client) []Weakness {
	if c.Profile != ProfileOIDC {
		return nil
	}
	found := []Weakness{{
		"profile", "oidc asks for less than fapi2",
		"if the portal can push its requests, has a key or a certificate and can send DPoP proofs: profile: fapi2",
	}}
	if c.SenderConstraint == Unconstrained {
		found = append(found, Weakness{
			"sender_constraint", "whoever gets hold of an access token can use it, for a minute",
			"if the portal's library can: sender_constraint: dpop (or mtls); if it never asks UserInfo, nothing is lost",
		})
	}
	if c.BareHint {
		found = append(found, Weakness{
			"bare_login_hint", "whoever holds the browser can change whose code is asked for",
			"push the request, or sign it (request_object: required); until then the portal must compare sub with the customer whom it has sent",
		})
	}
	if c.IDTokenAlg == jose.RS256 {
		found = append(found, Weakness{
			"id_token_alg", "RS256 (PKCS #1 v1.5) is what FAPI 2.0 has left behind", "if the portal's library can: ES256, PS256 or EdDSA",
		})
	}
	return found
}

func weakSecrets(c *Client) []Weakness {
	if c.Auth != SecretBasic && c.Auth != SecretPost {
		return nil
	}
	found := []Weakness{{
		"auth", "a shared secret: whoever reads it at either side, or on the way, is the portal",
		"give the portal a key of its own: auth: private_key_jwt with jwks_file, or a certificate",
	}}
	if len(c.Secrets) > 1 {
		found = append(found, Weakness{"secrets", "two are good at once", "when the portal has changed over, take the old one out"})
	}
	return found
}

func weakRedirects(c *Client) []Weakness {
	var found []Weakness
	for _, uri := range c.RedirectURIs {
		if u, err := url.Parse(uri); err == nil && u.Scheme == "http" {
			found = append(found, Weakness{
				"redirect_uris", uri + " is plain http: any program on the customer's machine can listen there",
				"it is for trying out; take it out before going live",
			})
		}
	}
	return found
}

func weakLimits(c *Client) []Weakness {
	if c.Rate != 0 || c.Profile == ProfileEntraEAM {
		return nil
	}
	return []Weakness{{
		"rate", "0 is no limit: a portal that runs wild takes the gateway from the others",
		"leave it out (1000 a second), or set what the portal needs",
	}}
}

// weakKeys: a change-over goes by kid.
func weakKeys(keys []jose.JSONWebKey) []Weakness {
	var found []Weakness
	seen := make(map[string]bool)
	for i := range keys {
		kid := keys[i].KeyID
		switch {
		case len(keys) == 1: // nothing to tell it from
		case kid == "":
			found = append(found, Weakness{
				"jwks", fmt.Sprintf("key %d has no kid, beside others", i+1), "give each key a kid, and name it in the assertion's header",
			})
		case seen[kid]:
			found = append(found, Weakness{"jwks", fmt.Sprintf("key %d has the kid %q of another", i+1, kid), "give each key a kid of its own"})
		}
		seen[kid] = true
	}
	return found
}

// certificatesOf are those that clients show: the first of each key's.
func certificatesOf(keys []jose.JSONWebKey) []*x509.Certificate {
	var certs []*x509.Certificate
	for i := range keys {
		if len(keys[i].Certificates) > 0 {
			certs = append(certs, keys[i].Certificates[0])
		}
	}
	return certs
}

func weakCertificates(key string, certs []*x509.Certificate, now time.Time) []Weakness {
	found := weakAuthorities(key, certs, now)
	for _, cert := range certs {
		if life := cert.NotAfter.Sub(cert.NotBefore); life > longCertificate {
			found = append(found, Weakness{
				key, fmt.Sprintf("the certificate %s is good for %d days, and revocation isn't looked up", nameOf(cert), int(life.Hours()/24)),
				"take certificates of a few months, and change them before they end",
			})
		}
	}
	return found
}

// weakAuthorities finds certificates that are over, or soon will be; authorities'
// own may be long-lived.
func weakAuthorities(key string, certs []*x509.Certificate, now time.Time) []Weakness {
	var found []Weakness
	for _, cert := range certs {
		until := cert.NotAfter.UTC().Format("2006-01-02")
		switch {
		case !now.Before(cert.NotAfter):
			found = append(found, Weakness{key, fmt.Sprintf("the certificate %s ended on %s", nameOf(cert), until), "replace it"})
		case cert.NotAfter.Sub(now) < soonExpired:
			found = append(found, Weakness{key, fmt.Sprintf("the certificate %s ends on %s", nameOf(cert), until), "put the next one beside it now"})
		}
	}
	return found
}

// nameOf is quoted: whoever made the certificate chose it.
func nameOf(cert *x509.Certificate) string {
	return fmt.Sprintf("%q", cert.Subject.String())
}

package oidc

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/url"
	"time"
)

const (
	// certificateLife is longer than any key signs by policy: a relying party
	// that looks at the dates must never find a key in use with an expired one.
	certificateLife = 10 * 365 * 24 * time.Hour
	// certificateSkew is how far a relying party's clock may be behind.
	certificateSkew = time.Hour
)

// selfSign returns a certificate (DER) for the signing key, as x5c shows it (RFC
// 7517 §4.7). It vouches for nothing that the key set, fetched over TLS, doesn't:
// some relying parties read keys in this form alone.
func selfSign(issuer string, private crypto.Signer, now time.Time) ([]byte, error) {
	name, err := url.Parse(issuer)
	if err != nil {
		return nil, fmt.Errorf("certificate of a signing key: %w", err)
	}
	template := x509.Certificate{
		Subject:   pkix.Name{CommonName: name.Hostname()},
		URIs:      []*url.URL{name},
		NotBefore: now.Add(-certificateSkew),
		NotAfter:  now.Add(certificateLife),
		KeyUsage:  x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, private.Public(), private)
	if err != nil {
		return nil, fmt.Errorf("certificate of a signing key: %w", err)
	}
	return der, nil
}

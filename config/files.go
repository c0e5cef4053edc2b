package config

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// maxJWKS and maxPEM bound the key files, in bytes: a hundred keys, a long
	// chain of certificates.
	maxJWKS = 256 << 10
	maxPEM  = 256 << 10
	// maxKeys bounds a portal's keys: an assertion that doesn't say which one
	// signed it is tried against each.
	maxKeys = 16
	// minRSA is the smallest RSA key that FAPI 2.0 (§5.4.1) allows, in bits.
	minRSA = 2048
)

// Who may not read a file that is read here, as mode bits that must be off.
const (
	anyoneMay   fs.FileMode = 0
	ownerOnly   fs.FileMode = 0o077
	notEveryone fs.FileMode = 0o007 // Debian's ssl-cert group may read TLS keys
)

// readFile reads a file that gateway.yaml names, of at most limit bytes.
// Errors are sentences for the person who edits gateway.yaml.
func readFile(path string, limit int64, forbidden fs.FileMode) ([]byte, error) {
	info, err := os.Stat(path) // before Open, which would wait at a FIFO
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s can't be read: %w", path, reason(err))
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file", path)
	case info.Mode().Perm()&forbidden != 0:
		return nil, fmt.Errorf("%s can be read by others than its owner (mode %04o): chmod 600 %[1]s", path, info.Mode().Perm())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s can't be read: %w", path, reason(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s can't be read: %w", path, reason(err))
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return data, nil
}

// pem reads the file of public certificates, or of a private key, that stands at
// path; nil if there is none, or with the fault recorded.
func (d *decoder) pem(path, file string, forbidden fs.FileMode) []byte {
	if file == "" {
		return nil
	}
	data, err := readFile(file, maxPEM, forbidden)
	if err != nil {
		d.fault(path, "%v", err)
	}
	return data
}

// certificate checks the files of a certificate and its key, cert_file and
// key_file at path.
func (d *decoder) certificate(path, certFile, keyFile string) {
	cert, key := d.pem(path+".cert_file", certFile, anyoneMay), d.pem(path+".key_file", keyFile, notEveryone)
	if cert == nil || key == nil {
		return
	}
	if err := checkCertificate(cert, key, time.Now()); err != nil {
		d.fault(path, "%v", err)
	}
}

// authorities returns the certificates in the file at path.
func (d *decoder) authorities(path, file string) []*x509.Certificate {
	data := d.pem(path, file, anyoneMay)
	if data == nil {
		return nil
	}
	certs, err := parseCertificates(data)
	if err != nil {
		d.fault(path, "%s %v", file, err)
	}
	return certs
}

// parseCertificates reads PEM blocks, all of which must be certificates: one that
// is passed over would be missed only when a peer is refused.
func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds something other than certificates (%s)", clip(block.Type))
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("holds a damaged certificate: %w", err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")
	}
	return certs, nil
}

// readKeySet reads a JWK Set and returns those of its keys that are good for use: an
// auth that a portal can have (with self_signed_tls_client_auth, those that have a
// certificate), or idTokenHint.
func readKeySet(path, use string) (jose.JSONWebKeySet, error) {
	var usable jose.JSONWebKeySet
	data, err := readFile(path, maxJWKS, anyoneMay)
	if errors.Is(err, fs.ErrNotExist) {
		return usable, fmt.Errorf("%w: put the portal's public keys there, as a JWK Set (RFC 7517)", err)
	}
	if err != nil {
		return usable, err
	}
	if block, _ := pem.Decode(data); block != nil {
		return usable, fmt.Errorf("%s is a PEM file (%s), and a JWK Set (RFC 7517) is wanted: JSON with the portal's public keys, {\"keys\": [...]}",
			path, block.Type)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return usable, fmt.Errorf("%s is no JWK Set (RFC 7517): %w", path, err)
	}
	for i, raw := range set.Keys {
		if isPrivate(raw) {
			return usable, fmt.Errorf("%s holds a private or secret key (keys[%d]): "+
				"publish the public half alone, and replace a key that has left the portal", path, i)
		}
		var key jose.JSONWebKey
		switch err := json.Unmarshal(raw, &key); {
		case errors.Is(err, jose.ErrUnsupportedKeyType): // to be ignored: RFC 7517 §5
		case err != nil:
			return usable, fmt.Errorf("%s: keys[%d] is damaged: %w", path, i, err)
		case use == selfSignedTLS && !hasCertificate(key):
			return usable, fmt.Errorf("%s: keys[%d] has no certificate (x5c), nor its SHA-256 (x5t#S256), and auth %s goes by that", path, i, use)
		case verifies(key, use):
			usable.Keys = append(usable.Keys, key)
		}
	}
	if len(usable.Keys) == 0 {
		return usable, fmt.Errorf("%s holds no usable key: one is needed to sign with, "+
			"EC P-256 (ES256), RSA of %d bits or more (PS256) or Ed25519 (EdDSA)", path, minRSA)
	}
	if len(usable.Keys) > maxKeys {
		return usable, fmt.Errorf("%s holds %d keys to sign with, and %d are allowed: take out the old ones",
			path, len(usable.Keys), maxKeys)
	}
	return usable, nil
}

// isPrivate looks for the members that only private and symmetric keys have
// (RFC 7518 §6.2.2, §6.3.2, §6.4.1), whatever the type of the key.
func isPrivate(raw json.RawMessage) bool {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return false
	}
	for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"} {
		if _, ok := members[name]; ok {
			return true
		}
	}
	return false
}

func hasCertificate(key jose.JSONWebKey) bool {
	return len(key.Certificates) > 0 || len(key.CertificateThumbprintSHA256) > 0
}

// verifies says whether key can verify one of the signatures of FAPI 2.0
// (§5.4.1): ES256, PS256, EdDSA; or, for idTokenHint, RS256.
func verifies(key jose.JSONWebKey, use string) bool {
	if key.Use != "" && key.Use != "sig" {
		return false
	}
	var alg jose.SignatureAlgorithm
	switch k := key.Key.(type) {
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return false
		}
		alg = jose.ES256
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSA {
			return false
		}
		alg = jose.PS256
	case ed25519.PublicKey:
		alg = jose.EdDSA
	}
	rs256 := use == idTokenHint && alg == jose.PS256 && key.Algorithm == string(jose.RS256)
	return alg != "" && (key.Algorithm == "" || key.Algorithm == string(alg) || rs256)
}

// checkCertificate loads a certificate with its key as the daemon will.
func checkCertificate(cert, key []byte, now time.Time) error {
	pair, err := tls.X509KeyPair(cert, key)
	switch {
	case err != nil:
		return fmt.Errorf("the certificate and its key can't be used: %w", err)
	case now.After(pair.Leaf.NotAfter):
		return fmt.Errorf("the certificate expired on %s: renew it", pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(pair.Leaf.NotBefore):
		return fmt.Errorf("the certificate is valid only from %s on: look at the clock, or at the file",
			pair.Leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

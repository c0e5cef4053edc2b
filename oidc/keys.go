package oidc

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/op"

	"otpgate/internal/store"
)

// Sealer keeps secrets from whoever can read the database. A sealed value opens
// only under the record key and purpose that it was sealed with.
type Sealer interface {
	Seal(recordKey, purpose string, plaintext []byte) []byte
	Open(recordKey, purpose string, sealed []byte) ([]byte, error)
}

const (
	keyRecord  = "oidckey"
	keyPurpose = "oidc-signing-key"
)

// rsaBits is the size of our own RSA keys: 128 bits of security, as long as the
// other algorithms have (NIST SP 800-57 part 1 §5.6.1). 4096 would make each
// signature twice as dear.
const rsaBits = 3072

// signingAlgorithms are those that ID tokens can be signed with.
func signingAlgorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.PS256, jose.RS256}
}

// storedKey is the record of one signing key. Its record key ends in the key's
// id, which is its thumbprint (RFC 7638), so it can't be given to another.
type storedKey struct {
	V       int       `json:"v"`       // layout version; 1 has ES256 alone, and no Signs
	Created time.Time `json:"created"` // published since
	Key     []byte    `json:"key"`     // PKCS #8, sealed

	Algorithm   jose.SignatureAlgorithm `json:"alg,omitempty"`
	Signs       time.Time               `json:"signs,omitzero"`        // from then on, until a later one of the algorithm does
	Certificate []byte                  `json:"certificate,omitempty"` // DER; what x5c shows
}

// signingKey is a key, opened: what the library signs with (op.SigningKey), and
// publishes (op.Key).
type signingKey struct {
	id          string
	algorithm   jose.SignatureAlgorithm
	private     crypto.Signer
	created     time.Time
	signs       time.Time
	certificate *x509.Certificate // nil: none
}

var _ op.SigningKey = (*signingKey)(nil)

func (k *signingKey) ID() string                                  { return k.id }
func (k *signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return k.algorithm }
func (k *signingKey) Key() any                                    { return k.private }

// public is the key as the key set has it (RFC 7517 §4).
func (k *signingKey) public() jose.JSONWebKey {
	jwk := jose.JSONWebKey{Key: k.private.Public(), KeyID: k.id, Algorithm: string(k.algorithm), Use: "sig"}
	if k.certificate != nil {
		thumbprint := sha256.Sum256(k.certificate.Raw)
		jwk.Certificates, jwk.CertificateThumbprintSHA256 = []*x509.Certificate{k.certificate}, thumbprint[:]
	}
	return jwk
}

// newKey makes a key for alg that is published from now and signs from signs on,
// and its record. For RS256 there is a certificate too: that is the algorithm of
// relying parties that go by x5c (Microsoft Entra).
func newKey(issuer string, seal Sealer, alg jose.SignatureAlgorithm, now, signs time.Time) (recordKey string, record storedKey, err error) {
	private, err := generate(alg)
	if err != nil {
		return "", storedKey{}, fmt.Errorf("make signing key for %s: %w", alg, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", storedKey{}, fmt.Errorf("encode signing key: %w", err)
	}
	id, err := keyID(private)
	if err != nil {
		return "", storedKey{}, err
	}
	record = storedKey{V: 2, Created: now.UTC(), Algorithm: alg, Signs: signs.UTC()}
	if alg == jose.RS256 {
		if record.Certificate, err = selfSign(issuer, private, now); err != nil {
			return "", storedKey{}, err
		}
	}
	recordKey = store.Key(keyRecord, id)
	record.Key = seal.Seal(recordKey, keyPurpose, der)
	return recordKey, record, nil
}

func generate(alg jose.SignatureAlgorithm) (crypto.Signer, error) {
	switch alg {
	case jose.ES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.EdDSA:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	case jose.PS256, jose.RS256:
		return rsa.GenerateKey(rand.Reader, rsaBits)
	default:
		return nil, errors.New("not an algorithm that ID tokens are signed with")
	}
}

// keyID is the key's thumbprint (RFC 7638).
func keyID(private crypto.Signer) (string, error) {
	jwk := jose.JSONWebKey{Key: private.Public()}
	thumbprint, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("name signing key: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(thumbprint), nil
}

// openKey reads the record of a signing key.
func openKey(seal Sealer, recordKey string, value []byte) (*signingKey, error) {
	var stored storedKey
	if err := json.Unmarshal(value, &stored); err != nil {
		return nil, fmt.Errorf("signing key %q: %w", recordKey, err)
	}
	return stored.open(seal, recordKey)
}

func (stored storedKey) open(seal Sealer, recordKey string) (*signingKey, error) {
	if stored.V == 1 {
		stored.Algorithm, stored.Signs = jose.ES256, stored.Created
	}
	der, err := seal.Open(recordKey, keyPurpose, stored.Key)
	if err != nil {
		return nil, fmt.Errorf("open signing key %q: %w", recordKey, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	clear(der)
	if err != nil {
		return nil, fmt.Errorf("parse signing key %q: %w", recordKey, err)
	}
	private, ok := parsed.(crypto.Signer)
	if !ok || !suits(private, stored.Algorithm) {
		return nil, fmt.Errorf("signing key %q isn't one for %q", recordKey, stored.Algorithm)
	}
	parts := store.SplitKey(recordKey)
	k := &signingKey{
		id: parts[len(parts)-1], algorithm: stored.Algorithm, private: private, created: stored.Created, signs: stored.Signs,
	}
	if len(stored.Certificate) > 0 {
		if k.certificate, err = x509.ParseCertificate(stored.Certificate); err != nil {
			return nil, fmt.Errorf("certificate of signing key %q: %w", recordKey, err)
		}
	}
	return k, nil
}

func suits(private crypto.Signer, alg jose.SignatureAlgorithm) bool {
	switch k := private.(type) {
	case *ecdsa.PrivateKey:
		return alg == jose.ES256 && k.Curve == elliptic.P256()
	case ed25519.PrivateKey:
		return alg == jose.EdDSA
	case *rsa.PrivateKey:
		return alg == jose.PS256 || alg == jose.RS256
	}
	return false
}

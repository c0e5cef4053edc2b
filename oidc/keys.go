package oidc

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
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

// keys are the signing keys, parsed once. Immutable.
type keys struct {
	signing op.SigningKey
	public  []op.Key
}

// storedKey is the record of one signing key.
type storedKey struct {
	V       int       `json:"v"` // layout version, 1
	Created time.Time `json:"created"`
	Key     []byte    `json:"key"` // PKCS #8, sealed
}

// loadKeys reads the signing keys, making the first if there is none. The
// newest signs; all are published.
func loadKeys(ctx context.Context, records store.Records, seal Sealer, now func() time.Time) (*keys, error) {
	newKey, newRecord, err := makeKey(seal, now())
	if err != nil {
		return nil, err
	}
	var stored map[string]storedKey
	err = records.Update(ctx, func(txn store.Txn) error {
		stored = make(map[string]storedKey)
		err := txn.Scan(store.Prefix(keyRecord), func(key string, value []byte) error {
			var k storedKey
			if err := json.Unmarshal(value, &k); err != nil {
				return fmt.Errorf("%q: %w", key, err)
			}
			stored[key] = k
			return nil
		})
		if err != nil || len(stored) > 0 {
			return err
		}
		value, err := json.Marshal(newRecord)
		if err != nil {
			return err
		}
		stored[newKey] = newRecord
		return txn.Put(newKey, value)
	})
	if err != nil {
		return nil, fmt.Errorf("oidc: signing keys: %w", err)
	}
	return openKeys(stored, seal)
}

func openKeys(stored map[string]storedKey, seal Sealer) (*keys, error) {
	ks := &keys{}
	var newest time.Time
	for recordKey, k := range stored {
		der, err := seal.Open(recordKey, keyPurpose, k.Key)
		if err != nil {
			return nil, fmt.Errorf("oidc: open signing key: %w", err)
		}
		parsed, err := x509.ParsePKCS8PrivateKey(der)
		if err != nil {
			return nil, fmt.Errorf("oidc: parse signing key: %w", err)
		}
		private, ok := parsed.(*ecdsa.PrivateKey)
		if !ok || private.Curve != elliptic.P256() {
			return nil, fmt.Errorf("oidc: signing key %q is not an EC P-256 key", recordKey)
		}
		parts := store.SplitKey(recordKey)
		key := signingKey{id: parts[len(parts)-1], private: private}
		ks.public = append(ks.public, publicKey{key})
		if ks.signing == nil || k.Created.After(newest) {
			ks.signing, newest = key, k.Created
		}
	}
	return ks, nil
}

// makeKey makes a signing key and its record. The key's id is its thumbprint
// (RFC 7638), so it can't be given to another.
func makeKey(seal Sealer, now time.Time) (recordKey string, record storedKey, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", storedKey{}, fmt.Errorf("oidc: make signing key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", storedKey{}, fmt.Errorf("oidc: encode signing key: %w", err)
	}
	jwk := jose.JSONWebKey{Key: private.Public()}
	thumbprint, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", storedKey{}, fmt.Errorf("oidc: name signing key: %w", err)
	}
	recordKey = store.Key(keyRecord, base64.RawURLEncoding.EncodeToString(thumbprint))
	return recordKey, storedKey{V: 1, Created: now.UTC(), Key: seal.Seal(recordKey, keyPurpose, der)}, nil
}

// serveKeys is the JWK set (RFC 7517 §5).
func (p *Provider) serveKeys(w http.ResponseWriter, r *http.Request) (*Client, error) {
	if err := readOnly(w, r); err != nil {
		return nil, err
	}
	op.Keys(w, r, p.storage)
	return nil, nil
}

// signingKey is a private key as the library wants it.
type signingKey struct {
	id      string
	private *ecdsa.PrivateKey
}

func (k signingKey) ID() string                                  { return k.id }
func (k signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k signingKey) Key() any                                    { return k.private }

// publicKey is its public half.
type publicKey struct{ signingKey }

func (k publicKey) Algorithm() jose.SignatureAlgorithm { return jose.ES256 }
func (k publicKey) Use() string                        { return "sig" }
func (k publicKey) Key() any                           { return k.private.Public() }

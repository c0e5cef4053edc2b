package relyingparty

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// gatewayPatience is how long the portal waits for the gateway: a customer
// waits with it.
const gatewayPatience = 10 * time.Second

// NewHTTPClient returns a client for the gateway. If caFile is not empty the
// certificates in it are trusted beside the system's: a gateway on loopback
// signs its own.
func NewHTTPClient(caFile string) (*http.Client, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("system certificates: %w", err)
	}
	if caFile != "" {
		pemBytes, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("certificate of the gateway: %w", err)
		}
		if !roots.AppendCertsFromPEM(pemBytes) {
			return nil, fmt.Errorf("certificate of the gateway: %s holds none in PEM", caFile)
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	return &http.Client{Transport: transport, Timeout: gatewayPatience}, nil
}

// MakeKey makes the portal's key in dir: portal.key, which stays with the
// portal, and portal.jwks.json, its public half, for the client's jwks_file in
// gateway.yaml. It doesn't replace files that are there.
func MakeKey(dir string) (keyFile, jwksFile string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("make key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", "", fmt.Errorf("encode key: %w", err)
	}
	id, err := keyID(&key.PublicKey)
	if err != nil {
		return "", "", err
	}
	jwks, err := json.MarshalIndent(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: &key.PublicKey, KeyID: id, Algorithm: string(jose.ES256), Use: "sig"},
	}}, "", "  ")
	if err != nil {
		return "", "", fmt.Errorf("encode key set: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", fmt.Errorf("make key: %w", err)
	}
	keyFile, jwksFile = filepath.Join(dir, "portal.key"), filepath.Join(dir, "portal.jwks.json")
	if err := writeNew(keyFile, 0o600, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err != nil {
		return "", "", err
	}
	if err := writeNew(jwksFile, 0o644, append(jwks, '\n')); err != nil {
		return "", "", errors.Join(err, os.Remove(keyFile))
	}
	return keyFile, jwksFile, nil
}

// ReadKey reads the private key in file: EC on P-256, PEM, PKCS #8.
func ReadKey(file string) (*ecdsa.PrivateKey, error) {
	pemBytes, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("the portal's key: %w", err)
	}
	block, _ := pem.Decode(pemBytes)
	if block == nil {
		return nil, fmt.Errorf("the portal's key: %s is not a PEM file", file)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the portal's key: %s: %w", file, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("the portal's key: %s must hold an EC key on P-256", file)
	}
	return key, nil
}

// writeNew writes a file that isn't there yet.
func writeNew(name string, mode os.FileMode, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already; it was left as it is", name)
	}
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// keyID is the key's thumbprint (RFC 7638): the same wherever it is computed.
func keyID(key *ecdsa.PublicKey) (string, error) {
	jwk := jose.JSONWebKey{Key: key}
	sum, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("name key: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

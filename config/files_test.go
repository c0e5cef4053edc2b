package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"otpgate/config"
)

func ecKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func keySet(t *testing.T, keys ...jose.JSONWebKey) string {
	t.Helper()
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func publicKeys(t *testing.T) string {
	return keySet(t, jose.JSONWebKey{Key: ecKey(t, elliptic.P256()).Public(), KeyID: "1", Use: "sig", Algorithm: "ES256"})
}

func TestKeySets(t *testing.T) {
	p256 := ecKey(t, elliptic.P256())
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	noUsableKey := "k holds no usable key: one is needed to sign with, " +
		"EC P-256 (ES256), RSA of 2048 bits or more (PS256) or Ed25519 (EdDSA)"
	private := "k holds a private or secret key (keys[0]): publish the public half alone, and replace a key that has left the portal"
	unknown := `{"kty":"PQ","x":"AA"}`
	good := strings.TrimSuffix(strings.TrimPrefix(publicKeys(t), `{"keys":[`), "]}")
	for name, tt := range map[string]struct{ set, problem string }{
		"no JSON": {"keys: []", "k is no JWK Set (RFC 7517): invalid character 'k' looking for beginning of value"},
		"PEM": {
			"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
			"k is a PEM file (PUBLIC KEY), and a JWK Set (RFC 7517) is wanted: JSON with the portal's public keys, {\"keys\": [...]}",
		},
		"no keys":           {"{}", noUsableKey},
		"a private key":     {keySet(t, jose.JSONWebKey{Key: p256}), private},
		"a secret key":      {`{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`, private},
		"unknown, private":  {`{"keys":[{"kty":"PQ","priv":"AA"}]}`, private},
		"encryption alone":  {keySet(t, jose.JSONWebKey{Key: p256.Public(), Use: "enc"}), noUsableKey},
		"another curve":     {keySet(t, jose.JSONWebKey{Key: ecKey(t, elliptic.P384()).Public()}), noUsableKey},
		"RS256":             {keySet(t, jose.JSONWebKey{Key: rsaKey.Public(), Algorithm: "RS256"}), noUsableKey},
		"17 keys":           {`{"keys":[` + strings.Repeat(good+",", 16) + good + `]}`, "k holds 17 keys to sign with, and 16 are allowed: take out the old ones"},
		"unknown kind":      {`{"keys":[` + unknown + `]}`, noUsableKey},
		"unknown, and good": {`{"keys":[` + unknown + `,` + good + `]}`, ""},
		"RSA":               {keySet(t, jose.JSONWebKey{Key: rsaKey.Public()}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, map[string]string{"k": tt.set, "gateway.yaml": minimal +
				"  clients: [{id: p, realm: staff, redirect_uris: [https://p.example/], jwks_file: k}]\n"})
			c, err := config.Load("gateway.yaml")
			if tt.problem == "" {
				if err != nil || len(c.OIDC.Clients[0].JWKS.Keys) != 1 {
					t.Errorf("Load = %+v, %v; want one usable key", c, err)
				}
				return
			}
			if want := "gateway.yaml:5:83: oidc.clients[0].jwks_file: " + tt.problem; err == nil || err.Error() != want {
				t.Errorf("Load: %v\nwant:  %s", err, want)
			}
		})
	}
}

// certificate returns a self-signed certificate and its key, PEM.
func certificate(t *testing.T, from, until time.Time) (cert, key string) {
	t.Helper()
	private := ecKey(t, elliptic.P256())
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

func TestTLS(t *testing.T) {
	now := time.Now()
	good, goodKey := certificate(t, now.Add(-time.Hour), now.Add(time.Hour))
	old, oldKey := certificate(t, now.Add(-2*time.Hour), time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC))
	young, youngKey := certificate(t, time.Date(2100, 1, 2, 3, 4, 5, 0, time.UTC), time.Date(2101, 1, 1, 0, 0, 0, 0, time.UTC))
	write(t, map[string]string{
		"good": good, "good.key": goodKey, "old": old, "old.key": oldKey, "young": young, "young.key": youngKey,
		"open.key": goodKey, "group.key": goodKey,
	})
	for file, mode := range map[string]os.FileMode{"open.key": 0o644, "group.key": 0o640} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		tls  string
		want []string
	}{
		{"cert_file: good, key_file: good.key", nil},
		{"cert_file: good, key_file: group.key", nil},
		{"cert_file: old, key_file: old.key", []string{
			"5:15: listen.tls: the certificate expired on 2020-01-02T03:04:05Z: renew it",
		}},
		{"cert_file: young, key_file: young.key", []string{
			"5:15: listen.tls: the certificate is valid only from 2100-01-02T03:04:05Z on: look at the clock, or at the file",
		}},
		{"cert_file: good, key_file: old.key", []string{
			"5:15: listen.tls: the certificate and its key can't be used: tls: private key does not match public key",
		}},
		{"cert_file: good, key_file: open.key", []string{
			"5:43: listen.tls.key_file: open.key can be read by others than its owner (mode 0644): chmod 600 open.key",
		}},
		{"cert_file: none", []string{
			"5:15: listen.tls.key_file: is missing",
			"5:27: listen.tls.cert_file: none can't be read: no such file or directory",
		}},
	} {
		if err := os.WriteFile("gateway.yaml", []byte(minimal+"listen: {tls: {"+tt.tls+"}}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if tt.want == nil {
			if _, err := config.Load("gateway.yaml"); err != nil {
				t.Errorf("%s: %v", tt.tls, err)
			}
			continue
		}
		if diff := cmp.Diff(tt.want, faultsOf(t)); diff != "" {
			t.Errorf("%s: %s", tt.tls, diff)
		}
	}
}

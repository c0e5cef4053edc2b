package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const oidcYAML = `realms: [{ id: retail, service_id: "1", name: { ja: a, en: a } }]
listen: { https_mtls: ":8444" }
oidc:
  issuer: https://localhost
  clients:
    - { id: p, realm: retail, redirect_uris: [https://p.example/], CLIENT }
`

// oidcFaults loads a client beside files that it may name: keys, a key with its
// certificate (certified), a CA, and a secret.
func oidcFaults(t *testing.T, text string) (OIDCClient, string) {
	t.Helper()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	set := func(k jose.JSONWebKey) string {
		text, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{k}})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for name, content := range map[string]string{
		"keys":      set(jose.JSONWebKey{Key: key.Public()}),
		"certified": set(jose.JSONWebKey{Key: key.Public(), Certificates: []*x509.Certificate{cert}}),
		"ca":        string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		"secret":    strings.Repeat("s", 32) + "\n",
		"short":     strings.Repeat("s", 31),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, faults := parse([]byte(text), filepath.Join(dir, "f"))
	if c == nil || len(c.OIDC.Clients) != 1 {
		t.Fatalf("no client: %v", faults)
	}
	return c.OIDC.Clients[0], strings.ReplaceAll(faults.Error(), dir+"/", "")
}

func oidcClient(client string) string { return strings.Replace(oidcYAML, "CLIENT", client, 1) }

func TestOIDCClients(t *testing.T) {
	t.Setenv("OTPGATE_TEST_SECRET", strings.Repeat("e", 32))
	type filled struct{ auth, alg, constraint string }
	for client, want := range map[string]filled{
		`jwks_file: keys`: {privateKeyJWT, "ES256", "dpop"},
		`jwks_uri: https://10.0.0.1/jwks, jwks_ca_file: ca`:                                                {privateKeyJWT, "ES256", "dpop"},
		`jwks_file: keys, sender_constraint: mtls, id_token_alg: PS256`:                                    {privateKeyJWT, "PS256", "mtls"},
		`jwks_file: certified, auth: self_signed_tls_client_auth`:                                          {selfSignedTLS, "ES256", "mtls"},
		`auth: tls_client_auth, certificate: { ca_file: ca, subject_dn: "CN=p,C=JP" }`:                     {tlsClientAuth, "ES256", "mtls"},
		`auth: tls_client_auth, certificate: { ca_file: ca, san_ip: "2001:db8::1" }`:                       {tlsClientAuth, "ES256", "mtls"},
		`profile: oidc, auth: client_secret_basic, secrets: [{ file: secret }]`:                            {secretBasic, "ES256", ""},
		`profile: oidc, auth: client_secret_post, secrets: [{ file: secret }, {env: OTPGATE_TEST_SECRET}]`: {secretPost, "ES256", ""},
		`profile: oidc, jwks_file: keys, id_token_alg: RS256`:                                              {privateKeyJWT, "RS256", ""},
	} {
		c, faults := oidcFaults(t, oidcClient(client))
		if got := (filled{c.Auth, c.IDTokenAlg, c.SenderConstraint}); faults != "" || got != want {
			t.Errorf("%s: %+v, want %+v; %s", client, got, want, faults)
		}
		for _, s := range c.Secrets {
			if len(s.Secret.Bytes()) != 32 {
				t.Errorf("%s: a secret of %d bytes", client, len(s.Secret.Bytes()))
			}
		}
	}
	c, _ := oidcFaults(t, oidcClient(`auth: tls_client_auth, certificate: { ca_file: ca, san_ip: "2001:db8::1" }`))
	if len(c.Certificate.CAs) != 1 || c.Certificate.IP != netip.MustParseAddr("2001:db8::1") {
		t.Errorf("certificate: %+v", c.Certificate)
	}
}

func TestOIDCClientFaults(t *testing.T) {
	const at = "f:6:"
	for client, want := range map[string]string{
		`profile: fapi1`: `77: oidc.clients[0].profile: must be fapi2, oidc or entra-eam, not "fapi1"`,
		`auth: jwt`:      `74: oidc.clients[0].auth: must be private_key_jwt, `,
		``:               `7: oidc.clients[0].jwks_file: is missing: give it, the file of the portal's public keys, or jwks_uri`,

		`auth: client_secret_basic, secrets: [{file: secret}]`:                                               `74: oidc.clients[0].auth: a shared secret isn't allowed with profile fapi2: take private_key_jwt or a certificate`,
		`auth: client_secret_post, secrets: [{file: secret}], profile: fapi2`:                                `74: oidc.clients[0].auth: a shared secret isn't allowed with profile fapi2`,
		`profile: oidc, auth: client_secret_post, jwks_file: keys, secrets: [{file: secret}]`:                `120: oidc.clients[0].jwks_file: is of no use with auth client_secret_post: leave it out`,
		`profile: oidc, auth: client_secret_post`:                                                            `7: oidc.clients[0].secrets: has none: give one`,
		`profile: oidc, auth: client_secret_post, secrets: [{file: short}]`:                                  `126: oidc.clients[0].secrets[0].file: short holds a secret of 31 characters; 32 are needed: (umask 077;`,
		`profile: oidc, auth: client_secret_post, secrets: [{file: none}]`:                                   `126: oidc.clients[0].secrets[0].file: none can't be read`,
		`profile: oidc, auth: client_secret_post, secrets: [{env: OTPGATE_NO_SUCH}]`:                         `125: oidc.clients[0].secrets[0].env: the environment variable OTPGATE_NO_SUCH isn't set`,
		`profile: oidc, auth: client_secret_post, secrets: [{}]`:                                             `119: oidc.clients[0].secrets[0]: must have exactly one of file and env`,
		`profile: oidc, auth: client_secret_post, secrets: [{file: secret, env: A}]`:                         `119: oidc.clients[0].secrets[0]: must have exactly one of file and env`,
		`profile: oidc, auth: client_secret_post, secrets: [{file: secret}, {file: secret}, {file: secret}]`: `118: oidc.clients[0].secrets: must have at most 2, and has 3`,

		`auth: none`:                           `74: oidc.clients[0].auth: none is for profile entra-eam alone`,
		`jwks_file: keys, id_token_alg: RS256`: `99: oidc.clients[0].id_token_alg: RS256 isn't allowed with profile fapi2`,

		`jwks_file: keys, jwks_uri: https://p.example/`:    `95: oidc.clients[0].jwks_uri: is given beside jwks_file: leave one of them out`,
		`jwks_file: keys, jwks_ca_file: ca`:                `99: oidc.clients[0].jwks_ca_file: is of no use without jwks_uri`,
		`jwks_uri: http://p.example/`:                      `78: oidc.clients[0].jwks_uri: must be an https address, such as`,
		`jwks_uri: file:///etc/passwd`:                     `78: oidc.clients[0].jwks_uri: must be an https address`,
		`jwks_uri: https://u:p@p.example/`:                 `78: oidc.clients[0].jwks_uri: must have no user and no #`,
		`jwks_uri: https://p.example/, jwks_ca_file: keys`: `112: oidc.clients[0].jwks_ca_file: keys holds no certificate in PEM`,

		`auth: self_signed_tls_client_auth, jwks_file: keys`:                            `114: oidc.clients[0].jwks_file: keys: keys[0] has no certificate (x5c), nor its SHA-256`,
		`auth: tls_client_auth`:                                                         `7: oidc.clients[0].certificate: is missing: what the portal's certificate must be`,
		`auth: tls_client_auth, certificate: {ca_file: ca}`:                             `104: oidc.clients[0].certificate: must have exactly one of subject_dn, san_dns`,
		`auth: tls_client_auth, certificate: {ca_file: ca, san_dns: a, san_email: a@b}`: `104: oidc.clients[0].certificate: must have exactly one of`,
		`auth: tls_client_auth, certificate: {ca_file: ca, subject_dn: portal}`:         `130: oidc.clients[0].certificate.subject_dn: is no distinguished name (RFC 4514)`,
		`auth: tls_client_auth, certificate: {ca_file: ca, subject_dn: XX=portal}`:      `130: oidc.clients[0].certificate.subject_dn: has the attribute type "XX", which isn't known here`,
		`auth: tls_client_auth, certificate: {ca_file: ca, san_ip: portal}`:             `126: oidc.clients[0].certificate.san_ip: must be an IP address`,
		`auth: tls_client_auth, certificate: {san_dns: a}`:                              `104: oidc.clients[0].certificate.ca_file: is missing`,
		`jwks_file: keys, certificate: {ca_file: ca, san_dns: a}`:                       `98: oidc.clients[0].certificate: is of no use with auth private_key_jwt`,
		`jwks_file: keys, client_uri: "http://p.example/"`:                              `97: oidc.clients[0].client_uri: must be https`,
		`jwks_file: keys, client_uri: "javascript:alert(1)"`:                            `97: oidc.clients[0].client_uri: must be an absolute URI`,
		`jwks_file: keys, post_logout_redirect_uris: ["http://p.example/"]`:             `113: oidc.clients[0].post_logout_redirect_uris[0]: must be https`,
	} {
		if _, faults := oidcFaults(t, oidcClient(client)); !strings.HasPrefix(faults, at+want) || strings.Count(faults, "\n") > 0 {
			t.Errorf("%s:\n%s\nwant %s", client, faults, at+want)
		}
	}
}

func TestMutualTLSNeedsItsListener(t *testing.T) {
	without := func(client string) string {
		return strings.Replace(oidcClient(client), "listen: { https_mtls: \":8444\" }\n", "", 1)
	}
	for text, want := range map[string]string{
		without(`auth: self_signed_tls_client_auth, jwks_file: certified`):                                           `f:5:74: oidc.clients[0].auth: self_signed_tls_client_auth needs listen.https_mtls, which is missing`,
		without(`jwks_file: keys, sender_constraint: mtls`):                                                          `f:5:104: oidc.clients[0].sender_constraint: mtls needs listen.https_mtls`,
		strings.Replace(without(`jwks_file: keys`), "oidc:\n", "oidc:\n  mtls_url: https://localhost:8444\n", 1):     `f:3:13: oidc.mtls_url: is the address of listen.https_mtls, which is missing`,
		strings.Replace(oidcClient(`jwks_file: keys`), ":8444", "127.0.0.1:8443", 1):                                 `f:2:23: listen.https_mtls: is an address that is taken: 127.0.0.1:8443`,
		strings.Replace(oidcClient(`jwks_file: keys`), "oidc:\n", "oidc:\n  mtls_url: https://localhost:8444/\n", 1): `f:4:13: oidc.mtls_url: must be https:// and a host`,
	} {
		if _, faults := oidcFaults(t, text); !strings.HasPrefix(faults, want) || strings.Count(faults, "\n") > 0 {
			t.Errorf("%s\n%s\nwant %s", text, faults, want)
		}
	}
}

// Every portal has a home to lead lost customers to.
func TestPortalsHome(t *testing.T) {
	for text, want := range map[string]string{
		"jwks_file: keys": "https://p.example/",
		`jwks_file: keys, client_uri: "https://www.p.example/login?from=otp"`: "https://www.p.example/login?from=otp",
	} {
		client, faults := oidcFaults(t, oidcClient(text))
		if faults != "" || client.ClientURI != want {
			t.Errorf("%s: %q, want %q; %s", text, client.ClientURI, want, faults)
		}
	}
}

func TestKeyRotationHasALeast(t *testing.T) {
	for value, want := range map[string]string{
		"1h": "must be 0s, or from 168h to 17520h", "1s": "must be 0s, or from 168h to 17520h", "0s": "", "168h": "",
	} {
		text := strings.Replace(oidcYAML, "issuer:", "key_rotation: "+value+"\n  issuer:", 1)
		text = strings.Replace(text, "CLIENT", "jwks_file: keys", 1)
		if _, faults := oidcFaults(t, text); want == "" && faults != "" || !strings.Contains(faults, want) {
			t.Errorf("%s: %s", value, faults)
		}
	}
}

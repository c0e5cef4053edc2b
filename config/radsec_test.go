package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// radsecYAML is a file with one client over TLS.
const radsecYAML = `
realms: [{ id: staff, service_id: "1", name: { ja: a, en: a } }]
oidc: { issuer: https://localhost }
radius:
  tls: { listen: [":2083"], cert_file: a.crt, key_file: a.key, ca_file: ca.crt }
  clients:
    - { name: proxy, address: 192.0.2.1, realm: staff, certificate: { CERT } }
`

func radsecFaults(t *testing.T, text string, ca string) (*Config, string) {
	t.Helper()
	dir := t.TempDir()
	if ca != "" {
		if err := os.WriteFile(filepath.Join(dir, "ca.crt"), []byte(ca), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, faults := parse([]byte(text), filepath.Join(dir, "gateway.yaml"))
	if len(faults) == 0 {
		return c, ""
	}
	return c, faults.Error()
}

func TestRadSecFaults(t *testing.T) {
	with := func(certificate string) string { return strings.Replace(radsecYAML, "CERT", certificate, 1) }
	for name, try := range map[string]struct{ text, ca, want string }{
		"missing certificate": {with("subject_cn: a"), "", "5:40: radius.tls.cert_file"},
		"missing key":         {with("subject_cn: a"), "", "radius.tls.key_file"},
		"missing authorities": {with("subject_cn: a"), "", "radius.tls.ca_file"},
		"empty authorities":   {with("subject_cn: a"), "nothing", "holds no certificate in PEM"},
		"a key among them":    {with("subject_cn: a"), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "holds something other than certificates"},
		"damaged":             {with("subject_cn: a"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds a damaged certificate"},
		"nothing to know it":  {with(""), "", "must have exactly one of"},
		"two things":          {with("subject_cn: a, san_dns: b"), "", "must have exactly one of"},
		"short fingerprint":   {with("sha256: ab:cd"), "", "must be 64 hex digits"},
		"a wildcard":          {with(`san_dns: "*.example"`), "", "must be a DNS name"},
		"a secret as well":    {with("subject_cn: a }, secret_env: { "), "", "secret_env"},
		"not about TLS":       {with("subject_cn: a }, require_message_authenticator: true, charset: { "), "", "radius.clients[0].require_message_authenticator: has no effect beside certificate"},
		"nowhere to ask":      {strings.Replace(with("subject_cn: a"), "  tls:", "  # tls:", 1), "", "radius.tls: is missing"},
		"twice":               {with("sha256: "+strings.Repeat("ab", 32)) + "    - { name: b, address: 192.0.2.2, realm: staff, certificate: { sha256: \"" + strings.Repeat("AB:", 31) + "AB\" } }\n", "", "is taken by radius.clients[0].certificate.sha256"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, got := radsecFaults(t, try.text, try.ca); !strings.Contains(got, try.want) {
				t.Errorf("faults:\n%s\nwant %q", got, try.want)
			}
		})
	}
}

// A client over TLS has no secret and needs no UDP; one of each may have the
// same address.
func TestRadSecClientAlone(t *testing.T) {
	text := strings.Replace(radsecYAML, "CERT", "san_dns: Proxy.Example", 1)
	c, got := radsecFaults(t, text, "")
	for _, unwanted := range []string{"radius.udp", "radius.clients"} {
		if strings.Contains(got, unwanted) {
			t.Errorf("a fault in %s:\n%s", unwanted, got)
		}
	}
	if name := c.Radius.Clients[0].Certificate.SANDNS; name != "proxy.example" {
		t.Errorf("san_dns is %q", name)
	}
	t.Setenv("VPN_SECRET", strings.Repeat("s", int(minSecret)))
	_, got = radsecFaults(t, text+"    - { name: vpn, address: 192.0.2.1, realm: staff, secret_env: VPN_SECRET }\n", "")
	if strings.Contains(got, "radius.clients") || !strings.Contains(got, "radius.udp: is missing") {
		t.Errorf("faults:\n%s", got)
	}
}

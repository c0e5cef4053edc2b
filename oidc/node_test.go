package oidc_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"otpgate/oidc"
)

// Log-ins by relying-party libraries of another language, that nobody here wrote:
// they check the gateway's answers by their own reading of the standards.

const (
	// leastNode is what openid-client 6 needs. Debian 12 has an older one, so that a
	// missing one is no failure, in CI either.
	leastNode = 20
	// nodeTimeout bounds the installation, and one log-in.
	nodeTimeout = time.Minute
)

// nodeModules installs the libraries at the versions of package-lock.json.
func nodeModules(t *testing.T) (dir string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "node", "--version").Output()
	major, _, _ := strings.Cut(strings.TrimPrefix(string(out), "v"), ".")
	if version, _ := strconv.Atoi(major); err != nil || version < leastNode {
		t.Skipf("needs node %d or later: %q %v", leastNode, out, err)
	}
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/node")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), nodeTimeout)
	defer cancel()
	install := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		t.Skipf("npm can't fetch the libraries: %v\n%s", err, out)
	}
	return dir
}

// said is what a library has found in the gateway's answers.
type said struct {
	Claims map[string]any `json:"claims"` // of the ID token
	Info   map[string]any `json:"info"`   // of UserInfo
	Type   string         `json:"type"`   // of the access token
}

// nodeLogin runs script, and is its customer's browser.
func nodeLogin(t *testing.T, g *gate, dir, script string, options map[string]any) said {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, certificatePEM(g.Certificate()), 0o600); err != nil {
		t.Fatal(err)
	}
	arguments, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), nodeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", script, string(arguments))
	cmd.Dir, cmd.Env, cmd.Stderr = dir, append(os.Environ(), "NODE_EXTRA_CA_CERTS="+ca), t.Output()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	if lines.Scan() {
		if _, err := stdin.Write([]byte(nodeBrowser(t, g, lines.Text()) + "\n")); err != nil {
			t.Error(err)
		}
	}
	var result said
	if lines.Scan() {
		if err := json.Unmarshal(lines.Bytes(), &result); err != nil {
			t.Errorf("%v: %s", err, lines.Bytes())
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %v", script, err)
	}
	return result
}

// nodeBrowser opens location, lets the customer pass, and returns the address that
// it is sent back to.
func nodeBrowser(t *testing.T, g *gate, location string) string {
	t.Helper()
	path, ours := strings.CutPrefix(location, g.URL)
	if !ours || strings.Contains(location, customer) {
		t.Errorf("the browser is sent to %s", location)
	}
	browser := g.browser()
	a := g.get(browser, path)
	if a.status != http.StatusSeeOther {
		t.Errorf("authorize: %d", a.status)
		return ""
	}
	return g.post(browser, a.header.Get("Location"), "").header.Get("Location")
}

func certificatePEM(cert *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

// check compares what the library has said with who has passed.
func (s said) check(t *testing.T, tokenType string) {
	t.Helper()
	if s.Claims["sub"] != customer || s.Claims["acr"] != oidc.DefaultACR || s.Info["sub"] != customer || !strings.EqualFold(s.Type, tokenType) {
		t.Errorf("%+v", s)
	}
}

func TestNodeLibraries(t *testing.T) {
	dir := nodeModules(t)
	t.Run("openid-client, PAR and DPoP", func(t *testing.T) {
		g := newGate(t)
		nodeLogin(t, g, dir, "openid-client.mjs", signingBy(g, false)).check(t, "DPoP")
	})
	t.Run("openid-client, JAR pushed", func(t *testing.T) {
		g := newGate(t, func(g *gate) {
			g.portal.change = func(c *oidc.Client) { c.RequestObject = oidc.ObjectsRequired }
		})
		nodeLogin(t, g, dir, "openid-client.mjs", signingBy(g, true)).check(t, "DPoP")
	})
	t.Run("oauth4webapi, mutual TLS", func(t *testing.T) {
		ca := newCA(t)
		g := newGate(t, func(g *gate) {
			g.portal.change = func(c *oidc.Client) {
				c.Auth, c.Keys, c.SenderConstraint = oidc.TLSClientAuth, oidc.KeySource{}, oidc.ByMTLS
				c.Certificate = oidc.Certificate{CAs: []*x509.Certificate{ca.cert}, SANDNS: "portal.example"}
			}
		})
		nodeLogin(t, g, dir, "oauth4webapi.mjs", showingCertificate(t, g, ca.issue(t, nil))).check(t, "Bearer")
	})
}

// signingBy is what openid-client.mjs needs.
func signingBy(g *gate, signed bool) map[string]any {
	return map[string]any{
		"issuer": g.URL, "client": "portal", "redirect": callback, "customer": customer, "signed": signed,
		"jwk": jose.JSONWebKey{Key: g.portal.key, KeyID: "portal-key"}, "kid": "portal-key",
	}
}

// showingCertificate is what oauth4webapi.mjs needs.
func showingCertificate(t *testing.T, g *gate, pair tls.Certificate) map[string]any {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	var chain []byte
	for _, der := range pair.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return map[string]any{
		"issuer": g.URL, "client": "portal", "redirect": callback, "customer": customer, "cert": string(chain),
		"key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
		"ca":  string(certificatePEM(g.Certificate())),
	}
}

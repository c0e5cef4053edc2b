package oidc_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"otpgate/oidc"
)

// apacheModules is where Debian's apache2 and libapache2-mod-auth-openidc are.
const apacheModules = "/usr/lib/apache2/modules"

// apacheConfig lets customer in, and shows who that is. The module neither pushes
// nor signs its requests, so the customer stands in the browser's address, and
// Require compares sub, as a portal must.
const apacheConfig = `
ServerRoot %[1]q
ServerName 127.0.0.1
Listen %[2]s
PidFile apache.pid
ErrorLog error.log
User www-data
Group www-data
LoadModule mpm_event_module %[3]s/mod_mpm_event.so
LoadModule authn_core_module %[3]s/mod_authn_core.so
LoadModule authz_core_module %[3]s/mod_authz_core.so
LoadModule authz_user_module %[3]s/mod_authz_user.so
LoadModule auth_openidc_module %[3]s/mod_auth_openidc.so
DocumentRoot htdocs
OIDCProviderMetadataURL %[4]s/.well-known/openid-configuration
OIDCClientID portal
OIDCClientSecret "%[5]s"
OIDCProviderTokenEndpointAuth client_secret_basic
OIDCIDTokenSignedResponseAlg RS256
OIDCPKCEMethod S256
OIDCScope openid
OIDCAuthRequestParams login_hint=%[6]s
OIDCRedirectURI http://%[2]s/callback
OIDCCryptoPassphrase "a throw-away one for this test"
OIDCCABundlePath %[1]s/gateway.pem
OIDCRemoteUserClaim sub
<Location />
  AuthType openid-connect
  Require claim sub:%[6]s
</Location>
`

// startApache runs Debian's Apache with the module before a page.
func startApache(t *testing.T, g *gate, address string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "otpgate-apache-") // t.TempDir isn't open to www-data
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for name, text := range map[string]string{
		"htdocs/index.html": "the customer's account",
		"gateway.pem":       string(certificatePEM(g.Certificate())),
		"apache.conf":       fmt.Sprintf(apacheConfig, dir, address, apacheModules, g.URL, secret, customer),
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/usr/sbin/apache2", "-f", filepath.Join(dir, "apache.conf"), "-D", "FOREGROUND")
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if log, err := os.ReadFile(filepath.Join(dir, "error.log")); err == nil && t.Failed() {
			t.Logf("%s", log)
		}
	})
	waitFor(t, address)
}

// Debian's mod_auth_openidc before a portal that can do no better than profile oidc.
func TestModAuthOpenIDC(t *testing.T) {
	if _, err := os.Stat(apacheModules + "/mod_auth_openidc.so"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("mod_auth_openidc is missing; make test installs Debian's apache2 and libapache2-mod-auth-openidc")
		}
		t.Skip("mod_auth_openidc is missing: apt-get install apache2 libapache2-mod-auth-openidc")
	}
	if os.Getuid() != 0 {
		t.Skip("apache2 takes its User only from root")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	g := newGate(t, func(g *gate) {
		g.portal.change = func(c *oidc.Client) {
			withSecrets(oidc.SecretBasic)(c)
			c.BareHint, c.IDTokenAlg, c.RedirectURIs = true, jose.RS256, []string{"http://" + address + "/callback"}
		}
	})
	startApache(t, g, address)

	if status, text := throughApache(t, g, address, customer); status != http.StatusOK || text != "the customer's account" {
		t.Errorf("the customer: %d %s", status, text)
	}
	// What a bare login_hint is weak in: the browser asks for somebody else's code.
	// The portal's comparison of sub keeps that one out.
	if status, text := throughApache(t, g, address, "victim"); status == http.StatusOK || strings.Contains(text, "account") {
		t.Errorf("another customer: %d %s", status, text)
	}
}

// throughApache opens the page in a fresh browser that asks the gateway for name.
func throughApache(t *testing.T, g *gate, address, name string) (status int, text string) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	follow := func(r *http.Request, _ []*http.Request) error {
		if query := r.URL.Query(); r.URL.Path == "/authorize" && query.Has("login_hint") {
			query.Set("login_hint", name)
			r.URL.RawQuery = query.Encode()
		}
		return nil
	}
	browser := &http.Client{Transport: g.Client().Transport, Jar: jar, CheckRedirect: follow}
	r, err := http.NewRequest(http.MethodGet, "http://"+address+"/index.html", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/html") // the module sends only what can show a page to log in
	page, err := browser.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	page.Body.Close()
	if !strings.HasPrefix(page.Request.URL.Path, "/otp/") {
		t.Fatalf("the browser is at %s: %s", page.Request.URL, page.Status)
	}
	in, err := browser.Post(page.Request.URL.String(), "application/x-www-form-urlencoded", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Body.Close()
	body, err := io.ReadAll(in.Body)
	if err != nil {
		t.Fatal(err)
	}
	return in.StatusCode, string(body)
}

package oidc_test

import (
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"otpgate/oidc"
)

// oauth2-proxy before a portal with profile oidc. It isn't in Debian, and takes
// minutes to build, so that it is no failure if it is missing, in CI either.
func TestOAuth2Proxy(t *testing.T) {
	program, err := exec.LookPath("oauth2-proxy")
	if err != nil {
		t.Skip("oauth2-proxy is missing: go install github.com/oauth2-proxy/oauth2-proxy/v7@v7.15.6")
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
			c.BareHint, c.IDTokenAlg, c.RedirectURIs = true, jose.RS256, []string{"http://" + address + "/oauth2/callback"}
		}
	})
	dir := t.TempDir()
	for name, text := range map[string]string{"ca.pem": string(certificatePEM(g.Certificate())), "secret": secret} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program, "--provider=oidc", "--oidc-issuer-url="+g.URL, "--client-id=portal",
		"--client-secret-file="+filepath.Join(dir, "secret"), "--redirect-url=http://"+address+"/oauth2/callback",
		"--http-address="+address, "--upstream=static://202", "--email-domain=*", "--cookie-secure=false",
		"--cookie-secret=0123456789abcdef0123456789abcdef", "--code-challenge-method=S256", "--scope=openid",
		"--oidc-email-claim=sub", "--insecure-oidc-allow-unverified-email", "--skip-provider-button", "--provider-ca-file="+filepath.Join(dir, "ca.pem"))
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	waitFor(t, address)
	loginThroughProxy(t, g, address)
}

// waitFor returns when something listens on address.
func waitFor(t *testing.T, address string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing listens on %s within 10 s", address)
		}
	}
}

// loginThroughProxy names the customer where the proxy, which has no parameter for
// it, can't.
func loginThroughProxy(t *testing.T, g *gate, address string) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Transport: g.Client().Transport, Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if query := r.URL.Query(); r.URL.Path == "/authorize" {
			query.Set("login_hint", customer)
			r.URL.RawQuery = query.Encode()
		}
		return nil
	}}
	page, err := browser.Get("http://" + address + "/")
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
	in.Body.Close()
	if in.StatusCode != http.StatusAccepted || in.Request.URL.Host != address {
		t.Errorf("the browser is at %s: %s", in.Request.URL, in.Status)
	}
}

package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// pushForm is a request of the client "portal", without its authentication.
func pushForm() url.Values {
	return url.Values{
		"client_id": {"portal"}, "response_type": {"code"}, "scope": {"openid"}, "redirect_uri": {"https://portal.example/callback"},
		"login_hint": {"7"}, "code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"},
	}
}

// A portal changes its secret: for a while both are good.
func TestPortalWithSecrets(t *testing.T) {
	t.Setenv("PORTAL_SECRET", "from the environment, 32 characters")
	s := newSite(t, "", `  clients:
    - id: portal
      realm: retail
      redirect_uris: [https://portal.example/callback]
      profile: oidc
      auth: client_secret_post
      secrets: [{ file: portal.secret }, { env: PORTAL_SECRET }]
`)
	write(t, filepath.Join(s.dir, "portal.secret"), "from a file, at least 32 characters\n")
	s.serve(t)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: s.clientTLS(t)}}
	for _, try := range []struct {
		secret string
		want   int
	}{
		{"from a guess, at least 32 characters", http.StatusUnauthorized},
		{"from a file, at least 32 characters", http.StatusCreated},
		{"from the environment, 32 characters", http.StatusCreated},
	} {
		form := pushForm()
		form.Set("client_secret", try.secret)
		response, err := client.PostForm("https://localhost:"+port(s.https)+"/par", form)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != try.want {
			t.Errorf("%s: %d, want %d", try.secret, response.StatusCode, try.want)
		}
		if strings.Contains(s.logged(t), try.secret) {
			t.Error("a secret is in the log")
		}
	}
}

// mtlsSite is a site whose portal authenticates by the certificate of
// portal.example.
func mtlsSite(t *testing.T) (s site, mtls string) {
	t.Helper()
	s = newSite(t, "", `  clients:
    - id: portal
      realm: retail
      redirect_uris: [https://portal.example/callback]
      auth: tls_client_auth
      certificate: { ca_file: ca.crt, san_dns: portal.example }
`)
	pki(t, s.dir, "portal.example", "evil.example")
	mtls = freeTCP(t)
	text := strings.Replace(read(t, s.config), "listen: { ", fmt.Sprintf("listen: { https_mtls: %q, ", mtls), 1)
	write(t, s.config, text)
	return s, mtls
}

// Whatever shows its certificate at the address that the discovery document names
// may push, and nobody else.
func TestPortalWithCertificate(t *testing.T) {
	program := needPeer(t, "openssl", "openssl")
	s, mtls := mtlsSite(t)
	s.serve(t)
	_, port, err := net.SplitHostPort(mtls)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.alias(t), "https://localhost:"+port+"/par"; got != want {
		t.Errorf("the discovery document says %q, want %q", got, want)
	}
	form := pushForm().Encode()
	push := func(address string, options ...string) string {
		t.Helper()
		args := append([]string{
			"s_client", "-quiet", "-connect", address, "-verify_return_error",
			"-CAfile", filepath.Join(s.dir, "data", "tls.crt"), "-verify_hostname", "localhost",
		}, options...)
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Stdin = strings.NewReader(fmt.Sprintf("POST /par HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"+
			"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", len(form), form))
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		_ = cmd.Run() // it fails where the handshake does, and then says so in out
		return out.String()
	}
	certificate := func(name string) []string {
		return []string{"-cert", filepath.Join(s.dir, name+".crt"), "-key", filepath.Join(s.dir, name+".key")}
	}
	for version, option := range map[string]string{"1.2": "-tls1_2", "1.3": "-tls1_3"} {
		if got := push(mtls, append(certificate("portal.example"), option)...); !strings.Contains(got, "201 Created") {
			t.Errorf("TLS %s: %s", version, got)
		}
	}
	if got := push(mtls, certificate("evil.example")...); !strings.Contains(got, "401 Unauthorized") || !strings.Contains(got, "invalid_client") {
		t.Errorf("with the certificate of another: %s", got)
	}
	if got := push(mtls); strings.Contains(got, "HTTP/1.1") || !strings.Contains(got, "certificate required") {
		t.Errorf("without a certificate: %s", got)
	}
	if got := push(s.https, certificate("portal.example")...); !strings.Contains(got, "401 Unauthorized") {
		t.Errorf("where browsers are: %s", got)
	}
	for _, page := range []string{"/authorize", "/otp/x", "/jwks.json"} { // browsers have nothing to do there
		if got := s.overMTLS(t, "https://localhost:"+port+page); got != http.StatusNotFound {
			t.Errorf("%s: %d", page, got)
		}
	}
}

// alias is the address for pushing with a certificate.
func (s site) alias(t *testing.T) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: s.clientTLS(t)}}
	response, err := client.Get("https://localhost:" + port(s.https) + "/.well-known/openid-configuration")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var document struct {
		Aliases map[string]string `json:"mtls_endpoint_aliases"`
	}
	if err := json.NewDecoder(response.Body).Decode(&document); err != nil {
		t.Fatal(err)
	}
	return document.Aliases["pushed_authorization_request_endpoint"]
}

// overMTLS gets a page with the portal's certificate, and returns the status.
func (s site) overMTLS(t *testing.T, address string) int {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(s.dir, "portal.example.crt"), filepath.Join(s.dir, "portal.example.key"))
	if err != nil {
		t.Fatal(err)
	}
	trust := s.clientTLS(t)
	trust.Certificates = []tls.Certificate{pair}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trust, DisableKeepAlives: true}}
	response, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

// clientTLS trusts the certificate that the gateway has made for itself.
func (s site) clientTLS(t *testing.T) *tls.Config {
	t.Helper()
	return trusting(t, filepath.Join(s.dir, "data", "tls.crt"))
}

// trusting trusts the certificates in a file, and no others.
func trusting(t *testing.T, file string) *tls.Config {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(read(t, file)))
	return &tls.Config{RootCAs: roots}
}

package main

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"otpgate/examples/portal/relyingparty"
)

// Whatever is asked, and however wrong, the answer says what a browser must not do
// with it. Over HTTP/2, which the public server speaks.
func TestEveryPublicAnswerIsHardened(t *testing.T) {
	s := newSite(t, "", `  clients:
    - { id: portal, realm: retail, redirect_uris: [https://portal.example/callback], jwks_file: portal.jwks.json }
`)
	pki(t, s.dir, "localhost")
	if _, _, err := relyingparty.MakeKey(s.dir); err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(read(t, s.config), "listen: { ", "listen: { tls: { cert_file: localhost.crt, key_file: localhost.key }, ", 1)
	write(t, s.config, text)
	s.serve(t)
	client := s.browserless(t, filepath.Join(s.dir, "ca.crt"))
	for _, ask := range []struct{ method, path string }{
		{"GET", "/.well-known/openid-configuration"},
		{"GET", "/jwks.json"},
		{"GET", "/authorize"},
		{"GET", "/authorize?client_id=portal&request_uri=urn:ietf:params:oauth:request_uri:x"},
		{"POST", "/authorize"},
		{"POST", "/par"},
		{"POST", "/token"},
		{"GET", "/token"},
		{"GET", "/otp/x"},
		{"POST", "/otp/x"},
		{"GET", "/otp/x/cancel"},
		{"PUT", "/otp/x"},
		{"OPTIONS", "/par"},
		{"GET", "/"},
		{"GET", "//otp//x"}, // where the mux itself answers
		{"GET", "/otp/../token"},
		{"HEAD", "/no/such/page"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), ask.method, "https://localhost:"+port(s.https)+ask.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.ProtoMajor != 2 {
			t.Errorf("%s %s: answered by %s, want HTTP/2", ask.method, ask.path, response.Proto)
		}
		wantHardened(t, ask.method+" "+ask.path, response.Header)
	}
}

// wantHardened checks the headers of an answer. Their directives are looked at one
// by one, since pages have a policy of their own.
func wantHardened(t *testing.T, name string, header http.Header) {
	t.Helper()
	policy := header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'", "form-action '"} {
		if !strings.Contains(policy, part) {
			t.Errorf("%s: Content-Security-Policy %q lacks %s", name, policy, part)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") || len(header.Values("Content-Security-Policy")) != 1 {
		t.Errorf("%s: Content-Security-Policy %q", name, header.Values("Content-Security-Policy"))
	}
	for key, want := range map[string]string{
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Strict-Transport-Security":    "max-age=31536000",
		"X-Content-Type-Options":       "nosniff",
		"X-Frame-Options":              "DENY",
	} {
		if got := header.Get(key); got != want {
			t.Errorf("%s: %s: %q, want %q", name, key, got, want)
		}
	}
	if got := header.Get("Permissions-Policy"); !strings.Contains(got, "camera=()") || !strings.Contains(got, "payment=()") {
		t.Errorf("%s: Permissions-Policy: %q", name, got)
	}
	if got := header.Get("Referrer-Policy"); got != "no-referrer" && got != "same-origin" {
		t.Errorf("%s: Referrer-Policy: %q", name, got)
	}
	if got := header.Get("Server"); got != "" {
		t.Errorf("%s: Server: %q", name, got)
	}
}

// HSTS would hold for all ports of localhost, where other programs speak plain http.
func TestOurOwnCertificateForcesNoHTTPS(t *testing.T) {
	w := httptest.NewRecorder()
	hardened(http.NotFoundHandler(), false).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if got := w.Header().Get("Strict-Transport-Security"); got != "" || w.Header().Get("X-Frame-Options") != "DENY" {
		t.Errorf("the headers are %v", w.Header())
	}
}

// browserless follows no redirect, and speaks HTTP/2.
func (s site) browserless(t *testing.T, ca string) *http.Client {
	t.Helper()
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: trusting(t, ca), ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

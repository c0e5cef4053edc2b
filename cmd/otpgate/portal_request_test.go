package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"otpgate/internal/admin"
)

// A customer of the whole gateway sees the transaction that the portal has pushed,
// and what comes of it goes back by the page with the form.
func TestCustomerConfirmsATransaction(t *testing.T) {
	const secret = "from a file, at least 32 characters"
	s := newSite(t, "", `  clients:
    - id: portal
      realm: retail
      redirect_uris: [https://portal.example/callback]
      profile: oidc
      auth: client_secret_post
      secrets: [{ file: portal.secret }]
      bare_login_hint: true
`)
	write(t, s.config, strings.Replace(read(t, s.config), "    card: {}\n", `    card: {}
    transactions:
      - type: payment
        title: { ja: 振込, en: Transfer }
        fields:
          - { name: amount, kind: amount, label: { ja: 金額, en: Amount }, required: true }
          - { name: currency, kind: currency, label: { ja: 通貨, en: Currency } }
          - { name: payee, kind: text, label: { ja: 受取人, en: Payee } }
`, 1))
	write(t, filepath.Join(s.dir, "portal.secret"), secret+"\n")
	s.serve(t)
	c := s.client()
	if _, err := c.AddUser(t.Context(), admin.NewUser{Realm: "retail", Name: "7"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateToken(t.Context(), admin.NewToken{Realm: "retail", User: "7", InService: true}); err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Transport: &http.Transport{TLSClientConfig: s.clientTLS(t)}}
	gateway := "https://localhost:" + port(s.https)
	read := func(response *http.Response, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	form := pushForm()
	form.Set("client_secret", secret)
	form.Set("response_mode", "form_post")
	form.Set("ui_locales", "ja")
	form.Set("authorization_details", `[{"type":"payment","amount":"1500000","currency":"JPY","payee":"山田太郎"}]`)
	var pushed struct {
		RequestURI string `json:"request_uri"`
	}
	if err := json.Unmarshal([]byte(read(browser.PostForm(gateway+"/par", form))), &pushed); err != nil || pushed.RequestURI == "" {
		t.Fatalf("not pushed: %v", err)
	}
	response, err := browser.Get(gateway + "/authorize?" + url.Values{"client_id": {"portal"}, "request_uri": {pushed.RequestURI}}.Encode())
	page := read(response, err)
	for _, text := range []string{"お取引内容の確認", "振込", "1,500,000円", "山田太郎"} {
		if !strings.Contains(page, text) {
			t.Errorf("the page lacks %q", text)
		}
	}
	back := read(browser.PostForm(response.Request.URL.String()[:strings.IndexByte(response.Request.URL.String()+"?", '?')]+"/cancel", nil))
	for _, text := range []string{`action="https://portal.example/callback"`, `name="error" value="access_denied"`, `name="iss" value="` + gateway + `"`, "見本信用組合"} {
		if !strings.Contains(back, text) {
			t.Errorf("the page with the form lacks %s:\n%s", text, back)
		}
	}
	if log := s.logged(t); !strings.Contains(log, "takes login_hint from the browser") || strings.Contains(log, "1500000") {
		t.Errorf("the log has no warning, or a transaction: %s", log)
	}
}

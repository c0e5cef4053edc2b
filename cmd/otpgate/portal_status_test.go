package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"otpgate/internal/admin"
)

// A portal asks whether a customer can be asked for a code, of its own realm only.
func TestPortalAsksForAStatus(t *testing.T) {
	const secret = "from a file, at least 32 characters"
	s := newSite(t, "", `  clients:
    - id: portal
      realm: retail
      redirect_uris: [https://portal.example/callback]
      profile: oidc
      auth: client_secret_post
      secrets: [{ file: portal.secret }]
`)
	write(t, filepath.Join(s.dir, "portal.secret"), secret+"\n")
	s.serve(t)
	c := s.client()
	employee(t, c, "taro") // of realm staff
	for _, name := range []string{"7", "8"} {
		if _, err := c.AddUser(t.Context(), admin.NewUser{Realm: "retail", Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.CreateToken(t.Context(), admin.NewToken{Realm: "retail", User: "7", InService: true}); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: s.clientTLS(t)}}
	gateway := "https://localhost:" + port(s.https)
	for name, want := range map[string]string{"7": "in_service", "8": "none", "nobody": "none", "taro": "none"} {
		response, err := client.PostForm(gateway+"/status", url.Values{
			"client_id": {"portal"}, "client_secret": {secret}, "login_hint": {name},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var answer map[string]any
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		if response.StatusCode != http.StatusOK || answer["status"] != want || len(answer) != 1 {
			t.Errorf("%s: %d %v, want %s", name, response.StatusCode, answer, want)
		}
	}

	// Whoever logs out is told that there is nothing to log out of.
	response, err := client.Get(gateway + "/end_session?lang=en")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK || !strings.Contains(string(page), "You are not signed in here") {
		t.Errorf("%d %s %v", response.StatusCode, page, err)
	}
}

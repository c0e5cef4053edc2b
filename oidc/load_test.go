package oidc_test

import (
	"net/http"
	"net/url"
	"testing"

	"otpgate/oidc"
)

// A browser that begins without end doesn't end with headers that no server takes.
func TestBrowserKeepsFewCookies(t *testing.T) {
	g := newGate(t, asOIDC(func(c *oidc.Client) { c.BareHint = true }))
	browser := g.browser()
	begin := func(login string) string {
		t.Helper()
		page := g.get(browser, barePath(map[string]string{"login_hint": login})).header.Get("Location")
		if a := g.get(browser, page); a.status != http.StatusOK {
			t.Fatalf("its page: %d", a.status)
		}
		return page
	}
	gate, err := url.Parse(g.URL)
	if err != nil {
		t.Fatal(err)
	}
	kept := begin("customer")
	for range 30 { // of which 14 end for the others
		begin("anna")
	}
	for i := range 10 {
		begin([]string{"bob", "carol"}[i%2])
		if n := len(browser.Jar.Cookies(gate)); n > 32 {
			t.Fatalf("%d cookies", n)
		}
	}
	if a := g.get(browser, kept); a.status != http.StatusOK {
		t.Errorf("an open one went before those that are over: %d", a.status)
	}
	for i := range 20 {
		begin(string(rune('d' + i)))
	}
	if n := len(browser.Jar.Cookies(gate)); n != 32 {
		t.Errorf("%d cookies", n)
	}
	if a := g.get(browser, kept); a.status != http.StatusForbidden {
		t.Errorf("the oldest: %d", a.status)
	}
}

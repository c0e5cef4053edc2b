package oidc_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestEndSession(t *testing.T) {
	g := newGate(t)
	idToken := g.tokens().field("id_token")
	g.advance(time.Hour) // that it has expired is no matter
	browser := g.browser()
	page := g.load(browser, g.portal.requestURI(nil))
	end := func(values url.Values) answer { return g.get(browser, "/end_session?"+values.Encode()) }

	if a := end(nil); a.status != http.StatusOK || string(a.body) != "nobody is signed in" {
		t.Errorf("without a hint: %d %s", a.status, a.body)
	}
	if a := end(url.Values{"post_logout_redirect_uri": {"https://portal.example/bye"}}); a.header.Get("Location") != "" {
		t.Error("an open redirect")
	}
	bye := "https://portal.example/bye"
	for name, values := range map[string]url.Values{
		"endless state":  {"id_token_hint": {idToken}, "post_logout_redirect_uri": {bye}, "state": {strings.Repeat("s", 600)}},
		"callback":       {"id_token_hint": {idToken}, "post_logout_redirect_uri": {callback}},
		"unregistered":   {"id_token_hint": {idToken}, "post_logout_redirect_uri": {"https://portal.example/bye/"}},
		"another client": {"id_token_hint": {idToken}, "client_id": {"other"}},
		"not ours":       {"id_token_hint": {g.portal.assertion(nil)}},
		"altered":        {"id_token_hint": {idToken[:len(idToken)-6] + "AAAAAA"}},
		"unsigned":       {"id_token_hint": {withoutSignature(t, idToken)}},
		"too long":       {"id_token_hint": {strings.Repeat("x", 9000)}},
	} {
		if a := end(values); a.status < 400 || a.header.Get("Location") != "" {
			t.Errorf("%s: %d %s", name, a.status, a.header.Get("Location"))
		}
	}
	if a := g.get(browser, page); a.status != http.StatusOK {
		t.Errorf("a refused log-out has ended the open request: %d", a.status)
	}
	others := g.get(browser, authorizePath("other", g.other.requestURI(nil))).header.Get("Location")
	anothers := g.load(browser, g.portal.requestURI(map[string]string{"login_hint": "00123456780"}))
	elsewhere := g.browser()
	second := g.load(elsewhere, g.portal.requestURI(nil))
	a := end(url.Values{"id_token_hint": {idToken}, "post_logout_redirect_uri": {"https://portal.example/bye"}, "state": {"a b"}})
	if a.status != http.StatusSeeOther || a.header.Get("Location") != "https://portal.example/bye?state=a+b" {
		t.Errorf("%d %s", a.status, a.header.Get("Location"))
	}
	if a := g.get(browser, page); a.status != http.StatusGone {
		t.Errorf("the open request goes on: %d %s", a.status, a.body)
	}
	if a := g.get(browser, anothers); a.status != http.StatusOK {
		t.Errorf("another customer's request has ended: %d", a.status)
	}
	if a := g.get(browser, others); a.status != http.StatusOK {
		t.Errorf("another portal's request has ended: %d", a.status)
	}
	if a := g.get(elsewhere, second); a.status != http.StatusOK {
		t.Errorf("another browser's request has ended: %d", a.status)
	}
	if a := g.post(browser, "/end_session", url.Values{"id_token_hint": {idToken}}.Encode()); string(a.body) != "nobody is signed in" {
		t.Errorf("by POST, without a way back: %d %s", a.status, a.body)
	}
}

package oidc_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"otpgate/oidc"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Nothing that the browser carries changes what the portal has pushed.
func TestBrowserChangesNothing(t *testing.T) {
	g := newGate(t)
	browser := g.browser()
	tampered := authorizePath("portal", g.portal.requestURI(nil)) + "&" + url.Values{
		"login_hint": {"victim"}, "redirect_uri": {"https://evil.example/"}, "state": {"evil"}, "nonce": {"evil"},
		"scope": {"openid admin"}, "acr_values": {"urn:none"}, "prompt": {"none"}, "code_challenge_method": {"plain"},
		"response_mode": {"fragment"}, "response_type": {"id_token"}, "request": {"e30.e30."}, "id_token_hint": {"x"},
	}.Encode()
	a := g.get(browser, tampered)
	if a.status != http.StatusSeeOther {
		t.Fatalf("%d %s", a.status, a.body)
	}
	page := a.header.Get("Location")
	var shown oidc.Request
	if err := json.Unmarshal(g.get(browser, page).body, &shown); err != nil {
		t.Fatal(err)
	}
	if shown.User != customer {
		t.Errorf("the page asks %q", shown.User)
	}
	location := g.post(browser, page, "").header.Get("Location")
	if !strings.HasPrefix(location, callback+"?code=") || strings.Contains(location, "evil") {
		t.Errorf("sent to %s", location)
	}
}

func TestAuthorizeByPost(t *testing.T) {
	g := newGate(t)
	browser := g.browser()
	form := strings.TrimPrefix(authorizePath("portal", g.portal.requestURI(nil)), "/authorize?")
	a := g.post(browser, "/authorize", form)
	if a.status != http.StatusSeeOther {
		t.Fatalf("%d %s", a.status, a.body)
	}
	g.post(browser, a.header.Get("Location"), "").callback(t)
}

func TestTransactionCookie(t *testing.T) {
	g := newGate(t)
	a := g.get(g.browser(), authorizePath("portal", g.portal.requestURI(nil)))
	id := strings.TrimPrefix(a.header.Get("Location"), "/otp/")
	cookie, err := http.ParseSetCookie(a.header.Get("Set-Cookie"))
	if err != nil {
		t.Fatal(err)
	}
	if cookie.Name != "__Host-otpgate-"+id || !cookie.Secure || !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode ||
		cookie.Path != "/" || cookie.Domain != "" || cookie.MaxAge != 600 || len(cookie.Value) < 43 {
		t.Errorf("cookie %v", cookie)
	}
	if strings.Contains(id, cookie.Value) || a.header.Get("Referrer-Policy") != "no-referrer" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("headers %v", a.header)
	}
}

// Edge 3: in the bare library whoever knows the id gets the code.
func TestOtherBrowserGetsNothing(t *testing.T) {
	g := newGate(t)
	requestURI := g.portal.requestURI(nil)
	mine, theirs := g.browser(), g.browser()
	page := g.load(mine, requestURI)
	otherPage := g.load(theirs, requestURI) // has a cookie, of another transaction
	guessing := g.browser()
	origin, err := url.Parse(g.URL)
	if err != nil {
		t.Fatal(err)
	}
	name := "__Host-otpgate-" + strings.TrimPrefix(page, "/otp/")
	guessing.Jar.SetCookies(origin, []*http.Cookie{{Name: name, Value: strings.Repeat("A", 43), Path: "/", Secure: true}})
	for name, browser := range map[string]*http.Client{
		"without a cookie": g.browser(), "with the cookie of another transaction": theirs, "with a guessed cookie": guessing,
	} {
		if a := g.get(browser, page); a.status != http.StatusForbidden {
			t.Errorf("%s sees the page: %d", name, a.status)
		}
		if a := g.post(browser, page, ""); a.status != http.StatusForbidden || a.header.Get("Location") != "" {
			t.Errorf("%s passes: %d", name, a.status)
		}
		if a := g.post(browser, page, "refuse=cancelled"); a.status != http.StatusForbidden {
			t.Errorf("%s ends the request: %d", name, a.status)
		}
	}
	if a := g.post(mine, otherPage, ""); a.status != http.StatusForbidden {
		t.Errorf("the other way round: %d", a.status)
	}
	g.post(mine, page, "").callback(t) // and nothing of it has harmed the right one
}

// Edge 2: a second callback hands out a second code in the bare library.
func TestRequestEndsOnce(t *testing.T) {
	g := newGate(t)
	requestURI := g.portal.requestURI(nil)
	browser := g.browser()
	first, second := g.load(browser, requestURI), g.load(browser, requestURI)
	g.post(browser, second, "").callback(t)
	for _, page := range []string{first, second} {
		if a := g.get(browser, page); a.status != http.StatusGone {
			t.Errorf("a page of an ended request: %d", a.status)
		}
		for _, form := range []string{"", "refuse=cancelled"} {
			if a := g.post(browser, page, form); a.status != http.StatusGone || a.header.Get("Location") != "" {
				t.Errorf("ended again by %q: %d %s", form, a.status, a.header.Get("Location"))
			}
		}
	}
	if a := g.get(browser, authorizePath("portal", requestURI)); a.status != http.StatusGone {
		t.Errorf("loaded after its end: %d", a.status)
	}
}

func TestParallelEndsGiveOneCode(t *testing.T) {
	g := newGate(t)
	requestURI := g.portal.requestURI(nil)
	browser := g.browser()
	pages := []string{g.load(browser, requestURI), g.load(browser, requestURI)}
	var codes, gone atomic.Int32
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			switch a := g.post(browser, pages[i%2], ""); a.status {
			case http.StatusSeeOther:
				codes.Add(1)
			case http.StatusGone:
				gone.Add(1)
			}
		})
	}
	all.Wait()
	if codes.Load() != 1 || gone.Load() != 15 {
		t.Errorf("%d codes, %d refused", codes.Load(), gone.Load())
	}
}

func TestAuthorizeRefuses(t *testing.T) {
	g := newGate(t)
	requestURI := g.portal.requestURI(nil)
	for name, path := range map[string]string{
		"nothing":               "/authorize",
		"no request_uri":        "/authorize?client_id=portal",
		"a bare request":        "/authorize?client_id=portal&response_type=code&scope=openid&redirect_uri=" + url.QueryEscape(callback) + "&login_hint=" + customer,
		"no client_id":          "/authorize?request_uri=" + url.QueryEscape(requestURI),
		"unknown request_uri":   authorizePath("portal", "urn:ietf:params:oauth:request_uri:x"),
		"foreign request_uri":   authorizePath("portal", "https://evil.example/request.jwt"),
		"another client":        authorizePath("other", requestURI),
		"unknown client":        authorizePath("nobody", requestURI),
		"two client_id":         authorizePath("portal", requestURI) + "&client_id=portal",
		"two request_uri":       authorizePath("portal", requestURI) + "&request_uri=x",
		"malformed":             authorizePath("portal", requestURI) + "&x=%zz",
		"a query beyond bounds": authorizePath("portal", requestURI) + "&x=" + strings.Repeat("x", 64<<10),
	} {
		a := g.get(g.browser(), path)
		if a.status != http.StatusGone || a.header.Get("Location") != "" || a.header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %d %v", name, a.status, a.header)
		}
	}
	g.load(g.browser(), requestURI) // none of it has used the request up
}

func TestRequestURIExpires(t *testing.T) {
	g := newGate(t)
	requestURI := g.portal.requestURI(nil)
	g.advance(89 * time.Second)
	browser := g.browser()
	page := g.load(browser, requestURI)
	g.advance(2 * time.Second)
	if a := g.get(g.browser(), authorizePath("portal", requestURI)); a.status != http.StatusGone {
		t.Errorf("loaded after 91 s: %d", a.status)
	}
	// Whoever came in time has ten minutes, not what is left of the 90 s.
	g.advance(9 * time.Minute)
	if a := g.get(browser, page); a.status != http.StatusOK {
		t.Errorf("the page after 9 minutes: %d", a.status)
	}
	g.advance(time.Minute)
	for _, a := range []answer{g.get(browser, page), g.post(browser, page, "")} {
		if a.status != http.StatusGone {
			t.Errorf("the page after 10 minutes: %d", a.status)
		}
	}
}

func TestLoadsAreBounded(t *testing.T) {
	g := newGate(t)
	requestURI := g.portal.requestURI(nil)
	browser := g.browser()
	var page string
	for range 16 {
		page = g.load(browser, requestURI)
	}
	if a := g.get(browser, authorizePath("portal", requestURI)); a.status != http.StatusGone || a.header.Get("Set-Cookie") != "" {
		t.Errorf("a 17th load: %d", a.status)
	}
	g.post(browser, page, "").callback(t)
}

func TestPromptNone(t *testing.T) {
	g := newGate(t)
	requestURI := g.portal.requestURI(map[string]string{"prompt": "none"})
	browser := g.browser()
	got := g.get(browser, authorizePath("portal", requestURI)).callback(t)
	if got.Get("error") != "login_required" || got.Get("state") != "the state" || got.Get("iss") != g.URL {
		t.Errorf("%v", got)
	}
	if a := g.get(browser, authorizePath("portal", requestURI)); a.status != http.StatusGone {
		t.Errorf("a second time: %d", a.status)
	}
}

func TestUnknownPage(t *testing.T) {
	g := newGate(t)
	for _, id := range []string{"x", strings.Repeat("A", 26), strings.Repeat("x", 2000), "%00"} {
		if a := g.get(g.browser(), "/otp/"+id); a.status != http.StatusGone {
			t.Errorf("%.30q: %d", id, a.status)
		}
	}
}

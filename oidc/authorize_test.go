package oidc_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"otpgate/internal/store"
	"otpgate/oidc"
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
		"too many parameters":   authorizePath("portal", requestURI) + strings.Repeat("&x=", 63),
		"a query beyond bounds": authorizePath("portal", requestURI) + "&x=" + strings.Repeat("x", 64<<10),
	} {
		a := g.get(g.browser(), path)
		if a.status != http.StatusGone || a.header.Get("Location") != "" || a.header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %d %v", name, a.status, a.header)
		}
	}
	form := strings.TrimPrefix(authorizePath("portal", requestURI), "/authorize?")
	for name, form := range map[string]string{
		"nothing": "", "two client_id": form + "&client_id=portal", "too many parameters": form + strings.Repeat("&x=", 63),
		"beyond bounds": form + "&x=" + strings.Repeat("x", 64<<10),
	} {
		if a := g.post(g.browser(), "/authorize", form); a.status != http.StatusGone || a.header.Get("Set-Cookie") != "" {
			t.Errorf("posted, %s: %d %v", name, a.status, a.header)
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

// A page that can't be had now is not told as one that is gone.
func TestAuthorizeWhileTheStoreFails(t *testing.T) {
	for _, fault := range []error{store.ErrFull, errors.New("broken")} {
		broken := &brokenPassing{}
		g := newGate(t, func(g *gate) { broken.Passing = g.passing; g.passing = broken })
		requestURI := g.portal.requestURI(nil)
		broken.fault.Store(&fault)
		a := g.get(g.browser(), authorizePath("portal", requestURI))
		if a.status != http.StatusServiceUnavailable || a.header.Get("Location") != "" || a.header.Get("Set-Cookie") != "" {
			t.Errorf("%v: %d %v", fault, a.status, a.header)
		}
		broken.fault.Store(nil)
		g.load(g.browser(), requestURI)
	}
}

// brokenPassing fails while it has a fault.
type brokenPassing struct {
	store.Passing
	fault atomic.Pointer[error]
}

func (p *brokenPassing) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if fault := p.fault.Load(); fault != nil {
		return *fault
	}
	return p.Passing.Put(ctx, key, value, ttl)
}

func (p *brokenPassing) Get(ctx context.Context, key string) ([]byte, error) {
	if fault := p.fault.Load(); fault != nil && !errors.Is(*fault, store.ErrFull) {
		return nil, *fault
	}
	return p.Passing.Get(ctx, key)
}

// When the request ends, so do the cookies of all its loads in this browser.
func TestCookiesEndWithTheRequest(t *testing.T) {
	g := newGate(t)
	origin, err := url.Parse(g.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{"", "refuse=cancelled"} {
		browser, requestURI := g.browser(), g.portal.requestURI(nil)
		other := g.load(browser, g.portal.requestURI(nil))
		g.load(browser, requestURI)
		page := g.load(browser, requestURI)
		if n := len(browser.Jar.Cookies(origin)); n != 3 {
			t.Fatalf("%d cookies before", n)
		}
		a := g.post(browser, page, form)
		a.callback(t)
		var left []string
		for _, c := range browser.Jar.Cookies(origin) {
			left = append(left, "/otp/"+strings.TrimPrefix(c.Name, "__Host-otpgate-"))
		}
		slices.Sort(left)
		if want := slices.Sorted(slices.Values([]string{page, other})); !slices.Equal(left, want) {
			t.Errorf("after %q: %v, want %v", form, left, want)
		}
		// The one of the page that was answered outlives it by a second press.
		for _, line := range a.header.Values("Set-Cookie") {
			if c, err := http.ParseSetCookie(line); err != nil || strings.HasSuffix(page, c.Name[len("__Host-otpgate-"):]) && c.MaxAge != 10 {
				t.Errorf("after %q: %s (%v)", form, line, err)
			}
		}
		g.post(browser, other, "").callback(t) // another request is not touched
	}
}

// The code that was typed is used up, so its browser must not be needed to make
// use of that.
func TestBrowserThatLeavesHasPassed(t *testing.T) {
	g := newGate(t)
	browser := g.browser()
	page := g.load(browser, g.portal.requestURI(nil))
	origin, err := url.Parse(g.URL)
	if err != nil {
		t.Fatal(err)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	r := httptest.NewRequestWithContext(gone, http.MethodPost, g.URL+page, nil)
	for _, c := range browser.Jar.Cookies(origin) {
		r.AddCookie(c)
	}
	location, err := g.provider.Accept(httptest.NewRecorder(), r, strings.TrimPrefix(page, "/otp/"), *g.result.Load())
	if err != nil {
		t.Fatal(err)
	}
	if a := g.get(browser, page); a.status != http.StatusGone {
		t.Errorf("the request is still open: %d", a.status)
	}
	u, err := url.Parse(location)
	if err != nil {
		t.Fatal(err)
	}
	if a := g.portal.redeem(u.Query().Get("code"), nil); a.status != http.StatusOK {
		t.Errorf("its code: %d %s", a.status, a.body)
	}
}

// Of two presses the browser shows the answer to the second.
func TestSecondPress(t *testing.T) {
	g := newGate(t)
	press := func(form string) (page string, first answer, second func() answer) {
		browser := g.browser()
		page = g.load(browser, g.portal.requestURI(nil))
		// The second may come after the first was answered: the page is there while
		// the portal's loads.
		return page, g.post(browser, page, form), func() answer { return g.post(browser, page, "second=1") }
	}

	page, first, second := press("refuse=cancelled")
	if a := second(); a.header.Get("Location") != first.header.Get("Location") || a.callback(t).Get("error") != "access_denied" {
		t.Errorf("cancelled: sent to %s, then to %s", first.header.Get("Location"), a.header.Get("Location"))
	}
	if a := g.post(g.browser(), page, "second=1"); a.status != http.StatusGone {
		t.Errorf("cancelled, another browser: %d %s", a.status, a.header.Get("Location"))
	}

	page, first, second = press("")
	first.callback(t)
	if a := second(); a.header.Get("Location") != first.header.Get("Location") {
		t.Errorf("sent to %s, then to %s", first.header.Get("Location"), a.header.Get("Location"))
	}
	if a := g.post(g.browser(), page, "second=1"); a.status != http.StatusGone || a.header.Get("Location") != "" {
		t.Errorf("another browser: %d %s", a.status, a.header.Get("Location"))
	}
	code := first.callback(t).Get("code")
	if a := g.portal.redeem(code, nil); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := second(); a.status != http.StatusGone {
		t.Errorf("after the code was redeemed: %d %s", a.status, a.header.Get("Location"))
	}

	for _, form := range []string{"", "refuse=locked"} {
		_, _, second = press(form)
		g.advance(10 * time.Second)
		if a := second(); a.status != http.StatusGone {
			t.Errorf("10 s after %q: %d %s", form, a.status, a.header.Get("Location"))
		}
	}

	browser := g.browser()
	page = g.load(browser, g.portal.requestURI(nil))
	if a := g.post(browser, page, "second=1"); a.status != http.StatusGone {
		t.Errorf("before the first: %d", a.status)
	}
}

func TestUnknownPage(t *testing.T) {
	g := newGate(t)
	known := strings.TrimPrefix(g.load(g.browser(), g.portal.requestURI(nil)), "/otp/")
	known = known[:len(known)-1]
	for _, id := range []string{
		"x", strings.Repeat("A", 26), strings.Repeat("x", 2000), "%00", known, known + "1", known + "-0", known + "00", known + "+0",
		strings.Repeat("%00", 43) + "-0", strings.Repeat("A", 43) + "-0",
	} {
		if a := g.get(g.browser(), "/otp/"+id); a.status != http.StatusGone {
			t.Errorf("%.30q: %d", id, a.status)
		}
	}
}

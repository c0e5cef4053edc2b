package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	cdpnetwork "github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"otpgate/internal/admin"
	"otpgate/verifier"
	"otpgate/verifier/otp"
)

// journey is a gateway, a portal that notes what it gets, and a browser.
type journey struct {
	browser
	site   site
	portal *httptest.Server
	client *http.Client // the portal's

	mu    sync.Mutex // guards the rest: the portal is concurrent
	got   []string   // what came to the redirect URI: an error, or "code"
	slow  time.Duration
	codes []string // that were typed
}

// newJourney starts all three.
func newJourney(t *testing.T) *journey {
	t.Helper()
	chromium := needPeer(t, "chromium", "chromium")
	j := &journey{}
	j.portal = httptest.NewServer(http.HandlerFunc(j.serve))
	t.Cleanup(j.portal.Close)
	j.site = newSite(t, "", fmt.Sprintf(`  clients:
    - id: portal
      realm: retail
      redirect_uris: [%s/callback]
      profile: oidc
      auth: client_secret_post
      secrets: [{ file: portal.secret }]
`, j.portal.URL))
	write(t, filepath.Join(j.site.dir, "portal.secret"), portalSecret+"\n")
	j.site.serve(t)
	j.client = &http.Client{Transport: &http.Transport{TLSClientConfig: j.site.clientTLS(t)}}
	j.browser = openBrowser(t, chromium)
	return j
}

const portalSecret = "of the journey's portal, 32 characters"

// in is j for a subtest.
func (j *journey) run(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	was := j.browser
	t.Run(name, func(t *testing.T) {
		j.browser = was.in(t)
		j.mu.Lock()
		j.got, j.slow = nil, 0
		j.mu.Unlock()
		test(t)
	})
	j.browser = was
}

// serve is the portal: a home, and where the gateway's answers go.
func (j *journey) serve(w http.ResponseWriter, r *http.Request) {
	page := "home"
	switch r.URL.Path {
	case "/callback":
		page = r.URL.Query().Get("error")
		if r.URL.Query().Get("code") != "" {
			page = "code"
		}
		j.mu.Lock()
		j.got = append(j.got, page)
		slow := j.slow
		j.mu.Unlock()
		time.Sleep(slow)
	case "/foreign": // a form that is not the gateway's
		page = fmt.Sprintf(`foreign<form method="post" action=%q><input name="code" value="123456"><button>go</button></form>`, r.URL.Query().Get("to"))
		_, _ = io.WriteString(w, "<!DOCTYPE html><title>foreign</title>"+page)
		return
	}
	_, _ = io.WriteString(w, "<!DOCTYPE html><title>portal: "+page+"</title><body><h1>"+page+"</h1>")
}

// answers are what the portal got.
func (j *journey) answers() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.got, " ")
}

// customer is one of the realm's, with a token unless it has no key.
type customer struct {
	name   string
	key    []byte
	serial string
}

func (j *journey) hire(t *testing.T, name string) customer {
	t.Helper()
	c := customer{name: name, key: make([]byte, 20)}
	_, _ = rand.Read(c.key)
	if _, err := j.site.client().AddUser(t.Context(), admin.NewUser{Realm: "retail", Name: name}); err != nil {
		t.Fatal(err)
	}
	token, err := j.site.client().CreateToken(t.Context(), admin.NewToken{Realm: "retail", User: name, Key: c.key, Carrier: verifier.Software, InService: true})
	if err != nil {
		t.Fatal(err)
	}
	c.serial = token.Serial
	return c
}

// code is the customer's current one.
func (c customer) code() string {
	params := otp.Params{Type: otp.TOTP, Algorithm: otp.SHA1, Digits: 6, Period: 60}
	return otp.NewGenerator(c.key, params).Code(params.Step(time.Now()))
}

// wrong is the nth of codes that aren't the customer's.
func (c customer) wrong(n int) string {
	params := otp.Params{Type: otp.TOTP, Algorithm: otp.SHA1, Digits: 6, Period: 60}
	now, generator := params.Step(time.Now()), otp.NewGenerator(c.key, params)
	code := fmt.Sprintf("%06d", 111111+n)
	for step := now - 60; step <= now+60; step++ {
		if generator.Code(step) == code {
			return c.wrong(n + 1000)
		}
	}
	return code
}

// begin pushes a log-in of the customer and returns where the browser begins.
func (j *journey) begin(name string) string {
	j.t.Helper()
	form := pushForm()
	form.Set("client_secret", portalSecret)
	form.Set("redirect_uri", j.portal.URL+"/callback")
	form.Set("login_hint", name)
	form.Set("state", rand.Text())
	form.Set("ui_locales", "en")
	gateway := "https://localhost:" + port(j.site.https)
	response, err := j.client.PostForm(gateway+"/par", form)
	if err != nil {
		j.t.Fatal(err)
	}
	defer response.Body.Close()
	var pushed struct {
		URI string `json:"request_uri"`
	}
	if err := json.NewDecoder(response.Body).Decode(&pushed); err != nil || pushed.URI == "" {
		j.t.Fatalf("%s: %v", response.Status, err)
	}
	return gateway + "/authorize?" + url.Values{"client_id": {"portal"}, "request_uri": {pushed.URI}}.Encode()
}

func (j *journey) open(address string) { j.t.Helper(); j.do(chromedp.Navigate(address)) }

// try types a code and presses the button.
func (j *journey) try(code string) {
	j.t.Helper()
	j.codes = append(j.codes, code)
	j.submit(chromedp.SendKeys(chromedp.CSS("#code"), code), chromedp.Click(onlyButton))
}

func (j *journey) wantHeading(want string) {
	j.t.Helper()
	if got := j.text("h1"); got != want {
		j.t.Errorf("the browser is at %s: %q, want %q", j.location(), got, want)
	}
}

// wantHome goes home by the link of a page that can't go back by itself.
func (j *journey) wantHome(heading string) {
	j.t.Helper()
	j.wantHeading(heading)
	j.submit(chromedp.Click(chromedp.CSS("a.primary")))
	j.wantHeading("home")
}

func (j *journey) wantAnswers(want string) {
	j.t.Helper()
	if got := j.answers(); got != want {
		j.t.Errorf("the portal got %q, want %q", got, want)
	}
}

// failures are the customer's wrong tries in a row.
func (j *journey) failures(t *testing.T, c customer) int {
	t.Helper()
	account, err := j.site.client().Account(t.Context(), "retail", c.name)
	if err != nil {
		t.Fatal(err)
	}
	return account.Failures
}

const (
	codeHeading  = "Enter your one‑time password"
	goneHeading  = "This page can no longer be used"
	otherHeading = "You cannot continue in this browser"
	lockHeading  = "Your one‑time password is locked"
)

// TestJourney3 goes every way that a log-in can go, in a real browser.
func TestJourney3(t *testing.T) {
	j := newJourney(t)
	usual := j.hire(t, "10000000001")

	j.run(t, "back, after it has ended", func(t *testing.T) {
		j.open(j.begin(usual.name))
		j.try(usual.code())
		j.wantHeading("code")
		j.do(chromedp.NavigateBack())
		j.wantHome(goneHeading)
		j.wantAnswers("code")
	})

	j.run(t, "reload costs nothing", func(t *testing.T) {
		c := j.hire(t, "10000000002")
		j.open(j.begin(c.name))
		j.try(c.wrong(1))
		j.do(chromedp.Reload(), chromedp.Reload())
		j.wantHeading(codeHeading)
		if n := j.failures(t, c); n != 1 {
			t.Errorf("one wrong code and two reloads count as %d", n)
		}
	})

	j.run(t, "two tabs: one gets in, the other is told", func(t *testing.T) {
		c := j.hire(t, "10000000003")
		begin := j.begin(c.name)
		j.open(begin)
		other := j.location()
		j.open(begin)
		if j.location() == other {
			t.Error("two loads have one address")
		}
		j.try(c.code())
		j.wantAnswers("code")
		j.open(other)
		j.wantHome(goneHeading)
		j.open(begin) // the address that the portal gave is used up as well
		j.wantHome(goneHeading)
	})

	j.run(t, "two log-ins at once don't disturb each other", func(t *testing.T) {
		c, d := j.hire(t, "10000000004"), j.hire(t, "10000000005")
		j.open(j.begin(c.name))
		first := j.location()
		j.open(j.begin(d.name))
		j.try(d.code())
		j.open(first)
		j.wantHeading(codeHeading)
		j.try(c.code())
		j.wantAnswers("code code")
	})

	j.run(t, "no cookies", func(t *testing.T) {
		c := j.hire(t, "10000000006")
		j.open(j.begin(c.name))
		j.do(forgetCookies())
		j.submit(chromedp.SendKeys(chromedp.CSS("#code"), c.code()), chromedp.Click(onlyButton))
		j.wantHome(otherHeading)
		j.wantAnswers("")
	})

	j.run(t, "double click on a wrong code is one try", func(t *testing.T) {
		c := j.hire(t, "10000000007")
		j.open(j.begin(c.name))
		j.submit(chromedp.SendKeys(chromedp.CSS("#code"), c.wrong(1)), chromedp.DoubleClick(onlyButton))
		j.do(chromedp.WaitReady(chromedp.CSS(".error-summary")))
		if n := j.failures(t, c); n != 1 {
			t.Errorf("it counts as %d", n)
		}
	})

	j.run(t, "pressed again while the portal's page is loading", func(t *testing.T) {
		c := j.hire(t, "10000000008")
		for _, press := range []struct {
			name, want string
			button     chromedp.CSS
		}{{"the code's", "code", onlyButton}, {"cancel", "access_denied", cancelButton}} {
			j.mu.Lock()
			j.got, j.slow = nil, 700*time.Millisecond
			j.mu.Unlock()
			j.open(j.begin(c.name))
			// By the page's own button, since the test's tool waits for the load to end.
			twice := fmt.Sprintf(`{ const button = document.querySelector(%q); button.click(); setTimeout(() => button.click(), 350) }`, press.button)
			j.do(chromedp.SendKeys(chromedp.CSS("#code"), c.code()), chromedp.Evaluate[chromedp.Void](twice))
			for deadline := time.Now().Add(5 * time.Second); !strings.HasPrefix(j.location(), j.portal.URL) && time.Now().Before(deadline); {
				time.Sleep(50 * time.Millisecond)
			}
			j.wantHeading(press.want)
			if got := j.answers(); got != press.want+" "+press.want {
				t.Errorf("%s button: the portal got %q", press.name, got)
			}
		}
	})

	j.run(t, "cancel", func(t *testing.T) {
		j.open(j.begin(usual.name))
		j.submit(chromedp.Click(cancelButton))
		j.wantHeading("access_denied")
		j.do(chromedp.NavigateBack())
		j.wantHome(goneHeading)
		j.wantAnswers("access_denied")
	})

	j.run(t, "warned, then locked", func(t *testing.T) {
		c := j.hire(t, "10000000009")
		j.open(j.begin(c.name))
		for n := range 10 {
			if warned := strings.Contains(j.text("main"), "will be locked"); warned != (n >= 7) {
				t.Errorf("after %d wrong codes: warned of the lock: %v", n, warned)
			}
			j.try(c.wrong(n))
		}
		j.wantHeading(lockHeading)
		j.do(chromedp.Reload())
		j.wantHeading(lockHeading)
		j.submit(chromedp.Click(onlyButton))
		j.wantHeading("access_denied")

		j.open(j.begin(c.name)) // whoever comes back is told at once
		j.wantHeading(lockHeading)
	})

	j.run(t, "no usable token", func(t *testing.T) {
		c := j.hire(t, "10000000010")
		if _, err := j.site.client().StepToken(t.Context(), c.serial, "suspend", admin.Step{Reason: "lost"}); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"nobody", c.name} {
			j.open(j.begin(name))
			j.wantHeading("unmet_authentication_requirements")
		}
	})

	j.run(t, "a form of another site has no effect", func(t *testing.T) {
		c := j.hire(t, "10000000011")
		j.open(j.begin(c.name))
		page := j.location()
		j.open(j.portal.URL + "/foreign?to=" + url.QueryEscape(page))
		j.submit(chromedp.Click(chromedp.CSS("button")))
		j.wantHome("What was sent was not accepted")
		if n := j.failures(t, c); n != 0 {
			t.Errorf("it counts as %d wrong tries", n)
		}
		j.open(page)
		j.try(c.code())
		j.wantAnswers("code")
	})

	for _, code := range j.codes { // six digits in a time or a port would be a coincidence
		if strings.Contains(j.site.logged(t), code) {
			t.Errorf("the code %s stands in the log", code)
		}
	}
}

// cancelButton is the way out of the code page.
const cancelButton = chromedp.CSS("button.secondary")

// forgetCookies is what a browser is like that keeps none.
func forgetCookies() chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, cdpnetwork.ClearBrowserCookies, cdp.Empty{})
		return err
	})
}

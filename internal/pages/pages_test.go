package pages

import (
	"bytes"
	"context"
	"errors"
	"html"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"otpgate/verifier"
)

const (
	code   = "287082" // right for the bench's customer
	portal = "https://bank.example"
)

// start is the bench's time: 14:00 in the machine's zone.
var start = time.Date(2026, 11, 22, 14, 0, 0, 0, time.Local)

// bench is a gateway as the pages see it: one open request ("r1") of one
// customer, whose right code is code.
type bench struct {
	mux     *http.ServeMux
	portals map[string]Portal // of the Pages
	log     bytes.Buffer

	mu       sync.Mutex // guards what follows: the browser test is concurrent
	open     bool
	request  Request
	pending  error // returned by Pending if set
	again    bool  // the request was accepted a moment ago
	ended    string
	state    verifier.ServiceState
	stateErr error
	opens    time.Time          // of a lock
	admitted []verifier.Attempt // what Admit was asked
	result   verifier.Result    // for a code that isn't right
	verify   error
	attempts []verifier.Attempt
	ahead    time.Duration // of start
	slow     time.Duration // what a try takes
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{
		mux: http.NewServeMux(), portals: map[string]Portal{
			"portal": {Realm: "retail", Home: portal + "/"}, "vpn": {Realm: "staff", Home: "https://vpn.example/"},
		},
		open: true, state: verifier.ServiceInService,
		request: Request{
			ID: "r1", Realm: "retail", User: "secret-customer", Client: "portal", Portal: portal,
			Expires: start.Add(5 * time.Minute),
		},
		result: verifier.Result{Outcome: verifier.Wrong, TriesLeft: 9},
	}
	p := &Pages{
		Requests: (*benchRequests)(b), Gate: (*benchGate)(b),
		Logger: slog.New(slog.NewTextHandler(&b.log, nil)),
		Now: func() time.Time {
			b.mu.Lock()
			defer b.mu.Unlock()
			return start.Add(b.ahead)
		},
		Portals: b.portals,
		Realms: map[string]Realm{
			"retail": {
				Name: map[string]string{"ja": "見本信用組合", "en": "Example Credit Union"}, Digits: 6,
				Details: map[string]DetailType{"payment": payment()},
			},
			"staff": {Name: map[string]string{"ja": "<b>行内</b>"}, Digits: 8, Accent: "#ffd400"},
		},
	}
	p.Mount(b.mux)
	return b
}

type benchRequests bench

func (b *benchRequests) Pending(_ *http.Request, id string) (Request, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pending != nil {
		return Request{}, b.pending
	}
	if !b.open || id != b.request.ID {
		return Request{}, ErrNoRequest
	}
	return b.request, nil
}

func (b *benchRequests) Accept(_ http.ResponseWriter, _ *http.Request, id string, result verifier.Result) (string, error) {
	return b.end(id, string(result.Outcome))
}

func (b *benchRequests) Refuse(_ http.ResponseWriter, _ *http.Request, id string, why Refusal) (string, error) {
	return b.end(id, string(why))
}

func (b *benchRequests) Answered(_ *http.Request, id string) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.again || id != b.request.ID {
		return "", ErrNoRequest
	}
	end := b.ended
	if end == "" {
		end = "accepted" // elsewhere
	}
	return b.request.Portal + "/back?end=" + end, nil
}

func (b *benchRequests) end(id, how string) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open || id != b.request.ID {
		return "", ErrNoRequest
	}
	b.open, b.ended = false, how
	return b.request.Portal + "/back?end=" + how, nil
}

type benchGate bench

func (b *benchGate) Admit(ctx context.Context, a verifier.Attempt) (verifier.ServiceState, error) {
	b.mu.Lock()
	b.admitted = append(b.admitted, a)
	b.mu.Unlock()
	return b.State(ctx, a.Realm, a.User)
}

func (b *benchGate) OpensAt(_ context.Context, realm, user string) (time.Time, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if realm != b.request.Realm || user != b.request.User {
		return time.Time{}, errors.New("bench: another user was asked for")
	}
	return b.opens, nil
}

func (b *benchGate) State(_ context.Context, realm, user string) (verifier.ServiceState, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if realm != b.request.Realm || user != b.request.User {
		return "", errors.New("bench: another user was asked for")
	}
	return b.state, b.stateErr
}

func (b *benchGate) Verify(_ context.Context, a verifier.Attempt) (verifier.Result, error) {
	time.Sleep(b.slow)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.attempts = append(b.attempts, a)
	if b.verify != nil {
		return verifier.Result{}, b.verify
	}
	if b.result.Outcome != verifier.Locked && a.Match(code) {
		return verifier.Result{Outcome: verifier.Accepted}, nil
	}
	if b.result.Locked {
		b.state = verifier.ServiceLocked
	}
	return b.result, nil
}

func (b *bench) get(path string, header ...string) *httptest.ResponseRecorder {
	return b.do(http.MethodGet, path, "", header...)
}

// post sends the page's form as a browser does.
func (b *bench) post(path, typed string, header ...string) *httptest.ResponseRecorder {
	header = append([]string{"Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin"}, header...)
	return b.do(http.MethodPost, path, url.Values{"code": {typed}}.Encode(), header...)
}

func (b *bench) do(method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "https://otp.example"+path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	b.mux.ServeHTTP(w, r)
	return w
}

// text is what a reader of the page sees, without tags.
func text(w *httptest.ResponseRecorder) string {
	s := regexp.MustCompile(`<[^>]*>`).ReplaceAllString(w.Body.String(), "")
	return html.UnescapeString(s)
}

// try posts the form and follows a redirect to our own page.
func (b *bench) try(path, typed string) *httptest.ResponseRecorder {
	w := b.post(path, typed)
	if to := w.Header().Get("Location"); w.Code == http.StatusSeeOther && strings.HasPrefix(to, "/otp/") {
		return b.get(to)
	}
	return w
}

func wantStatus(t *testing.T, w *httptest.ResponseRecorder, status int) {
	t.Helper()
	if w.Code != status {
		t.Errorf("status %d, want %d; page:\n%s", w.Code, status, text(w))
	}
}

func wantText(t *testing.T, w *httptest.ResponseRecorder, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text(w), part) {
			t.Errorf("page doesn't say %q:\n%s", part, text(w))
		}
	}
}

func wantNoText(t *testing.T, w *httptest.ResponseRecorder, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if strings.Contains(w.Body.String(), part) {
			t.Errorf("page has %q in it:\n%s", part, w.Body)
		}
	}
}

func wantPortal(t *testing.T, b *bench, w *httptest.ResponseRecorder, end string) {
	t.Helper()
	wantStatus(t, w, http.StatusSeeOther)
	if got, want := w.Header().Get("Location"), portal+"/back?end="+end; got != want {
		t.Errorf("sent to %q, want %q", got, want)
	}
	if b.ended != end {
		t.Errorf("request ended as %q, want %q", b.ended, end)
	}
}

func wantOpen(t *testing.T, b *bench) {
	t.Helper()
	if !b.open {
		t.Errorf("the request has ended (%s), want it still open", b.ended)
	}
}

func TestCodePageSaysWhatToDo(t *testing.T) {
	b := newBench(t)
	w := b.get("/otp/r1")
	wantStatus(t, w, http.StatusOK)
	wantText(t, w, "見本信用組合", "ワンタイムパスワードの入力", "6桁", "約5分後に無効", "窓口へご連絡ください")
	wantNoText(t, w, "エラー", "secret-customer", "<script", "style=", "14:0", "14時") // in whose zone?
	wantOpen(t, b)

	w = b.get("/otp/r1?lang=en")
	wantText(t, w, "Example Credit Union", "6 digits", "about 5 minutes left", "contact your branch")
}

func TestCodePageOnlyInService(t *testing.T) {
	for _, state := range []verifier.ServiceState{
		verifier.ServiceNone, verifier.ServiceApplied, verifier.ServiceIssued, verifier.ServiceSuspended, verifier.ServiceReleased,
	} {
		b := newBench(t)
		b.state = state
		wantPortal(t, b, b.get("/otp/r1"), "no_token")
		wantAdmitAsked(t, b)
	}
}

// wantAdmitAsked checks that the gate knows of a customer who was turned away:
// it puts that in the audit log.
func wantAdmitAsked(t *testing.T, b *bench) {
	t.Helper()
	if len(b.admitted) != 1 {
		t.Fatalf("%s: the gate was asked %d times whether to admit, want once", b.state, len(b.admitted))
	}
	a := b.admitted[0]
	if a.Realm != b.request.Realm || a.User != "secret-customer" || a.Client != "portal" || a.Door != "oidc" || a.From != "192.0.2.1" {
		t.Errorf("%s: the gate was asked to admit %+v", b.state, a)
	}
}

func TestUnknownStateFailsClosed(t *testing.T) {
	b := newBench(t)
	b.state = "surprise"
	wantStatus(t, b.get("/otp/r1"), http.StatusServiceUnavailable)
	wantOpen(t, b)
}

func TestRightCodeGoesToPortal(t *testing.T) {
	for _, typed := range []string{code, "２８７０８２", "287 082", " 287-082\t"} {
		b := newBench(t)
		wantPortal(t, b, b.post("/otp/r1", typed, "X-Forwarded-For", "9.9.9.9"), "accepted")
		a := b.attempts[0]
		if a.Realm != "retail" || a.User != "secret-customer" || a.Client != "portal" || a.Door != "oidc" || a.From != "192.0.2.1" {
			t.Errorf("%q: gate was asked for %+v", typed, a)
		}
		// Back button, second tab, double click: no second answer.
		wantStatus(t, b.post("/otp/r1", typed), http.StatusNotFound)
		if len(b.attempts) != 1 {
			t.Errorf("%q: gate was asked %d times, want once", typed, len(b.attempts))
		}
	}
}

// The browser drops the answer to the first press when the button is pressed
// again. The first may be over by then, or still under way.
func TestSecondPressIsAnsweredLikeTheFirst(t *testing.T) {
	b := newBench(t)
	wantPortal(t, b, b.post("/otp/r1", code), "accepted")
	b.again = true
	wantPortal(t, b, b.post("/otp/r1", code), "accepted")
	if len(b.attempts) != 1 {
		t.Errorf("the gate was asked %d times, want once", len(b.attempts))
	}
	// Whoever comes back by another way has finished.
	wantStatus(t, b.get("/otp/r1"), http.StatusNotFound)

	b = newBench(t)
	wantPortal(t, b, b.post("/otp/r1/cancel", ""), "cancelled")
	b.again = true
	wantPortal(t, b, b.post("/otp/r1/cancel", ""), "cancelled")

	b = newBench(t)
	b.again, b.result = true, verifier.Result{Outcome: verifier.Replayed, TriesLeft: 9}
	if to := b.post("/otp/r1", "111111").Header().Get("Location"); to != portal+"/back?end=accepted" {
		t.Errorf("sent to %q", to)
	}
}

// What is expired, ended or another browser's can't be sent to the portal any more,
// but is shown the way there.
func TestTheWayHome(t *testing.T) {
	b := newBench(t)
	home := func(w *httptest.ResponseRecorder) string {
		link := regexp.MustCompile(`<a class="(?:primary|secondary)" href="(https[^"]+)">([^<]+)</a>`).FindStringSubmatch(w.Body.String())
		if link == nil {
			return ""
		}
		return link[2] + ": " + link[1]
	}
	for path, want := range map[string]string{
		Address("r2", "portal") + "&lang=en": "Go to the Example Credit Union site: https://bank.example/",
		Address("r2", "portal"):              "見本信用組合のサイトに戻る: https://bank.example/",
		Address("r2", "vpn"):                 "&lt;b&gt;行内&lt;/b&gt;のサイトに戻る: https://vpn.example/",
		Address("r2", "nobody"):              "",
		Address("r2", ""):                    "",
		"/otp/r2?client_id=https%3A%2F%2Fevil.example&client_id=vpn": "",
		"/authorize?client_id=portal&request_uri=x":                  "見本信用組合のサイトに戻る: https://bank.example/",
	} {
		w := b.get(path)
		wantStatus(t, w, http.StatusNotFound)
		if got := home(w); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
		if want != "" {
			wantStatus(t, b.post(path, code), http.StatusNotFound)
		}
	}
	b.pending = ErrOtherBrowser
	if got := home(b.get(Address("r1", "portal"))); got == "" {
		t.Error("none for a browser without cookies")
	}
	b.pending = errors.New("store: closed")
	if got := home(b.get(Address("r1", "portal"))); got == "" {
		t.Error("none while nothing can be decided")
	}
}

// A form that leads nowhere any more must not stay where a code can be typed.
func TestCodePageGivesWayWhenItsTimeIsOver(t *testing.T) {
	b := newBench(t)
	b.ahead = 4*time.Minute + 30*time.Second
	if got, want := b.get("/otp/r1?lang=en").Header().Get("Refresh"), "31;url=/otp/r1?client_id=portal&lang=en"; got != want {
		t.Errorf("Refresh: %q, want %q", got, want)
	}
	b.state = verifier.ServiceLocked
	if got := b.get("/otp/r1").Header().Get("Refresh"); got != "" {
		t.Errorf("what to do about a lock is taken away while it is read: Refresh: %q", got)
	}
}

// One code typed once is one try, however often the button is pressed.
func TestSecondPressOfAWrongCodeCountsOnce(t *testing.T) {
	b := newBench(t)
	b.result.TriesLeft = 3
	first := b.post("/otp/r1", "111111").Header().Get("Location")
	b.result.TriesLeft = 2
	if again := b.post("/otp/r1", "１１１ １１１").Header().Get("Location"); again != first || len(b.attempts) != 1 {
		t.Errorf("sent to %s, then to %s, %d tries", first, again, len(b.attempts))
	}
	if to := b.post("/otp/r1?lang=en", "111111").Header().Get("Location"); to != strings.Replace(first, "=ja", "=en", 1) || len(b.attempts) != 1 {
		t.Errorf("in the other language: sent to %s, %d tries", to, len(b.attempts))
	}
	if other := b.post("/otp/r1", "111112").Header().Get("Location"); other == first || len(b.attempts) != 2 {
		t.Errorf("another code: sent to %s, %d tries", other, len(b.attempts))
	}
	b.ahead = pressLife
	if b.post("/otp/r1", "111111"); len(b.attempts) != 3 {
		t.Errorf("%s later: %d tries, want a new one", pressLife, len(b.attempts))
	}

	// What wasn't decided must be.
	b = newBench(t)
	b.verify = errors.New("store: a commit failed")
	wantStatus(t, b.post("/otp/r1", code), http.StatusServiceUnavailable)
	b.verify = nil
	wantPortal(t, b, b.post("/otp/r1", code), "accepted")
}

func TestParallelPressesAreOneTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.slow = time.Second
		const n = 16
		led := make(chan string, n)
		for range n {
			go func() { led <- b.post("/otp/r1", "111111").Header().Get("Location") }()
		}
		for range n {
			if to := <-led; to != "/otp/r1?client_id=portal&lang=ja&error=refused" {
				t.Errorf("led to %q", to)
			}
		}
		if len(b.attempts) != 1 {
			t.Errorf("%d tries, want 1", len(b.attempts))
		}
	})
}

func TestMisshapenCodeIsNoTry(t *testing.T) {
	for typed, say := range map[string]string{
		"":          "ワンタイムパスワードを入力してください",
		" 　":        "ワンタイムパスワードを入力してください",
		"28708":     "6桁の数字で入力してください",
		"2870821":   "6桁の数字で入力してください",
		"28708a":    "6桁の数字で入力してください",
		"٢٨٧٠٨٢":    "6桁の数字で入力してください", // digits, but not ours
		"28\x0070":  "6桁の数字で入力してください",
		`"><b>hi`:   "6桁の数字で入力してください",
		"２８７０８":     "6桁の数字で入力してください",
		"\xff\xfe2": "6桁の数字で入力してください",
	} {
		b := newBench(t)
		w := b.try("/otp/r1", typed)
		wantStatus(t, w, http.StatusOK)
		wantText(t, w, "エラー", say)
		wantNoText(t, w, "<b>hi", "28708")
		if len(b.attempts) != 0 {
			t.Errorf("%q: the gate was asked", typed)
		}
		wantOpen(t, b)
	}
}

func TestErrorIsTiedToTheField(t *testing.T) {
	b := newBench(t)
	page := b.try("/otp/r1", "1").Body.String()
	for _, part := range []string{
		"<title>エラー: ", `role="alert"`, `href="#code"`, `aria-describedby="code-error code-hint"`, `aria-invalid="true"`,
		`id="code-error"`, `id="code-hint"`, `inputmode="numeric"`, `autocomplete="one-time-code"`,
	} {
		if !strings.Contains(page, part) {
			t.Errorf("page has no %s", part)
		}
	}
	for _, part := range []string{"maxlength", "pattern=", "required"} {
		if strings.Contains(page, part) {
			t.Errorf("page has %s: it would refuse full-width digits or speak the browser's language", part)
		}
	}
}

// Nobody outside may learn why a code was not accepted, near the lock neither.
func TestNotAcceptedSaysTheSame(t *testing.T) {
	for left := range nearLock + 2 {
		wrong := notAccepted(t, verifier.Result{Outcome: verifier.Wrong, TriesLeft: left})
		if page := notAccepted(t, verifier.Result{Outcome: verifier.Replayed, TriesLeft: left}); page != wrong {
			t.Errorf("%d left: the answer to a used code differs from that to a wrong one:\n%s\n%s", left, page, wrong)
		}
	}
	wrong := notAccepted(t, verifier.Result{Outcome: verifier.Wrong, TriesLeft: nearLock + 1})
	for _, outcome := range []verifier.Outcome{verifier.Suspended, verifier.NotInService, verifier.NoToken, verifier.NoUser} {
		if page := notAccepted(t, verifier.Result{Outcome: outcome}); page != wrong {
			t.Errorf("%s: the answer differs from that to a wrong code:\n%s\n%s", outcome, page, wrong)
		}
	}
}

// notAccepted is all that the browser gets after a code that came to result:
// the address it is sent to, and the page there.
func notAccepted(t *testing.T, result verifier.Result) string {
	t.Helper()
	b := newBench(t)
	b.result = result
	to := b.post("/otp/r1", "111111").Header().Get("Location")
	w := b.get(to)
	wantStatus(t, w, http.StatusOK)
	wantText(t, w, "エラー", "受け付けられませんでした")
	wantNoText(t, w, "111111")
	wantOpen(t, b)
	if near := strings.Contains(w.Body.String(), "ロック"); near != (result.TriesLeft > 0 && result.TriesLeft <= nearLock) {
		t.Errorf("%d left: warned of the lock: %v", result.TriesLeft, near)
	}
	return to + "\n" + w.Body.String()
}

// A code that is right but far off: told like a wrong one, and what to do.
func TestNextCodeIsAskedFor(t *testing.T) {
	b := newBench(t)
	b.result = verifier.Result{Outcome: verifier.NextCode, TriesLeft: 2}
	to := b.post("/otp/r1", "111111").Header().Get("Location")
	if to != "/otp/r1?client_id=portal&lang=ja&error=next&left=2" {
		t.Errorf("sent to %q", to)
	}
	w := b.get(to)
	wantStatus(t, w, http.StatusOK)
	wantText(t, w, "エラー", "受け付けられませんでした", "次に表示されるもの", "あと2回")
	wantNoText(t, w, "111111")
	wantText(t, b.get("/otp/r1?lang=en&error=next"), "not accepted", "shows the next one, and enter that")

	// The next one must come in the same log-in.
	wantPortal(t, b, b.post("/otp/r1", code), "accepted")
	if first, second := b.attempts[0].Login, b.attempts[1].Login; first != "r1" || second != "r1" {
		t.Errorf("the gate was told of log-ins %q and %q", first, second)
	}

	b = newBench(t)
	b.result = verifier.Result{Outcome: verifier.NextCode, Locked: true}
	wantText(t, b.try("/otp/r1", "111111"), "ロックされています")
}

func TestNearLockIsSaid(t *testing.T) {
	b := newBench(t)
	b.result.TriesLeft = 3
	wantText(t, b.try("/otp/r1", "111111"), "あと3回")
	w := b.try("/otp/r1?lang=en", "222222")
	wantText(t, w, "After 3 more wrong entries")
	if !strings.Contains(w.Body.String(), `href="?client_id=portal&amp;error=refused&amp;lang=ja&amp;left=3"`) {
		t.Errorf("the language switch loses the error:\n%s", w.Body)
	}
	b.result.TriesLeft = 1
	wantText(t, b.try("/otp/r1?lang=en", "333333"), "After 1 more wrong entry,")
}

func TestForgedRefusalSaysNothingElse(t *testing.T) {
	b := newBench(t)
	for _, query := range []string{
		"error=refused&left=-1", "error=refused&left=0", "error=refused&left=4", "error=refused&left=99999999999999999999",
		"error=refused&left=%3Cb%3E", "error=%3Cb%3E&left=1", "error=title", "left=1",
	} {
		w := b.get("/otp/r1?" + query)
		wantStatus(t, w, http.StatusOK)
		wantNoText(t, w, "ロック", "<b>")
	}
}

func TestLastWrongCodeLocks(t *testing.T) {
	b := newBench(t)
	b.result = verifier.Result{Outcome: verifier.Wrong, Locked: true}
	w := b.try("/otp/r1", "111111")
	wantStatus(t, w, http.StatusForbidden)
	wantText(t, w, "ロックされています", "ロックの解除は、お取引店舗の窓口で")
	wantNoText(t, w, "111111", `name="code"`)

	// The page stays: on a reload, in the other language, from a second tab.
	b.result = verifier.Result{Outcome: verifier.Locked, Locked: true}
	wantText(t, b.get("/otp/r1?lang=en"), "is locked", "ask your branch to unlock it")
	wantText(t, b.try("/otp/r1", code), "ロックされています")
	wantOpen(t, b)

	// Its button leads to the portal, which learns why.
	form := regexp.MustCompile(`<form class="onward" method="post" action="([^"]+)"`).FindStringSubmatch(w.Body.String())
	if form == nil {
		t.Fatalf("no way back to the portal:\n%s", w.Body)
	}
	wantPortal(t, b, b.post(form[1], ""), "locked")
}

func TestLockThatOpensByItselfSaysSo(t *testing.T) {
	b := newBench(t)
	b.state, b.opens = verifier.ServiceLocked, start.Add(11*time.Minute+5*time.Second)
	w := b.get("/otp/r1")
	wantAdmitAsked(t, b)
	wantText(t, w, "約12分後に自動的に解除されます")
	wantNoText(t, w, "ロックの解除は")
	wantText(t, b.get("/otp/r1?lang=en"), "by itself in about 12 minutes")

	b.opens = start.Add(-time.Second) // just now
	wantText(t, b.get("/otp/r1?lang=en"), "by itself in about 1 minute.")
}

func TestCancelGoesToPortal(t *testing.T) {
	b := newBench(t)
	wantPortal(t, b, b.post("/otp/r1/cancel", ""), "cancelled")
	wantStatus(t, b.post("/otp/r1/cancel", ""), http.StatusNotFound)

	b = newBench(t)
	b.stateErr = errors.New("store: closed")
	wantPortal(t, b, b.post("/otp/r1/cancel", ""), "cancelled")

	// A reload of the page that answered: back to the code, nothing ended.
	b = newBench(t)
	w := b.get("/otp/r1/cancel?lang=en")
	wantStatus(t, w, http.StatusSeeOther)
	if got := w.Header().Get("Location"); got != "/otp/r1?lang=en" {
		t.Errorf("sent to %q", got)
	}
	wantOpen(t, b)
}

// An id is unescaped when it gets to us, so it could be a path.
func TestCancelLeadsNowhereElse(t *testing.T) {
	b := newBench(t)
	for _, id := range []string{"..%2F..%2Fx", "%2E%2E%2Fx", "a%2Fb", "..%5Cx", "a%3Fb", "a%20b", "%E3%81%82", "a%00"} {
		w := b.get("/otp/" + id + "/cancel")
		wantStatus(t, w, http.StatusNotFound)
		if to := w.Header().Get("Location"); to != "" {
			t.Errorf("%s: sent to %q", id, to)
		}
	}
}

func TestFailsClosed(t *testing.T) {
	fault := errors.New("store: a commit failed")
	b := newBench(t)
	b.verify = fault
	w := b.post("/otp/r1?lang=en", code)
	wantStatus(t, w, http.StatusServiceUnavailable)
	wantText(t, w, "not available at the moment", "Try again")
	if !strings.Contains(w.Body.String(), `class="primary" href="?lang=en"`) {
		t.Errorf("no retry:\n%s", w.Body)
	}
	wantNoText(t, w, fault.Error())
	wantOpen(t, b)
	if log := b.log.String(); !strings.Contains(log, fault.Error()) || strings.Contains(log, code) || strings.Contains(log, "secret-customer") {
		t.Errorf("log must have the cause, and neither code nor customer: %s", log)
	}

	b = newBench(t)
	b.stateErr = fault
	wantStatus(t, b.get("/otp/r1"), http.StatusServiceUnavailable)
	wantOpen(t, b)

	b = newBench(t)
	b.request.Realm = "gone"
	wantStatus(t, b.post("/otp/r1", code), http.StatusServiceUnavailable)
	if len(b.attempts) != 0 {
		t.Error("the gate was asked about a realm that isn't there")
	}
}

func TestNoDeadEnds(t *testing.T) {
	for _, test := range []struct {
		name    string
		pending error
		path    string
		status  int
		say     string
	}{
		{"unknown", nil, "/otp/r2", http.StatusNotFound, "もう一度ログインしてください"},
		{"expired", ErrNoRequest, "/otp/r1", http.StatusNotFound, "有効期限が切れた"},
		{"other browser or no cookies", ErrOtherBrowser, "/otp/r1", http.StatusForbidden, "Cookie"},
		{"broken store", errors.New("broken"), "/otp/r1", http.StatusServiceUnavailable, "もう一度試す"},
		{"no id", nil, "/otp/", http.StatusNotFound, "ページが見つかりません"},
		{"odd path", nil, "/otp/r1/x/y", http.StatusNotFound, "ページが見つかりません"},
		{"front door", nil, "/", http.StatusNotFound, "ページが見つかりません"},
		{"no page", nil, "/favicon.ico", http.StatusNotFound, "ページが見つかりません"},
	} {
		b := newBench(t)
		b.pending = test.pending
		w := b.get(test.path)
		wantStatus(t, w, test.status)
		wantText(t, w, test.say)
		if !strings.Contains(w.Body.String(), `href="?lang=en"`) {
			t.Errorf("%s: no language switch", test.name)
		}
		if w = b.post("/otp/r1", code); test.pending != nil && w.Code != test.status {
			t.Errorf("%s: POST has status %d, want %d", test.name, w.Code, test.status)
		}
		if test.pending != nil && len(b.attempts) != 0 {
			t.Errorf("%s: the gate was asked", test.name)
		}
	}
}

func TestOtherSitesCannotPost(t *testing.T) {
	for name, header := range map[string][]string{
		"cross-site":  {"Sec-Fetch-Site", "cross-site"},
		"same-site":   {"Sec-Fetch-Site", "same-site"},
		"old browser": {"Sec-Fetch-Site", "", "Origin", "https://evil.example"},
		"null origin": {"Sec-Fetch-Site", "", "Origin", "null"},
	} {
		for _, path := range []string{"/otp/r1", "/otp/r1/cancel"} {
			b := newBench(t)
			w := b.post(path, code, header...)
			wantStatus(t, w, http.StatusForbidden)
			wantText(t, w, "ほかのサイトから送信された")
			if len(b.attempts) != 0 || !b.open {
				t.Errorf("%s: a post from another site to %s had an effect", name, path)
			}
		}
	}
	b := newBench(t)
	wantPortal(t, b, b.post("/otp/r1", code, "Sec-Fetch-Site", "", "Origin", "https://otp.example"), "accepted")
}

func TestOnlySmallForms(t *testing.T) {
	b := newBench(t)
	for name, w := range map[string]*httptest.ResponseRecorder{
		"too large": b.post("/otp/r1", strings.Repeat("1", maxForm)),
		"json":      b.post("/otp/r1", code, "Content-Type", "application/json"),
		"multipart": b.post("/otp/r1", code, "Content-Type", "multipart/form-data; boundary=x"),
		"no type":   b.post("/otp/r1", code, "Content-Type", ""),
		"in the address": b.do(http.MethodPost, "/otp/r1?code="+code, "%zz",
			"Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin"),
	} {
		if w.Code != http.StatusBadRequest {
			t.Errorf("%s: status %d, want 400", name, w.Code)
		}
	}
	// A code in the address would end in logs and histories: it is not read.
	b.do(http.MethodPost, "/otp/r1?code="+code, "", "Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site", "same-origin")
	if len(b.attempts) != 0 {
		t.Error("the gate was asked")
	}
}

func TestHeaders(t *testing.T) {
	b := newBench(t)
	for name, w := range map[string]*httptest.ResponseRecorder{
		"code": b.get("/otp/r1"), "again": b.post("/otp/r1", "1"), "error": b.try("/otp/r1", "1"), "gone": b.get("/otp/r2"),
		"foreign": b.post("/otp/r1", code, "Sec-Fetch-Site", "cross-site"),
		"leave":   b.post("/otp/r1", code),
	} {
		action := "'self' " + portal
		if name == "gone" || name == "foreign" {
			action = "'self'"
		}
		for key, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action " + action +
				"; base-uri 'none'; frame-ancestors 'none'",
			"Cache-Control":              "no-store",
			"Cross-Origin-Opener-Policy": "same-origin",
			"Referrer-Policy":            "same-origin",
			"X-Content-Type-Options":     "nosniff",
			"X-Frame-Options":            "DENY",
		} {
			if got := w.Header().Get(key); got != want {
				t.Errorf("%s: %s: %q, want %q", name, key, got, want)
			}
		}
	}
}

func TestRealmNameIsEscaped(t *testing.T) {
	b := newBench(t)
	b.request.Realm = "staff"
	w := b.get("/otp/r1?lang=en") // no English name: the Japanese one
	wantText(t, w, "<b>行内</b>", "8 digits")
	wantNoText(t, w, "<b>行内")
}

func TestProblemForTheOIDCDoor(t *testing.T) {
	p := &Pages{Logger: slog.New(slog.DiscardHandler), Now: time.Now}
	for _, kind := range append(problems(), TooMany) { // which has the text of Unavailable
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodGet, `/authorize?client_id=portal&request_uri=urn:x%22%3E%3Cb%3E`, nil)
		r.Header.Set("Accept-Language", "en-GB,en;q=0.8")
		p.Problem(w, r, kind)
		wantStatus(t, w, kind.Status())
		wantNoText(t, w, "<b>", "<no value>")
		if !strings.Contains(w.Body.String(), `href="?client_id=portal&amp;lang=ja&amp;request_uri=urn%3Ax%22%3E%3Cb%3E"`) {
			t.Errorf("%s: the language switch loses the request:\n%s", kind, w.Body)
		}
		if h, _ := io.ReadAll(w.Body); !bytes.Contains(h, []byte(`<html lang="en">`)) {
			t.Errorf("%s: not in English", kind)
		}
	}
}

func TestSignedOut(t *testing.T) {
	p := &Pages{Logger: slog.New(slog.DiscardHandler), Now: time.Now}
	for lang, want := range map[string]string{"en": "You are not signed in here", "ja": "このサイトにはログインしていません"} {
		w := httptest.NewRecorder()
		p.SignedOut(w, httptest.NewRequest(http.MethodGet, "/end_session?lang="+lang, nil))
		wantStatus(t, w, http.StatusOK)
		wantText(t, w, want)
	}
}

func problems() []Problem {
	return []Problem{Gone, NoPage, OtherBrowser, CrossSite, BadRequest, Unavailable}
}

func FuzzFormAction(f *testing.F) {
	for _, s := range []string{portal, "http://localhost:8080", "https://[::1]:1", "https://a.example; script-src *", "", "javascript:x", "https://a b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := formAction(s)
		if strings.ContainsAny(got, ";,\r\n") || strings.Count(got, " ") > 1 || !strings.HasPrefix(got, "'self'") {
			t.Errorf("formAction(%q) = %q breaks out of its directive", s, got)
		}
	})
}

package pages

import (
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"otpgate/verifier"
)

const (
	// maxForm bounds a posted form, in bytes: a code of eight full-width
	// digits takes 72 when percent-encoded, so this is ample.
	maxForm = 4 << 10
	// nearLock is the number of tries left from which the page warns: late
	// enough not to frighten after one slip, early enough to look for help.
	nearLock = 3
)

// What the address of the code page says of the last try: a slip, and the
// number of tries left, if that is to be said.
const (
	slipParam = "error"
	leftParam = "left"
)

// slip is why the code page is shown again.
type slip string

const (
	slipEmpty   slip = "empty"   // nothing was typed
	slipDigits  slip = "digits"  // not as many digits as a code has
	slipRefused slip = "refused" // the gate was asked
	slipNext    slip = "next"    // likewise, and it wants the next code
)

// visit is one request of a browser to the page of an open Request.
type visit struct {
	Request
	realm Realm
	lang  string
}

// path is the address of the visited page and, with "/cancel" behind it, of
// its way out, in the language it is shown in.
func (v visit) path(behind string) string {
	return pathOf(v.ID, behind, v.Client) + "&lang=" + v.lang
}

// Address is where the code page of request id of a client is.
func Address(id, client string) string { return pathOf(id, "", client) }

// pathOf names the client beside the request: when the request has ended, or this
// isn't its browser, that is all there is to tell the way home by.
func pathOf(id, behind, client string) string {
	return "/otp/" + url.PathEscape(id) + behind + "?" + clientParam + "=" + url.QueryEscape(client)
}

// attempt is what the gate needs to know of the visit, whatever was typed.
func (v visit) attempt(r *http.Request) verifier.Attempt {
	return verifier.Attempt{Realm: v.Realm, User: v.User, Door: "oidc", Client: v.Client, From: remoteHost(r), Login: v.ID}
}

// codeForm is what the code page shows besides its fixed text.
type codeForm struct {
	Action      string
	Cancel      string
	Digits      int
	Error       string // its messages' ids begin so; "" if all is well
	TriesLeft   int    // said if not 0
	MinutesLeft int    // until the request expires

	Transactions []transaction // what is confirmed; usually none
}

// lockNotice is what the lock page shows besides its fixed text.
type lockNotice struct {
	Leave       string
	MinutesLeft int // until the lock opens by itself; 0: a clerk opens it
}

// show answers GET /otp/{id}.
func (p *Pages) show(w http.ResponseWriter, r *http.Request) {
	v, ok := p.visit(w, r)
	if !ok {
		return
	}
	state, err := p.Gate.Admit(r.Context(), v.attempt(r))
	if err != nil {
		p.fail(w, r, &v, fmt.Errorf("state of the service: %w", err))
		return
	}
	switch state {
	case verifier.ServiceInService:
		p.showCode(w, r, v)
	case verifier.ServiceLocked:
		p.showLock(w, r, v)
	case verifier.ServiceNone, verifier.ServiceApplied, verifier.ServiceIssued, verifier.ServiceSuspended, verifier.ServiceReleased,
		verifier.ServiceCardFallback: // a log-in by its cells has no page yet
		p.refuse(w, r, v, NoToken)
	default:
		p.fail(w, r, &v, fmt.Errorf("state of the service: %q is unknown", state))
	}
}

// submit answers POST /otp/{id}: one try.
func (p *Pages) submit(w http.ResponseWriter, r *http.Request) {
	v, err := p.find(r)
	if errors.Is(err, ErrNoRequest) && p.answered(w, r) {
		return
	}
	if err != nil {
		p.fail(w, r, nil, err)
		return
	}
	if !isForm(w, r) {
		p.problem(w, r, &v, BadRequest)
		return
	}
	typed := r.PostForm.Get("code")
	if missing := misshapen(typed, v.realm.Digits); missing != "" {
		redirect(w, v, v.again(missing, 0)) // no try: nothing is compared or counted
		return
	}
	key := keyOfPress(v.ID, verifier.Normalise(typed))
	one, first := p.presses.enter(key, p.Now())
	if !first {
		p.repeat(w, r, v, one)
		return
	}
	var came verdict
	defer func() { p.presses.answer(key, one, came, p.Now()) }() // whatever becomes of it: others may be waiting
	came = p.decide(w, r, v, typed)
}

// decide lets the gate decide one try and answers it. It returns what a second press
// is to be told.
func (p *Pages) decide(w http.ResponseWriter, r *http.Request, v visit, typed string) verdict {
	attempt := v.attempt(r)
	attempt.Match = verifier.Typed(typed)
	result, err := p.Gate.Verify(r.Context(), attempt)
	came := verdict{known: true, left: result.TriesLeft}
	switch {
	case err != nil:
		p.fail(w, r, &v, fmt.Errorf("verify: %w", err))
		return verdict{}
	case result.Outcome == verifier.Accepted:
		p.accept(w, r, v, result)
		return verdict{}
	case result.Locked: // which show finds
	case p.answered(w, r): // another press, of the right code, was faster
		return verdict{}
	case result.Outcome == verifier.NextCode:
		came.why = slipNext
	default:
		// One sentence for wrong, replayed and all else: it must not tell
		// whether a code was right once, or whose token it was.
		came.why = slipRefused
	}
	redirect(w, v, v.again(came.why, came.left))
	return came
}

// repeat answers a second press as the first one was, which may still be under way:
// the same code typed once is one try, however often the button was pressed.
func (p *Pages) repeat(w http.ResponseWriter, r *http.Request, v visit, first *press) {
	came, err := first.wait(r.Context())
	switch {
	case err != nil:
		p.fail(w, r, &v, fmt.Errorf("answer of the first press: %w", err))
	case !came.known && p.answered(w, r):
	default: // if it isn't known, show says how the request stands
		redirect(w, v, v.again(came.why, came.left))
	}
}

// cancel answers POST /otp/{id}/cancel, the way out of the code page and of
// the lock page. Which of the two it was is the gate's to say.
func (p *Pages) cancel(w http.ResponseWriter, r *http.Request) {
	v, err := p.find(r)
	if errors.Is(err, ErrNoRequest) && p.answered(w, r) {
		return
	}
	if err != nil {
		p.fail(w, r, nil, err)
		return
	}
	why := Cancelled
	state, err := p.Gate.State(r.Context(), v.Realm, v.User)
	if err != nil {
		// Leaving grants nothing, so it works without the gate too.
		p.log(r, &v, fmt.Errorf("state of the service: %w", err))
	} else if state == verifier.ServiceLocked {
		why = LockedOut
	}
	p.refuse(w, r, v, why)
}

// uncancel answers GET /otp/{id}/cancel, which a browser asks for when the
// address of a page that answered the POST is opened again.
func (p *Pages) uncancel(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id") // unescaped: what it leads to must be ours to say
	if !isID(id) {
		p.problem(w, r, nil, Gone)
		return
	}
	to := url.URL{Path: "/otp/" + id, RawQuery: r.URL.RawQuery}
	http.Redirect(w, r, to.String(), http.StatusSeeOther)
}

// visit finds the open request; if there is none for this browser it answers
// with the page that says so.
func (p *Pages) visit(w http.ResponseWriter, r *http.Request) (visit, bool) {
	v, err := p.find(r)
	if err != nil {
		p.fail(w, r, nil, err)
		return visit{}, false
	}
	return v, true
}

func (p *Pages) find(r *http.Request) (visit, error) {
	req, err := p.Requests.Pending(r, r.PathValue("id"))
	if err != nil {
		return visit{}, fmt.Errorf("pending request: %w", err)
	}
	realm, ok := p.Realms[req.Realm]
	if !ok {
		return visit{}, fmt.Errorf("pending request: realm %q is not configured", req.Realm)
	}
	return visit{Request: req, realm: realm, lang: p.look().language(r, req.Locales)}, nil
}

// answered sends a second press of the button where the first one led, whose
// answer the browser has dropped. It reports whether there was a first.
func (p *Pages) answered(w http.ResponseWriter, r *http.Request) bool {
	location, err := p.Requests.Answered(r, r.PathValue("id"))
	switch {
	case err == nil:
		redirect(w, visit{}, location)
		return true
	case !errors.Is(err, ErrNoRequest):
		p.log(r, nil, fmt.Errorf("answer of the first press: %w", err))
	}
	return false
}

func (p *Pages) accept(w http.ResponseWriter, r *http.Request, v visit, result verifier.Result) {
	location, err := p.Requests.Accept(w, r, v.ID, result)
	if err != nil {
		p.fail(w, r, &v, fmt.Errorf("accept: %w", err))
		return
	}
	redirect(w, v, location)
}

func (p *Pages) refuse(w http.ResponseWriter, r *http.Request, v visit, why Refusal) {
	location, err := p.Requests.Refuse(w, r, v.ID, why)
	if errors.Is(err, ErrNoRequest) && p.answered(w, r) { // another press was faster
		return
	}
	if err != nil {
		p.fail(w, r, &v, fmt.Errorf("refuse (%s): %w", why, err))
		return
	}
	redirect(w, v, location)
}

// redirect sends the browser on, to our own page or to the portal. 303 turns
// the POST into a GET, so that the code isn't sent along (RFC 9700 §4.12).
// Without a body: the location may carry the portal's answer, which needs no
// second copy.
func redirect(w http.ResponseWriter, v visit, location string) {
	setHeaders(w.Header(), v.Portal)
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusSeeOther)
}

// again is where a try that was not accepted is led: back to the code page by a
// redirect, rather than answering the POST with it: a reload must not send the code again and cost another try,
// and the back button must not end in the browser's own "resend the form?".
// So the field comes back empty. A code is short and lives for a minute; an
// address, where it would end in histories and logs, is no place for it.
func (v visit) again(why slip, left int) string {
	if why == "" {
		return v.path("")
	}
	to := v.path("") + "&" + slipParam + "=" + string(why)
	if left > 0 && left <= nearLock {
		to += "&" + leftParam + "=" + strconv.Itoa(left)
	}
	return to
}

// lastTry is the form as again wants it shown. The address only brings back
// what again said; who forges it deceives nobody but himself.
func lastTry(r *http.Request) codeForm {
	query := r.URL.Query()
	var form codeForm
	switch why := slip(query.Get(slipParam)); why {
	case slipEmpty, slipDigits, slipRefused, slipNext:
		form.Error = "code.error." + string(why)
	default:
		return form
	}
	if left, err := strconv.Atoi(query.Get(leftParam)); err == nil && left > 0 && left <= nearLock {
		form.TriesLeft = left
	}
	return form
}

func (p *Pages) showCode(w http.ResponseWriter, r *http.Request, v visit) {
	// When the time is over the page gives way by itself to the one that says so:
	// nobody types a code into a form that leads nowhere.
	over := max(0, v.Expires.Sub(p.Now())) + time.Second
	w.Header().Set("Refresh", strconv.Itoa(int(over/time.Second))+";url="+v.path(""))
	form := lastTry(r)
	var err error
	if form.Transactions, err = v.transactions(); err != nil {
		p.fail(w, r, &v, err)
		return
	}
	form.Action, form.Cancel = v.path(""), v.path("/cancel")
	form.Digits = v.realm.Digits
	form.MinutesLeft = p.minutesUntil(v.Expires)
	p.render(w, r, &v, "code", http.StatusOK, form)
}

// showLock keeps the request open until the customer leaves by the button:
// so the page can be reloaded and read in the other language. It grants
// nothing, since the gate refuses every code while the lock lasts.
func (p *Pages) showLock(w http.ResponseWriter, r *http.Request, v visit) {
	opens, err := p.Gate.OpensAt(r.Context(), v.Realm, v.User)
	if err != nil {
		p.fail(w, r, &v, fmt.Errorf("end of the lock: %w", err))
		return
	}
	notice := lockNotice{Leave: v.path("/cancel")}
	if !opens.IsZero() {
		notice.MinutesLeft = p.minutesUntil(opens)
	}
	p.render(w, r, &v, "locked", http.StatusForbidden, notice)
}

// minutesUntil is how many minutes are left until t, rounded up: "about 1
// minute" is said to the end.
func (p *Pages) minutesUntil(t time.Time) int {
	return max(1, int((t.Sub(p.Now())+time.Minute-1)/time.Minute))
}

// fail answers with the page for err: what the request's door says about the
// browser, or that nothing can be decided now.
func (p *Pages) fail(w http.ResponseWriter, r *http.Request, v *visit, err error) {
	switch {
	case errors.Is(err, ErrNoRequest):
		p.problem(w, r, v, Gone)
	case errors.Is(err, ErrOtherBrowser):
		p.problem(w, r, v, OtherBrowser)
	default:
		p.log(r, v, err)
		p.problem(w, r, v, Unavailable)
	}
}

// misshapen says what typed lacks to be a code of that many digits; "" if
// nothing.
func misshapen(typed string, digits int) slip {
	code := verifier.Normalise(typed)
	if code == "" {
		return slipEmpty
	}
	if len(code) != digits {
		return slipDigits
	}
	for _, c := range []byte(code) {
		if c < '0' || c > '9' {
			return slipDigits
		}
	}
	return ""
}

// isID reports whether s can be the id of a request: letters, digits, hyphens
// and underscores.
func isID(s string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	return s != "" && strings.Trim(s, allowed) == ""
}

// isForm reads the body, which must be a small form as our page sends it.
func isForm(w http.ResponseWriter, r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return false
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	return r.ParseForm() == nil
}

func remoteHost(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

package pages

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"otpgate/verifier"
)

// browserTime bounds one browser test, of which the longest takes hundreds of
// pictures.
const browserTime = 4 * time.Minute

// browser is a real one, with scripts off, before a bench behind TLS whose
// request leads to a portal at another origin.
type browser struct {
	*testing.T
	ctx   context.Context
	bench *bench
	url   string // of the bench
}

func browse(t *testing.T) browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("chromium is not in PATH: install Debian's chromium")
		}
		t.Skip("chromium is not in PATH: install Debian's chromium to test in a real browser")
	}
	b := newBench(t)
	server := httptest.NewTLSServer(b.mux)
	t.Cleanup(server.Close)
	bank := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/back" && (r.Method != http.MethodGet || r.Referer() != "") {
			t.Errorf("the portal got %s with Referer %q", r.Method, r.Referer())
		}
		_, _ = io.WriteString(w, "<!DOCTYPE html><title>portal</title>")
	}))
	t.Cleanup(bank.Close)
	b.request.Portal = bank.URL
	b.portals["portal"] = Portal{Realm: "retail", Home: bank.URL + "/"}

	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.IgnoreCertErrors, chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		// So that the back button asks the server, as after a while it does anyway.
		chromedp.Flag("disable-features", "Translate,BackForwardCache"))
	ctx, cancel := context.WithTimeout(t.Context(), browserTime)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	br := browser{T: t, ctx: ctx, bench: b, url: server.URL}
	br.do(command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}),
		command(emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}))
	return br
}

func (br browser) do(steps ...chromedp.Action[chromedp.Void]) {
	br.Helper()
	if err := chromedp.Do(br.ctx, steps...); err != nil {
		br.Fatal(err)
	}
}

// submit does steps and waits for the page that follows.
func (br browser) submit(steps ...chromedp.Action[chromedp.Void]) {
	br.Helper()
	if _, err := chromedp.RunResponse(br.ctx, steps...); err != nil {
		br.Fatal(err)
	}
}

func see[T any](br browser, action chromedp.Action[T]) T {
	br.Helper()
	v, err := chromedp.Run(br.ctx, action)
	if err != nil {
		br.Fatal(err)
	}
	return v
}

func command[P any](c cdp.Command[P, cdp.Empty], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, c, params)
		return err
	})
}

// typeIn puts text into the code field, as an input method does. The page
// gives it the focus, sometime after it has loaded.
func typeIn(text string) chromedp.Action[chromedp.Void] {
	return chromedp.Steps(chromedp.WaitReady(chromedp.CSS("#code:focus")),
		command(input.InsertText, input.InsertTextParams{Text: text}))
}

func TestBrowserByKeyboardAlone(t *testing.T) {
	br := browse(t)
	b := br.bench
	br.do(chromedp.Navigate(br.url + Address("r1", "portal") + "&lang=ja"))

	br.submit(typeIn("２８７０８"), chromedp.KeyEvent(kb.Enter)) // too short
	title, alert, field := see(br, chromedp.Title()), see(br, chromedp.Text(chromedp.CSS(".error-summary"))), see(br, chromedp.Text(chromedp.CSS("#code-error")))
	if !strings.HasPrefix(title, "エラー: ") || !strings.Contains(alert, "入力内容をご確認ください") || !strings.Contains(field, "6桁の数字で") {
		t.Errorf("after a short code: title %q, alert %q, at the field %q", title, alert, field)
	}
	if len(b.attempts) != 0 {
		t.Error("a short code was handed to the gate")
	}

	br.submit(typeIn("１１１１１１"), chromedp.KeyEvent(kb.Enter)) // wrong
	alert = see(br, chromedp.Text(chromedp.CSS(".error-summary")))
	if v := see(br, chromedp.Value(chromedp.CSS("#code"))); !strings.Contains(alert, "受け付けられませんでした") || v != "" {
		t.Errorf("after a wrong code: alert %q, the field has %q", alert, v)
	}

	br.do(chromedp.Reload(), chromedp.Focus(chromedp.CSS("#code")))
	if len(b.attempts) != 1 {
		t.Errorf("a reload after a wrong code cost a try: %d", len(b.attempts))
	}

	br.submit(typeIn("２８７ ０８２"), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(" ")) // right, by the button
	if title = see(br, chromedp.Title()); title != "portal" || b.ended != "accepted" || len(b.attempts) != 2 {
		t.Errorf("after the right code: at %q, request ended %q, %d tries", title, b.ended, len(b.attempts))
	}

	for range 3 { // as many pages as there were
		br.do(chromedp.NavigateBack())
		if title = see(br, chromedp.Title()); !strings.HasPrefix(title, "このページはご利用いただけません") {
			t.Errorf("the back button leads to %q", title)
		}
	}
	br.submit(chromedp.Focus(chromedp.CSS("a.primary")), chromedp.KeyEvent(kb.Enter))
	if title = see(br, chromedp.Title()); title != "portal" {
		t.Errorf("and from there the link home to %q", title)
	}
}

func TestBrowserLeavesALock(t *testing.T) {
	br := browse(t)
	br.bench.result = verifier.Result{Outcome: verifier.Wrong, Locked: true}
	br.do(chromedp.Navigate(br.url + Address("r1", "portal") + "&lang=en"))
	br.submit(typeIn("111111"), chromedp.KeyEvent(kb.Enter))
	if heading := see(br, chromedp.Text(chromedp.CSS("h1"))); heading != "Your one‑time password is locked" {
		t.Errorf("after the last wrong code: %q", heading)
	}
	br.submit(chromedp.Focus(chromedp.CSS("button.primary")), chromedp.KeyEvent(kb.Enter))
	if title := see(br, chromedp.Title()); title != "portal" || br.bench.ended != "locked" {
		t.Errorf("after the button: at %q, request ended %q", title, br.bench.ended)
	}
}

// pageStates are the pages that are looked at, each by how it comes about.
func pageStates() map[string]func(b *bench) {
	return map[string]func(b *bench){
		"code": func(*bench) {},
		"pay": func(b *bench) {
			b.request.Details = []Detail{
				{Type: "payment", Values: map[string]string{
					"amount": "1500000", "currency": "JPY", "payee": "株式会社　山田太郎商店　振込専用口座", "account": "0001-234-5678901", "due": "2026-11-30",
				}},
			}
		},
		"error":  func(b *bench) { b.result.TriesLeft = 2 },
		"locked": func(b *bench) { b.state = verifier.ServiceLocked },
		"timed":  func(b *bench) { b.state, b.opens = verifier.ServiceLocked, start.Add(12*time.Minute) },
		"short":  func(*bench) {},
		"gone":   func(b *bench) { b.pending = ErrNoRequest },
		"cookie": func(b *bench) { b.pending = ErrOtherBrowser },
		"down":   func(b *bench) { b.stateErr = io.ErrUnexpectedEOF },
	}
}

// show opens the page of that state.
func (br browser) show(state, lang string) {
	br.Helper()
	b := br.bench
	b.mu.Lock()
	b.request.Details = nil
	b.pending, b.stateErr, b.state, b.opens = nil, nil, verifier.ServiceInService, time.Time{}
	pageStates()[state](b)
	b.mu.Unlock()
	br.do(chromedp.Navigate(br.url + Address("r1", "portal") + "&lang=" + lang))
	switch state {
	case "error":
		br.submit(typeIn("111111"), chromedp.KeyEvent(kb.Enter))
	case "short":
		br.submit(typeIn("1111"), chromedp.KeyEvent(kb.Enter))
	}
}

// On the narrowest phone with text at 200 % nothing sticks out, and at 100 %
// everything to press is at least 44 px high (WCAG 2.2 §1.4.4, §1.4.10, §2.5.5).
func TestBrowserNarrowAndLarge(t *testing.T) {
	br := browse(t)
	br.do(chromedp.EmulateViewport(320, 640))
	const (
		enlarge = `document.documentElement.style.fontSize = "212.5%"`
		wide    = `document.documentElement.scrollWidth`
		small   = `[...document.querySelectorAll("button, input, summary, nav a, a.primary")]
			.filter(e => e.getBoundingClientRect().height < 44).map(e => e.outerHTML).join("\n")`
	)
	for state := range pageStates() {
		for _, lang := range []string{"ja", "en"} {
			br.show(state, lang)
			if tooSmall := see(br, chromedp.Evaluate[string](small)); tooSmall != "" {
				t.Errorf("%s (%s): less than 44 px high: %s", state, lang, tooSmall)
			}
			br.do(chromedp.Evaluate[chromedp.Void](enlarge))
			if width := see(br, chromedp.Evaluate[int](wide)); width > 320 {
				t.Errorf("%s (%s): %d px wide in a window of 320", state, lang, width)
			}
		}
	}
}

// A code page that is left open is replaced in time, without a script.
func TestBrowserTimeIsOver(t *testing.T) {
	br := browse(t)
	b := br.bench
	b.request.Expires = start.Add(time.Second)
	br.do(chromedp.Navigate(br.url + Address("r1", "portal") + "&lang=en"))
	b.mu.Lock()
	b.pending = ErrNoRequest
	b.mu.Unlock()
	br.do(chromedp.WaitReady(chromedp.CSS("a.primary")))
	if title := see(br, chromedp.Title()); title != "This page can no longer be used | Example Credit Union" {
		t.Errorf("after its time the page is %q", title)
	}
	br.submit(chromedp.Click(chromedp.CSS("a.primary")))
	if title := see(br, chromedp.Title()); title != "portal" {
		t.Errorf("the way home leads to %q", title)
	}
}

// After an error the customer goes on typing where he was: the field has the focus,
// its name, and what is wrong with it; the title says so first, and an alert is read.
// Told by what the browser tells a screen reader.
func TestBrowserTellsScreenReaders(t *testing.T) {
	br := browse(t)
	br.show("short", "en")
	br.do(chromedp.WaitReady(chromedp.CSS("#code:focus")))
	if title := see(br, chromedp.Title()); !strings.HasPrefix(title, "Error: ") {
		t.Errorf("title %q", title)
	}
	field := br.accessible("#code")
	if field["role"] != "textbox" || field["name"] != "One-time password" || field["invalid"] != "true" || field["focused"] != "true" ||
		!strings.HasPrefix(field["description"], "Error: Enter your one-time password as 6 digits.") {
		t.Errorf("the field is told as %q", field)
	}
	if alert := br.accessible(".error-summary"); alert["role"] != "alert" || alert["name"] != "Please check what you entered" {
		t.Errorf("the summary is told as %q", alert)
	}
	br.show("locked", "en")
	if form := br.accessible("button.primary"); form["role"] != "button" || form["name"] != "Back to the Example Credit Union site" {
		t.Errorf("the way back is told as %q", form)
	}
}

// accessible is what the browser tells a screen reader of an element.
func (br browser) accessible(selector string) map[string]string {
	br.Helper()
	told := make(map[string]string)
	br.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		object, err := cdp.Call(ctx, t, runtime.Evaluate, runtime.EvaluateParams{Expression: fmt.Sprintf("document.querySelector(%q)", selector)})
		if err != nil {
			return err
		}
		tree, err := cdp.Call(ctx, t, accessibility.GetPartialAXTree, accessibility.GetPartialAXTreeParams{ObjectID: object.Result.ObjectID})
		if err != nil {
			return err
		}
		node := tree.Nodes[0]
		for name, value := range map[string]*accessibility.Value{"role": node.Role, "name": node.Name, "description": node.Description} {
			if value != nil {
				told[name] = strings.Trim(string(value.Value), `"`)
			}
		}
		for _, property := range node.Properties {
			told[string(property.Name)] = strings.Trim(string(property.Value.Value), `"`)
		}
		return nil
	}))
	return told
}

// axe-core finds nothing on any page, in either scheme, on a phone and a desk. It
// isn't in Debian: OTPGATE_AXE names npm's axe-core/axe.min.js.
func TestBrowserAxe(t *testing.T) {
	file := os.Getenv("OTPGATE_AXE")
	if file == "" {
		t.Skip("OTPGATE_AXE names no axe.min.js (npm install axe-core)")
	}
	axe, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	br := browse(t)
	br.do(command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: false}))
	const run = `axe.run({runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}).then(r =>
		r.violations.map(v => v.id + ": " + v.help + "\n" + v.nodes.map(n => n.html).join("\n")).join("\n"))`
	for _, scheme := range []string{"light", "dark"} {
		br.scheme(scheme, "none")
		for _, width := range []int64{320, 1280} {
			br.do(chromedp.EmulateViewport(width, 720))
			for state := range pageStates() {
				for _, lang := range []string{"ja", "en"} {
					br.show(state, lang)
					br.do(chromedp.Evaluate[chromedp.Void](string(axe)))
					if found := see(br, chromedp.Evaluate[string](run, chromedp.EvalAwaitPromise)); found != "" {
						t.Errorf("%s (%s, %s, %d px): %s", state, lang, scheme, width, found)
					}
				}
			}
		}
	}
}

// scheme has the browser prefer light or dark, and force colours ("active") or not.
func (br browser) scheme(scheme, forced string) {
	br.Helper()
	br.do(command(emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "forced-colors", Value: forced},
	}}))
}

// TestBrowserScreenshots writes every page to the directory named by
// OTPGATE_SCREENSHOTS, for people to look at.
func TestBrowserScreenshots(t *testing.T) {
	dir := os.Getenv("OTPGATE_SCREENSHOTS")
	if dir == "" {
		t.Skip("OTPGATE_SCREENSHOTS names no directory to write to")
	}
	br := browse(t)
	for _, look := range []struct{ name, scheme, forced string }{
		{"light", "light", "none"}, {"dark", "dark", "none"}, {"forced", "dark", "active"},
	} {
		br.scheme(look.scheme, look.forced)
		for _, width := range []int64{320, 390, 768, 1280} {
			br.do(chromedp.EmulateViewport(width, 720))
			for state := range pageStates() {
				for _, lang := range []string{"ja", "en"} {
					br.show(state, lang)
					name := filepath.Join(dir, fmt.Sprintf("%s-%s-%s-%d.png", state, lang, look.name, width))
					if err := os.WriteFile(name, see(br, chromedp.FullScreenshot(100)), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
}

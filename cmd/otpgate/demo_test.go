package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// TestDemoInABrowser does what the README's first command invites to: the demo
// runs, and a customer logs in at its portal with a real browser. The portal
// checks the gateway's answer with a client library that isn't ours.
func TestDemoInABrowser(t *testing.T) {
	chromium := needPeer(t, "chromium", "chromium")
	demo := startDemo(t)
	b := openBrowser(t, chromium)

	t.Run("a wrong code stays on the page, the right one logs in", func(t *testing.T) {
		b := b.in(t)
		b.firstFactor(demo)
		b.picture("1-code")
		b.submit(chromedp.SendKeys(chromedp.CSS("#code"), wrongCustomerCode(t, demo)), chromedp.Click(onlyButton))
		if at := b.location(); !strings.HasPrefix(at, "https://localhost:") || !strings.Contains(at, "/otp/") {
			t.Fatalf("after a wrong code the browser is at %s", at)
		}
		b.picture("2-wrong")
		code := demo.code(t, demoCustomer)
		b.submit(chromedp.SendKeys(chromedp.CSS("#code"), code), chromedp.Click(onlyButton))
		if at := b.location(); at != demo.portal+"/account" {
			t.Fatalf("after the right code the browser is at %s:\n%s", at, b.text("body"))
		}
		b.picture("3-in")
		account := b.text("main")
		for _, want := range []string{demoCustomer, "urn:otpgate:acr:otp", "otp", "swk"} {
			if !strings.Contains(account, want) {
				t.Errorf("the portal doesn't show %s:\n%s", want, account)
			}
		}

		// The same code, in a new log-in: refused like a wrong one.
		b.submit(chromedp.Click(chromedp.CSS("main form button"))) // log out
		b.firstFactor(demo)
		b.submit(chromedp.SendKeys(chromedp.CSS("#code"), code), chromedp.Click(onlyButton))
		if at := b.location(); !strings.Contains(at, "/otp/") {
			t.Errorf("after a used code the browser is at %s", at)
		}
	})

	t.Run("ten wrong in a row lock, and the portal gets access_denied", func(t *testing.T) {
		b := b.in(t)
		b.firstFactor(demo)
		wrong, now := 0, demo.code(t, demoCustomer)
		for range 10 { // each another one: the same code at once is a second press of the button
			if wrong++; fmt.Sprintf("%06d", wrong) == now {
				wrong++
			}
			b.submit(chromedp.SendKeys(chromedp.CSS("#code"), fmt.Sprintf("%06d", wrong)), chromedp.Click(onlyButton))
		}
		b.picture("4-locked")
		b.submit(chromedp.Click(onlyButton))
		if at := b.location(); !strings.HasPrefix(at, demo.portal+"/callback?") || !strings.Contains(at, "error=access_denied") {
			t.Errorf("from the lock page the browser came to %s", at)
		}
		if text := b.text("main"); !strings.Contains(text, "Your one-time password is locked") && !strings.Contains(text, "ロックされています") {
			t.Errorf("the portal doesn't say that it is locked:\n%s", text)
		}
		b.picture("5-denied")
	})

	demo.interrupt(t)
	if _, err := os.Stat(demo.dir); !os.IsNotExist(err) {
		t.Errorf("Ctrl-C left %s: %v", demo.dir, err)
	}
}

// TestDemoOverRadius types what the demo prints for an employee.
func TestDemoOverRadius(t *testing.T) {
	needPeer(t, "radclient", "freeradius-utils")
	demo := startDemo(t)
	typed := regexp.MustCompile(`(?m)^ +echo .*\n +radclient .*\\\n.* auth$`).FindString(demo.out.String())
	if typed == "" {
		t.Fatalf("no radclient line is printed:\n%s", demo.out)
	}
	waitForFreshStep(30, 10*time.Second)
	for _, want := range []string{"Received Access-Accept", "Received Access-Reject"} { // a code works once
		out, _ := exec.Command("sh", "-c", typed).CombinedOutput() // a Reject is exit code 1
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("%s: want %s:\n%s", typed, want, out)
		}
	}
	typed = regexp.MustCompile(`(?m)^ +\S+ audit tail --socket \S+$`).FindString(demo.out.String())
	out, err := exec.Command("sh", "-c", typed).CombinedOutput()
	if err != nil || !regexp.MustCompile(`accepted +`+demoEmployee+`@staff`).Match(out) || !regexp.MustCompile(`replayed +`+demoEmployee+`@staff`).Match(out) {
		t.Errorf("%q: %v\n%s", typed, err, out)
	}
	demo.interrupt(t)
	if _, err := os.Stat(demo.dir); !os.IsNotExist(err) {
		t.Errorf("Ctrl-C left %s: %v", demo.dir, err)
	}
}

// waitForFreshStep waits, if need be, until the current step of the given period
// has more than left to go.
func waitForFreshStep(period int64, left time.Duration) {
	now := time.Now()
	next := time.Unix((now.Unix()/period+1)*period, 0)
	if next.Sub(now) < left {
		time.Sleep(time.Until(next) + 1500*time.Millisecond) // the demo looks once a second
	}
}

// onlyButton is the one action of each of the gateway's pages.
const onlyButton = chromedp.CSS("main form button")

// runningDemo is an otpgate demo under way.
type runningDemo struct {
	dir, portal string
	cmd         *exec.Cmd
	out         *syncBuffer
	done        chan error
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func startDemo(t *testing.T) *runningDemo {
	t.Helper()
	d := &runningDemo{cmd: exec.Command(binary, "demo"), out: &syncBuffer{}, done: make(chan error, 1)}
	d.cmd.Stdout, d.cmd.Stderr = d.out, d.out
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { d.done <- d.cmd.Wait() }()
	t.Cleanup(func() { _ = d.cmd.Process.Signal(os.Interrupt) })
	codes := regexp.MustCompile(`(?m)^` + demoEmployee + `@staff: [0-9]{6}$`) // the last that it prints
	for deadline := time.Now().Add(20 * time.Second); !codes.MatchString(d.out.String()); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the demo printed no codes in 20 s:\n%s", d.out)
		}
	}
	d.dir = regexp.MustCompile(`All of it is in (\S+)`).FindStringSubmatch(d.out.String())[1]
	d.portal = regexp.MustCompile(`http://localhost:[0-9]+`).FindString(d.out.String())
	return d
}

func (d *runningDemo) code(t *testing.T, name string) string {
	t.Helper()
	code, err := os.ReadFile(filepath.Join(d.dir, name+".code"))
	if err != nil {
		t.Fatal(err)
	}
	return string(code)
}

// wrongCustomerCode is unlike the customer's current code; that it is one of
// the neighbours has odds of one in half a million.
func wrongCustomerCode(t *testing.T, d *runningDemo) string {
	if d.code(t, demoCustomer) == "135790" {
		return "246801"
	}
	return "135790"
}

func (d *runningDemo) interrupt(t *testing.T) {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-d.done:
		if err != nil {
			t.Errorf("Ctrl-C: %v\n%s", err, d.out)
		}
	case <-time.After(6 * time.Second):
		t.Errorf("Ctrl-C: still running after 6 s")
		_ = d.cmd.Process.Kill()
	}
}

// browser is a real one.
type browser struct {
	t   *testing.T
	ctx context.Context
}

func openBrowser(t *testing.T, chromium string) browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.UserDataDir(t.TempDir()),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.IgnoreCertErrors, chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true), chromedp.WindowSize(390, 844))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	return browser{t: t, ctx: ctx}
}

func (b browser) in(t *testing.T) browser { return browser{t: t, ctx: b.ctx} }

func (b browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// submit does steps and waits for the page that follows.
func (b browser) submit(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if _, err := chromedp.RunResponse(b.ctx, steps...); err != nil {
		b.t.Fatalf("%v; the browser is at %s:\n%s", err, b.location(), b.text("body"))
	}
}

func (b browser) location() string {
	at, err := chromedp.Run(b.ctx, chromedp.Location())
	if err != nil {
		b.t.Fatal(err)
	}
	return at
}

func (b browser) text(selector string) string {
	text, err := chromedp.Run(b.ctx, chromedp.Text(chromedp.CSS(selector)))
	if err != nil {
		return fmt.Sprintf("(no %s: %v)", selector, err)
	}
	return text
}

// picture saves what the browser shows, if OTPGATE_SCREENSHOTS names a
// directory.
func (b browser) picture(name string) {
	dir := os.Getenv("OTPGATE_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "demo-"+name+".png"), png, 0o600)
	}
	if err != nil {
		b.t.Error(err)
	}
}

// firstFactor logs in at the portal, which sends the browser to the code page.
func (b browser) firstFactor(d *runningDemo) {
	b.t.Helper()
	b.do(chromedp.Navigate(d.portal+"/"),
		chromedp.SendKeys(chromedp.CSS("#number"), demoCustomer),
		chromedp.SendKeys(chromedp.CSS("#password"), demoPassword))
	b.submit(chromedp.Click(chromedp.CSS("main form button")))
	if at := b.location(); !strings.Contains(at, "/otp/") {
		b.t.Fatalf("the portal sent the browser to %s:\n%s", at, b.text("body"))
	}
}

package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestReadme types what README.md says, as it stands there but for the ports,
// in a copy of the checkout's part that the commands need. The codes are what a
// phone would show for the URIs that are printed.
func TestReadme(t *testing.T) {
	s, portal := newSite(t, "", ""), freeTCP(t)
	r := &reader{t: t, site: s, text: read(t, "../../README.md"), ports: strings.NewReplacer(
		"127.0.0.1:8443", s.https, "127.0.0.1:9464", s.metrics, "127.0.0.1:1812", s.radius,
		"https://localhost:8443", "https://localhost:"+port(s.https), "http://localhost:8080", "http://localhost:"+port(portal),
		// The portal's are flags.
		"./examples/portal -key", "./examples/portal -listen "+portal+" -issuer https://localhost:"+port(s.https)+" -key",
	)}
	if err := os.Remove(s.config); err != nil {
		t.Fatal(err)
	}
	r.typed("otpgate config init").end()
	shipped := r.ports.Replace(read(t, s.config))
	write(t, s.config, shipped)
	for _, name := range []string{"go.mod", "go.sum"} {
		write(t, filepath.Join(s.dir, name), read(t, "../../"+name))
	}
	if err := os.CopyFS(filepath.Join(s.dir, "examples"), os.DirFS("../../examples")); err != nil {
		t.Fatal(err)
	}
	gateway := s.serve(t)

	t.Run("Connect a VPN", func(t *testing.T) {
		needPeer(t, "radclient", "freeradius-utils")
		r := r.in(t)
		vpn := r.fences("Connect a VPN", "sh")
		screen := r.typed(vpn[0])
		fmt.Fprintln(screen.keyboard, screen.code())
		screen.end()
		for _, want := range []string{"Received Access-Accept", "accepted"} {
			if !strings.Contains(screen.out.String(), want) {
				t.Errorf("the screen lacks %q:\n%s", want, screen.out)
			}
		}
		r.typed(vpn[1]).end()
		if secret := strings.TrimSpace(read(t, filepath.Join(s.dir, "data", "vpn2.secret"))); len(secret) != 32 {
			t.Errorf("the VPN's own secret has %d characters", len(secret))
		}
		r.check(addClient(t, shipped, "radius", r.fences("Connect a VPN", "yaml")[0]))
	})

	t.Run("Connect a portal", func(t *testing.T) {
		r := r.in(t)
		commands := r.fences("Connect a portal", "sh")
		r.typed(commands[0]).end()
		write(t, s.config, r.ports.Replace(addClient(t, shipped, "oidc", r.fences("Connect a portal", "yaml")[0])))
		if _, err := gateway.stop(); err != nil {
			t.Fatal(err)
		}
		s.serve(t)
		screen := r.typed(commands[1])
		r.logIn(screen.waitFor(`portal on (http://localhost:[0-9]+),`), "00123456789", screen.code())
	})
}

// reader is a person with README.md and a terminal.
type reader struct {
	t     *testing.T
	site  site
	text  string
	ports *strings.Replacer
}

func (r *reader) in(t *testing.T) *reader {
	r2 := *r
	r2.t = t
	return &r2
}

// fences returns what is fenced as the given language below a heading.
func (r *reader) fences(heading, language string) []string {
	r.t.Helper()
	_, section, found := strings.Cut(r.text, "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var list []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(section, -1) {
		list = append(list, m[1])
	}
	if !found || len(list) == 0 {
		r.t.Fatalf("README.md has no %s under %q", language, heading)
	}
	return list
}

// shell is a shell that runs what was typed.
type shell struct {
	t        *testing.T
	cmd      *exec.Cmd
	keyboard io.WriteCloser
	out      *syncBuffer
	done     chan error
}

// typed runs commands in a shell that stops at the first that fails, in the
// site's directory.
func (r *reader) typed(commands string) *shell {
	r.t.Helper()
	s := &shell{t: r.t, cmd: exec.Command("sh", "-eu", "-c", r.ports.Replace(commands)), out: &syncBuffer{}, done: make(chan error, 2)}
	s.cmd.Dir, s.cmd.Stdout, s.cmd.Stderr = r.site.dir, s.out, s.out
	s.cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"))
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // go run has a child
	var err error
	if s.keyboard, err = s.cmd.StdinPipe(); err != nil {
		r.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() { err := s.cmd.Wait(); s.done <- err; s.done <- err }()
	r.t.Cleanup(func() {
		select {
		case <-s.done:
		default:
			_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGTERM)
			<-s.done
		}
	})
	return s
}

// end waits until the commands are done.
func (s *shell) end() {
	s.t.Helper()
	select {
	case err := <-s.done:
		if err != nil {
			s.t.Fatalf("%v\n%s", err, s.out)
		}
	case <-time.After(time.Minute):
		s.t.Fatalf("still running after a minute:\n%s", s.out)
	}
}

// waitFor returns what the group in pattern matches on the screen.
func (s *shell) waitFor(pattern string) string {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if m := regexp.MustCompile(pattern).FindStringSubmatch(s.out.String()); m != nil {
			return m[1]
		}
	}
	s.t.Fatalf("the screen doesn't show %s:\n%s", pattern, s.out)
	return ""
}

// code is what a phone shows that has scanned the URI on the screen.
func (s *shell) code() string {
	s.t.Helper()
	uri, err := url.Parse(s.waitFor(`(otpauth://totp/\S+)\n`))
	if err != nil {
		s.t.Fatal(err)
	}
	key, err := readSecret(strings.NewReader(uri.Query().Get("secret")))
	if err != nil {
		s.t.Fatal(err)
	}
	period := 30
	if uri.Query().Get("period") == "60" {
		period = 60
	}
	return codeNow(key, period, 0)
}

// check has a gateway.yaml checked.
func (r *reader) check(text string) {
	r.t.Helper()
	file := filepath.Join(r.site.dir, "edited.yaml")
	write(r.t, file, text)
	r.typed("otpgate config check -c edited.yaml").end()
}

// logIn logs a customer in at the portal, as a browser would.
func (r *reader) logIn(portal, number, code string) {
	r.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(read(r.t, filepath.Join(r.site.dir, "data", "tls.crt"))))
	jar, err := cookiejar.New(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	b := &http.Client{Jar: jar, Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	page := func(res *http.Response, err error) (*url.URL, string) {
		r.t.Helper()
		if err != nil {
			r.t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK {
			r.t.Fatalf("%s: %s, %v\n%s", res.Request.URL, res.Status, err, body)
		}
		return res.Request.URL, string(body)
	}
	_, text := page(b.Get(portal))
	password := regexp.MustCompile(`(?s)` + number + `</dd>.*?<dd class="figures">([a-z0-9]+)</dd>`).FindStringSubmatch(text)
	if password == nil {
		r.t.Fatalf("the portal shows no password:\n%s", text)
	}
	at, text := page(b.PostForm(portal+"/login", url.Values{"number": {number}, "password": {password[1]}}))
	action := regexp.MustCompile(`<form method="post" action="([^"]+)"`).FindStringSubmatch(text)
	if action == nil || !strings.HasPrefix(at.Path, "/otp/") {
		r.t.Fatalf("the portal sent the browser to %s:\n%s", at, text)
	}
	to, err := at.Parse(html.UnescapeString(action[1]))
	if err != nil {
		r.t.Fatal(err)
	}
	at, text = page(b.PostForm(to.String(), url.Values{"code": {code}}))
	if at.String() != portal+"/account" || !strings.Contains(text, number) {
		r.t.Errorf("with the right code the browser came to %s:\n%s", at, text)
	}
}

// addClient adds a line below the clients: of a section of a gateway.yaml.
func addClient(t *testing.T, text, section, line string) string {
	t.Helper()
	before, after, found := strings.Cut(text, "\n"+section+":\n")
	inside, behind, foundClients := strings.Cut(after, "\n  clients:\n")
	if !found || !foundClients {
		t.Fatalf("the file has no %s.clients", section)
	}
	return before + "\n" + section + ":\n" + inside + "\n  clients:\n" + line + behind
}

func port(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"otpgate/internal/admin"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// binary is the program as its users run it, built once for all tests here.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "otpgate-test-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "otpgate")
		if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// needPeer skips the test where a program that others wrote is missing; in CI
// that is a failure.
func needPeer(t *testing.T, program, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing; make test installs Debian's %s", program, debianPackage)
		}
		t.Skipf("%s is missing: apt-get install %s", program, debianPackage)
	}
	return path
}

// site is a directory with a gateway.yaml on free ports.
type site struct {
	dir, config, socket    string
	https, metrics, radius string // addresses
}

// newSite writes a gateway.yaml; more is appended to the RADIUS clients, oidc
// to the section of that name.
func newSite(t testing.TB, more, oidc string) site {
	t.Helper()
	dir, err := os.MkdirTemp("", "otpgate-site-") // shorter than t.TempDir: a socket's path has 107 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return writeSite(t, dir, more, oidc)
}

func writeSite(t testing.TB, dir, more, oidc string) site {
	t.Helper()
	s := site{
		dir: dir, config: filepath.Join(dir, "gateway.yaml"), socket: filepath.Join(dir, "data", "admin.sock"),
		https: freeTCP(t), metrics: freeTCP(t), radius: freeUDP(t),
	}
	text := fmt.Sprintf(`data_dir: data
listen: { https: %q, metrics: %q }
realms:
  - id: staff
    service_id: "0001"
    name: { ja: 行内システム, en: Internal systems }
    otp: { period: 30 }
  - id: retail
    service_id: "5001"
    name: { ja: 見本信用組合, en: Example Credit Union }
    otp: { period: 60 }
radius:
  udp: [%q]
  clients:
    - { name: vpn, address: 127.0.0.1/32, secret_file: data/vpn.secret, realm: staff }
%soidc:
  issuer: https://localhost:%s
%s`, s.https, s.metrics, s.radius, more, s.https[strings.LastIndexByte(s.https, ':')+1:], oidc)
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func freeTCP(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func freeUDP(t testing.TB) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().String()
}

// process is a running otpgate serve.
type process struct {
	cmd  *exec.Cmd
	log  *os.File
	done chan error
}

// serve starts the gateway and waits until it is ready.
func (s site) serve(t testing.TB) *process {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(binary, "serve", "-c", s.config), log: log, done: make(chan error, 1)}
	p.cmd.Stderr = log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	t.Cleanup(func() { p.kill(); log.Close() })
	if err := s.ready(p.done); err != nil {
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("%v\n%s", err, text)
	}
	return p
}

// ready waits for a gateway to say that it is; done ends the wait.
func (s site) ready(done <-chan error) error {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		select {
		case err := <-done:
			return fmt.Errorf("the gateway ended: %w", err)
		default:
		}
		res, err := http.Get("http://" + s.metrics + "/readyz")
		if err != nil {
			continue
		}
		res.Body.Close()
		if res.StatusCode == http.StatusOK {
			return nil
		}
	}
	return fmt.Errorf("the gateway isn't ready after 20 s")
}

// kill ends the process as a power cut would.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		p.done <- <-p.done
	}
}

// stop asks the process to end, as a service manager does, and returns how long
// it took and how it ended.
func (p *process) stop() (time.Duration, error) {
	begun := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	err := <-p.done
	p.done <- err
	return time.Since(begun), err
}

func (s site) client() *admin.Client { return admin.NewClient(s.socket) }

// TestScripts runs the command line as its users type it. Three commands are
// added: site writes a gateway.yaml on free ports, ready waits for the gateway,
// code prints what the token with a base32 key shows.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", filepath.Dir(binary)+string(os.PathListSeparator)+e.Getenv("PATH"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"site": func(ts *testscript.TestScript, _ bool, _ []string) {
				s := writeSite(t, ts.Getenv("WORK"), "", "")
				ts.Setenv("HTTPS", s.https)
				ts.Setenv("METRICS", s.metrics)
				ts.Setenv("RADIUS", s.radius)
			},
			"ready": func(ts *testscript.TestScript, _ bool, _ []string) {
				ts.Check(site{metrics: ts.Getenv("METRICS")}.ready(nil))
			},
			"code": func(ts *testscript.TestScript, _ bool, args []string) {
				key, err := readSecret(strings.NewReader(args[0]))
				ts.Check(err)
				ts.Setenv("CODE", codeNow(key, 30, 0))
			},
			"snapshot": snapshot,
		},
	})
}

// snapshot NAME notes the content of every file below data; a second call with
// the same name fails if one byte, mode or name of them has changed.
func snapshot(ts *testscript.TestScript, _ bool, args []string) {
	var all strings.Builder
	ts.Check(filepath.WalkDir(ts.MkAbs("data"), func(path string, d os.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(&all, path, info.Mode())
		if d.Type().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintln(&all, info.ModTime(), string(content))
		}
		return nil
	}))
	name, now := "SNAPSHOT_"+args[0], fmt.Sprintf("%x", sha256.Sum256([]byte(all.String())))
	if before := ts.Getenv(name); before != "" && before != now {
		ts.Fatalf("the data directory has changed")
	}
	ts.Setenv(name, now)
}

func TestExitCodes(t *testing.T) {
	s := newSite(t, "", "")
	for _, c := range []struct {
		args []string
		want int
	}{
		{[]string{"version"}, exitDone},
		{[]string{"--help"}, exitDone},
		{[]string{"config", "check", "-c", s.config}, exitDone},
		{[]string{"user", "list", "-c", s.config}, exitRefused}, // nothing runs
		{[]string{"user", "list", "--nonsense"}, exitUsage},
		{[]string{"user", "add", "no-realm"}, exitUsage},
		{[]string{"frobnicate"}, exitUsage},
		{[]string{"config", "check", "-c", s.dir + "/missing"}, exitUsage},
		{[]string{"serve", "-c", s.dir + "/missing"}, exitUsage},
	} {
		if got := run(context.Background(), c.args, terminal{strings.NewReader(""), io.Discard, io.Discard}); got != c.want {
			t.Errorf("otpgate %s: exit %d, want %d", strings.Join(c.args, " "), got, c.want)
		}
	}
}

func TestStopsWhenToldTo(t *testing.T) {
	s := newSite(t, "", "")
	took, err := s.serve(t).stop()
	if err != nil || took > 5*time.Second {
		t.Errorf("SIGTERM: %v after %v", err, took)
	}
	if _, err := os.Stat(s.socket); !os.IsNotExist(err) {
		t.Errorf("the admin socket was left behind: %v", err)
	}
}

// The keys are in this process's memory: it must not leave a core file.
func TestNoCoreFile(t *testing.T) {
	s := newSite(t, "", "")
	p := s.serve(t)
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.cmd.Process.Pid))
	if err != nil {
		t.Skip(err) // no Linux
	}
	if !regexp.MustCompile(`Max core file size +0 +0 `).Match(limits) {
		t.Errorf("the gateway may dump core:\n%s", limits)
	}
}

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"otpgate/internal/admin"
)

// binary is the program as its users run it, built once for all tests here.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		lastPort.Store(rand.Uint32())
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
		missingPeer(t, program, debianPackage)
	}
	return path
}

func missingPeer(t *testing.T, program, debianPackage string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing; make test installs Debian's %s", program, debianPackage)
	}
	t.Skipf("%s is missing: apt-get install %s", program, debianPackage)
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
    card: {}
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

// lastPort is the port that was tried last. It begins anywhere in a range below
// the one that the kernel gives ports from, so nothing takes a port between the
// look at it and the gateway's start.
var lastPort atomic.Uint32

func nextPort() string { return fmt.Sprintf("127.0.0.1:%d", 20000+lastPort.Add(1)%10000) }

func freeTCP(t testing.TB) string {
	t.Helper()
	for range 100 {
		address := nextPort()
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}

func freeUDP(t testing.TB) string {
	t.Helper()
	for range 100 {
		address := nextPort()
		if c, err := net.ListenPacket("udp", address); err == nil {
			c.Close()
			return address
		}
	}
	t.Fatal("no free port")
	return ""
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
	return s.start(t, exec.Command(binary, "serve", "-c", s.config))
}

// start runs cmd, which is a gateway's, and waits until it is ready.
func (s site) start(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := s.begin(t, cmd)
	if err := s.ready(p.done); err != nil {
		t.Fatalf("%v\n%s", err, s.logged(t))
	}
	return p
}

// begin runs cmd, which is a gateway's.
func (s site) begin(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, log: log, done: make(chan error, 1)}
	p.cmd.Stderr = log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	t.Cleanup(func() { p.kill(); log.Close() })
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

// logged returns what the gateway has logged, of all its runs.
func (s site) logged(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (s site) client() *admin.Client { return admin.NewClient(s.socket) }

// TestScripts runs the command line as its users type it. What is added to
// testscript's commands:
//
//	site            writes a gateway.yaml on free ports
//	ports FILE      puts free ports into a gateway.yaml, and says them in $HTTPS, $METRICS, $RADIUS
//	ready           waits for the gateway
//	code KEY        puts what the token with that base32 key shows into $CODE
//	fails N CMD...  runs a command that must print one line, on stderr alone, and exit with N; a
//	                second one may say which --help to try
//	snapshot NAME   notes the data directory, or fails if it isn't as noted before
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
			"ports": ports,
			"fails": fails,
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

func ports(ts *testscript.TestScript, _ bool, args []string) {
	file := ts.MkAbs(args[0])
	text, err := os.ReadFile(file)
	ts.Check(err)
	for name, shipped := range map[string]string{"HTTPS": "127.0.0.1:8443", "METRICS": "127.0.0.1:9464", "RADIUS": "127.0.0.1:1812"} {
		if bytes.Count(text, []byte(shipped)) != 1 {
			ts.Fatalf("%s doesn't name %s once", args[0], shipped)
		}
		port := nextPort()
		ts.Setenv(name, port)
		text = bytes.ReplaceAll(text, []byte(shipped), []byte(port))
	}
	ts.Check(os.WriteFile(file, text, 0o600))
}

func fails(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || strconv.Itoa(exit.ExitCode()) != args[0] {
		ts.Fatalf("%v; want exit status %s", err, args[0])
	}
	text, _, _ := strings.Cut(ts.ReadFile("stderr"), "Try: otpgate ")
	if strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") {
		ts.Fatalf("want one line on stderr")
	}
	if ts.ReadFile("stdout") != "" {
		ts.Fatalf("want nothing on stdout")
	}
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

package main

import (
	"fmt"
	"image/color"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/boombuler/barcode/qr"
	"golang.org/x/sys/unix"
)

// screen is a pseudo-terminal with a program on it.
type screen struct {
	cmd   *exec.Cmd
	shown *syncBuffer
	done  chan error // when the program has ended and all that it printed is shown
}

// onScreen runs a command as a person does: all three of its files are a
// terminal.
func onScreen(t *testing.T, cmd *exec.Cmd) *screen {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	var number int
	raw, err := master.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var unlockErr, numberErr error
	err = raw.Control(func(fd uintptr) {
		unlockErr = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		number, numberErr = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
	})
	if err != nil || unlockErr != nil || numberErr != nil {
		t.Fatal(err, unlockErr, numberErr)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tty.Close() // ours: the program has its own
	s := &screen{cmd: cmd, shown: &syncBuffer{}, done: make(chan error, 1)}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			_, _ = s.shown.Write(b[:n])
			if err != nil { // EIO: nobody has the terminal open any more
				s.done <- cmd.Wait()
				return
			}
		}
	}()
	return s
}

// text is what is on the screen, with the line breaks of files.
func (s *screen) text() string { return strings.ReplaceAll(s.shown.String(), "\r\n", "\n") }

func (s *screen) waitFor(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(s.text(), text); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the screen doesn't show %q:\n%s", text, s.text())
		}
	}
}

func TestServeOnATerminal(t *testing.T) {
	s := newSite(t, "", "")
	screen := onScreen(t, exec.Command(binary, "serve", "-c", s.config))
	screen.waitFor(t, "Ctrl-C stops it.\n")
	if err := s.ready(nil); err != nil {
		t.Fatal(err)
	}
	text := screen.text()
	for _, want := range []string{
		"otpgate is running. It listens for\n",
		"  portals and customers (HTTPS)    " + s.https + "\n",
		"  metrics and health (HTTP)        " + s.metrics + "\n",
		"  operators (unix socket)          " + s.socket + "\n",
		"  network gear (RADIUS, UDP)       " + s.radius + "\n",
		"Its data is in " + filepath.Join(s.dir, "data") + ";",
		"otpgate user add taro@staff\n",
	} {
		if strings.Count(text, want) != 1 {
			t.Errorf("%q isn't there once:\n%s", want, text)
		}
	}
	for _, address := range []string{s.https, s.metrics, s.socket, s.radius} {
		if n := strings.Count(text, address); n != 1 {
			t.Errorf("%s is there %d times", address, n)
		}
	}

	// Ctrl-C, as the terminal sends it; logs are for a person's eyes.
	if err := syscall.Kill(-screen.cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := <-screen.done; err != nil {
		t.Error(err)
	}
	if text := screen.text(); !strings.Contains(text, " level=INFO msg=stopped\n") || strings.Contains(text, `"msg"`) {
		t.Errorf("the log isn't text:\n%s", text)
	}
}

// On a terminal a new token's URI is drawn as well: what a phone's camera reads
// there is what is printed.
func TestQRCodeOnATerminal(t *testing.T) {
	s := newSite(t, "", "")
	s.serve(t)
	if _, err := exec.Command(binary, "user", "add", "taro@staff", "-c", s.config).Output(); err != nil {
		t.Fatal(err)
	}
	screen := onScreen(t, exec.Command(binary, "token", "create", "taro@staff", "-c", s.config))
	if err := <-screen.done; err != nil {
		t.Fatalf("%v\n%s", err, screen.text())
	}
	uri := regexp.MustCompile(`otpauth://\S+`).FindString(screen.text())
	if u, err := url.Parse(uri); err != nil || u.Query().Get("secret") == "" {
		t.Fatalf("no URI with a secret on the screen: %v\n%s", err, screen.text())
	}
	want, err := qr.Encode(uri, qr.M, qr.Auto)
	if err != nil {
		t.Fatal(err)
	}
	const quiet = 4 // ISO/IEC 18004 §5.3.8
	size := want.Bounds().Dx()
	drawn := modules(screen.text())
	if len(drawn) < size+2*quiet {
		t.Fatalf("%d rows are drawn, want %d and a quiet zone of %d\n%s", len(drawn), size, quiet, screen.text())
	}
	for y := range size + 2*quiet {
		if len(drawn[y]) != size+2*quiet {
			t.Fatalf("row %d has %d modules, want %d", y, len(drawn[y]), size+2*quiet)
		}
		for x, light := range drawn[y] {
			inside := x >= quiet && y >= quiet && x < size+quiet && y < size+quiet
			if wantLight := !inside || want.At(x-quiet, y-quiet) == color.White; light != wantLight {
				t.Fatalf("module %d, %d: light is %v\n%s", x, y, light, screen.text())
			}
		}
	}
}

// modules reads the half blocks on a screen: two rows of modules a line, true
// where it is light.
func modules(text string) (rows [][]bool) {
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.Trim(line, " █▀▄") != "" {
			continue
		}
		var top, bottom []bool
		for _, block := range line {
			top = append(top, block == '█' || block == '▀')
			bottom = append(bottom, block == '█' || block == '▄')
		}
		rows = append(rows, top, bottom)
	}
	return rows
}

// Off a terminal nothing is drawn: a script would have to skip it.
func TestNoQRCodeInAPipe(t *testing.T) {
	s := newSite(t, "", "")
	s.serve(t)
	for _, args := range [][]string{{"user", "add"}, {"token", "create"}} {
		out, err := exec.Command(binary, append(args, "taro@staff", "-c", s.config)...).Output()
		if err != nil || strings.ContainsAny(string(out), "█▀▄") {
			t.Errorf("%v, %s", err, out)
		}
	}
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"otpgate/config"
)

// A first start may be cut off anywhere: what it has left behind is what the
// next one goes on with.
func TestFirstStartGoesOnWhereOneWasCutOff(t *testing.T) {
	whole := newSite(t, "", "")
	if _, err := whole.serve(t).stop(); err != nil {
		t.Fatal(err)
	}
	other := newSite(t, "", "")
	if _, err := other.serve(t).stop(); err != nil {
		t.Fatal(err)
	}
	read := func(s site, name string) []byte {
		b, err := os.ReadFile(filepath.Join(s.dir, "data", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	key, secret, cert, private := read(whole, "master.key"), read(whole, "vpn.secret"), read(whole, "tls.crt"), read(whole, "tls.key")
	for name, left := range map[string]map[string][]byte{
		"an empty folder":                  {},
		"half a master key":                {".master-1": key[:20]},
		"the master key":                   {"master.key": key},
		"the shared secret":                {"master.key": key, "vpn.secret": secret},
		"the certificate's key":            {"master.key": key, "vpn.secret": secret, "tls.key": private},
		"another certificate's key":        {"master.key": key, "vpn.secret": secret, "tls.key": read(other, "tls.key"), "tls.crt": cert},
		"half a certificate, by old means": {"master.key": key, "vpn.secret": secret, "tls.key": private, "tls.crt": cert[:100]},
		"all but the database":             {"master.key": key, "vpn.secret": secret, "tls.key": private, "tls.crt": cert},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "", "")
			if err := os.Mkdir(filepath.Join(s.dir, "data"), 0o700); err != nil {
				t.Fatal(err)
			}
			for file, content := range left {
				if err := os.WriteFile(filepath.Join(s.dir, "data", file), content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			p := s.serve(t)
			if status, err := tlsFrom("127.0.0.1", s.https, "/jwks.json"); err != nil || status != 200 {
				t.Errorf("over TLS: %d, %v", status, err)
			}
			if _, err := p.stop(); err != nil {
				t.Fatal(err)
			}
			for file, content := range left {
				if (file == "master.key" || file == "vpn.secret") && !bytes.Equal(read(s, file), content) {
					t.Errorf("%s was replaced", file)
				}
			}
		})
	}
}

// A kill may come at any moment of a first start: each file gets its name when
// it is whole, and the database's, which says that the rest is there, comes last.
func TestFirstStartMakesWholeFilesAndTheDatabaseLast(t *testing.T) {
	s := newSite(t, "", "")
	dir := filepath.Join(s.dir, "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_MODIFY); err != nil {
		t.Fatal(err)
	}
	s.serve(t)
	b := make([]byte, 64<<10)
	n, err := unix.Read(fd, b)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]bool{"master.key": false, "vpn.secret": false, "tls.key": false, "tls.crt": false}
	for b = b[:n]; len(b) > 0; {
		event := (*unix.InotifyEvent)(unsafe.Pointer(&b[0]))
		name := string(bytes.TrimRight(b[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+event.Len], "\x00"))
		b = b[unix.SizeofInotifyEvent+event.Len:]
		if there, ours := files[name]; ours {
			if there || event.Mask&unix.IN_MODIFY != 0 {
				t.Errorf("%s was written when it had its name already", name)
			}
			files[name] = true
		}
		if name == "otpgate.db" {
			break
		}
	}
	for name, there := range files {
		if !there {
			t.Errorf("%s wasn't there before the database", name)
		}
	}
}

// A certificate of ours that has become unusable is made anew, and the log says
// so, since portals may trust the old one.
func TestDamagedCertificateOfOursIsMadeAnew(t *testing.T) {
	s := newSite(t, "", "")
	if _, err := s.serve(t).stop(); err != nil {
		t.Fatal(err)
	}
	cert := filepath.Join(s.dir, "data", "tls.crt")
	if err := os.Truncate(cert, 10); err != nil {
		t.Fatal(err)
	}
	s.serve(t)
	if _, err := tlsFrom("127.0.0.1", s.https, "/jwks.json"); err != nil {
		t.Error(err)
	}
	if log := s.logged(t); strings.Count(log, "the self-signed certificate can't be used and is made anew") != 1 {
		t.Errorf("the log is\n%s", log)
	}
}

// serveFails runs a gateway that must not start and returns the one line that
// it prints.
func serveFails(t *testing.T, s site, as *syscall.Credential) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "serve", "-c", s.config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitUsage || stdout.Len() > 0 || strings.Count(stderr.String(), "\n") != 1 {
		t.Errorf("%v; want exit status %d and one line, not\n%s%s", err, exitUsage, &stdout, &stderr)
	}
	return stderr.String()
}

// nobody is an account that owns nothing here.
const nobody = 65534

// asNobody lets a root's test run a program that the file system says no to.
func asNobody(t *testing.T, s site) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil // it does to us as well
	}
	for _, path := range []string{filepath.Dir(binary), s.dir} {
		if err := os.Chmod(path, 0o755); err != nil { // so that nobody can get there
			t.Fatal(err)
		}
	}
	if err := os.Chmod(s.config, 0o644); err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: nobody, Gid: nobody}
}

func TestUnwritableDirectory(t *testing.T) {
	s := newSite(t, "", "")
	as := asNobody(t, s)
	if err := os.Chmod(s.dir, 0o555); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(s.dir, 0o700) })
	if text := serveFails(t, s, as); !strings.Contains(text, "can't write to the data directory "+filepath.Join(s.dir, "data")) ||
		!strings.Contains(text, "permission denied: make it writable for the user that otpgate runs as") {
		t.Error(text)
	}
	if _, err := os.Lstat(filepath.Join(s.dir, "data")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was made: %v", err)
	}
}

// Whoever owns a file can change it and read it: a key must be ours or root's.
func TestKeyOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	for _, name := range []string{"master.key", "tls.key"} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, "", "")
			if _, err := s.serve(t).stop(); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(filepath.Join(s.dir, "data", name), nobody, nobody); err != nil {
				t.Fatal(err)
			}
			if text := serveFails(t, s, nil); !strings.Contains(text, name) || !strings.Contains(text, "belongs to another user (uid 65534)") {
				t.Error(text)
			}
		})
	}
}

// Where a key is expected, a pipe must not make the start wait.
func TestKeyThatIsAPipe(t *testing.T) {
	s := newSite(t, "", "")
	if _, err := s.serve(t).stop(); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(s.dir, "data", "master.key")
	if err := errors.Join(os.Remove(key), syscall.Mkfifo(key, 0o600)); err != nil {
		t.Fatal(err)
	}
	if text := serveFails(t, s, nil); !strings.Contains(text, "is no regular file") {
		t.Error(text)
	}
}

// What can't be brought about in a test without a machine of its own.
func TestDataErrorsSayWhatToDo(t *testing.T) {
	cfg := &config.Config{DataDir: "/var/lib/otpgate"}
	for errno, hint := range map[syscall.Errno]string{
		syscall.EROFS:  "ReadWritePaths=",
		syscall.ENOSPC: "make room",
		syscall.EDQUOT: "make room",
		syscall.EACCES: "make it writable",
	} {
		err := dataError(cfg, fmt.Errorf("database: %w", &fs.PathError{Op: "open", Path: "/var/lib/otpgate/otpgate.db", Err: errno}))
		var usage *usageError
		if !errors.As(err, &usage) || !strings.Contains(usage.problem, "can't write to the data directory /var/lib/otpgate: ") ||
			!strings.Contains(usage.problem, errno.Error()) || !strings.Contains(usage.hint, hint) {
			t.Errorf("%v: %v", errno, err)
		}
	}
}

// Ctrl-C before the gateway runs is a stop like any other.
func TestStopDuringStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, temporary := newSite(t, "", ""), t.TempDir()
	t.Setenv("TMPDIR", temporary)
	for _, args := range [][]string{{"serve", "-c", s.config}, {"demo"}} {
		var out, log syncBuffer
		if code := run(ctx, args, terminal{strings.NewReader(""), &out, &log}); code != exitDone || strings.Contains(log.String(), "context canceled") {
			t.Errorf("otpgate %s: exit %d\n%s%s", args[0], code, &out, &log)
		}
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAdminSocketOfAnother(t *testing.T) {
	dir, err := os.MkdirTemp("", "otpgate-sock-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "admin.sock")
	ours, err := listenAdmin(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("it is %v, %v; want mode 0600", info.Mode(), err)
	}
	if _, err := listenAdmin(path); err == nil || !strings.Contains(err.Error(), "another otpgate answers on the admin socket "+path) {
		t.Errorf("on a socket that is alive: %v", err)
	}

	// Somebody replaces it behind our back: theirs stays when we close.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	theirs, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := ours.Close(); err != nil {
		t.Error(err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("closing ours took theirs away: %v", err)
	}
	conn.Close()

	// A dead one, as a kill leaves it, is replaced; and removed at close.
	theirs.(*net.UnixListener).SetUnlinkOnClose(false)
	theirs.Close()
	again, err := listenAdmin(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after closing: %v", err)
	}
}

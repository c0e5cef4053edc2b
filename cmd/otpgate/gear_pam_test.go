package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pamHost is a Linux server whose log-in asks by pam_radius. Its PAM services
// stand in a directory that only its own programs see as /etc/pam.d.
type pamHost struct{ services string }

// newPAMHost is a host that asks the given servers, ADDRESS:PORT each, in that
// order, and waits for each as long as pam_radius does at least (3 s).
func newPAMHost(t *testing.T, s site, servers ...string) pamHost {
	t.Helper()
	needPeer(t, "pamtester", "pamtester")
	needPeer(t, "unshare", "util-linux")
	if found, err := filepath.Glob("/lib/*/security/pam_radius_auth.so"); err != nil || len(found) == 0 {
		missingPeer(t, "pam_radius_auth.so", "libpam-radius-auth")
	}
	dir := t.TempDir()
	var lines strings.Builder
	for _, server := range servers {
		fmt.Fprintf(&lines, "%s %s 3\n", server, s.vpnSecret(t))
	}
	conf, services := filepath.Join(dir, "pam_radius_auth.conf"), filepath.Join(dir, "pam.d")
	if err := os.Mkdir(services, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, conf, lines.String())
	write(t, filepath.Join(services, "host"), fmt.Sprintf("auth required pam_radius_auth.so conf=%s prompt=Code prompt_attribute\n", conf))
	h := pamHost{services}
	if out, err := h.command("true").CombinedOutput(); err != nil {
		t.Skipf("no mount namespace to be had: %v: %s", err, out)
	}
	return h
}

// command is a program on the host.
func (h pamHost) command(args ...string) *exec.Cmd {
	const inside = `mount --bind "$1" /etc/pam.d && shift && exec "$@"`
	return exec.Command("unshare", append([]string{"--mount", "--map-root-user", "sh", "-c", inside, "sh", h.services}, args...)...)
}

// logIn tries to log in from a machine far away, as sshd would, with a line for
// each time that PAM asks, and returns what was on the screen.
func (h pamHost) logIn(user string, lines ...string) (passed bool, screen string) {
	cmd := h.command("pamtester", "-I", "rhost=203.0.113.7", "host", user, "authenticate")
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	out, err := cmd.CombinedOutput()
	return err == nil, string(out)
}

// wants has somebody log in, and says if it didn't go as expected.
func (h pamHost) wants(t *testing.T, passes bool, user string, lines ...string) (screen string) {
	t.Helper()
	passed, screen := h.logIn(user, lines...)
	if passed != passes {
		t.Errorf("%s passed: %v, want %v:\n%s", user, passed, passes, screen)
	}
	return screen
}

// pamSite is a site for Debian's pam_radius (2.0.0), which sends no
// Message-Authenticator.
func pamSite(t *testing.T) site {
	t.Helper()
	s := newSite(t, "", "")
	s.edit(t, "realm: staff }", "realm: staff, require_message_authenticator: false }")
	return s
}

// PAM as sshd and sudo have it asks for the code, and the gateway decides.
func TestPAM(t *testing.T) {
	s := pamSite(t)
	s.serve(t)
	host := newPAMHost(t, s, s.radius)
	key := employee(t, s.client(), "taro")

	wrong := host.wants(t, false, "taro", wrongCode(key))
	if !strings.HasPrefix(wrong, "Code: ") {
		t.Errorf("the screen: %s", wrong)
	}
	code := codeNow(key, 30, 0)
	host.wants(t, true, "taro", code)
	host.wants(t, false, "taro", code)
	if nobody := host.wants(t, false, "nobody", "123456"); nobody != wrong {
		t.Errorf("with a wrong code the screen is %q, for somebody who doesn't exist %q", wrong, nobody)
	}
	if left, err := os.Stat("/etc/pam.d/host"); err == nil {
		t.Errorf("the machine's own PAM has a new service: %v", left)
	}
}

// The first server is dead: the second one is asked, and the code counts.
func TestPAMTurnsToTheSecondServer(t *testing.T) {
	t.Parallel() // it waits 3 s for the first
	s := pamSite(t)
	s.serve(t)
	host := newPAMHost(t, s, deafServer(t), s.radius)
	key := employee(t, s.client(), "taro")
	host.wants(t, true, "taro", codeNow(key, 30, 0))
}

// The answer of the first server is lost: to the second the same code comes as a
// new request. It passes where the realm allows that, and nowhere else.
func TestPAMLosesTheAnswer(t *testing.T) {
	for name, graced := range map[string]bool{"failover_grace": true, "none": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each waits 3 s
			s := pamSite(t)
			if graced {
				s.edit(t, "otp: { period: 30 }", "otp: { period: 30 }\n    failover_grace: 10s")
			}
			s.serve(t)
			first, answered := lossyServer(t, s.radius)
			host := newPAMHost(t, s, first, s.radius)
			key := employee(t, s.client(), "taro")
			host.wants(t, graced, "taro", codeNow(key, 30, 0))
			if got := answered(); got != 2 { // Access-Accept
				t.Errorf("the first server answered with code %d, want an Access-Accept", got)
			}
		})
	}
}

// deafServer takes requests, and never answers.
func deafServer(t *testing.T) (address string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.LocalAddr().String()
}

// lossyServer is a gateway whose answers are lost on their way; answered returns
// the code of the first.
func lossyServer(t *testing.T, gateway string) (address string, answered func() byte) {
	t.Helper()
	nas, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	out, err := net.Dial("udp", gateway)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nas.Close(); out.Close() })
	codes := make(chan byte, 1)
	go func() {
		request, reply := make([]byte, 4096), make([]byte, 4096)
		n, _, err := nas.ReadFrom(request)
		if err != nil {
			return
		}
		_ = out.SetDeadline(time.Now().Add(2 * time.Second))
		if _, err := out.Write(request[:n]); err != nil {
			return
		}
		if n, err := out.Read(reply); err == nil && n > 0 {
			codes <- reply[0]
		}
	}()
	return nas.LocalAddr().String(), func() byte {
		select {
		case code := <-codes:
			return code
		case <-time.After(5 * time.Second):
			return 0
		}
	}
}

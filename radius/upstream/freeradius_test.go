package upstream

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// peer returns the path of a program that nobody here wrote. Without it the test
// is skipped, and in CI fails.
func peer(t *testing.T, program, debian string) string {
	t.Helper()
	path, err := exec.LookPath("/usr/sbin/" + program) // where only root's PATH leads
	if err != nil {
		want := program + " is not in PATH: apt-get install " + debian
		if os.Getenv("CI") != "" {
			t.Fatal(want)
		}
		t.Skip(want)
	}
	return path
}

// The configuration of a FreeRADIUS server that is a directory with people's
// passwords, and the server of somebody's tokens.
const (
	radiusdConf = `
raddbdir = "$DIR"
logdir = "$DIR"
run_dir = "$DIR"
pidfile = "$DIR/freeradius.pid"
libdir = /usr/lib/freeradius
log { destination = stdout }
security { reject_delay = 0 }
client gateway {
	ipaddr = 127.0.0.1
	secret = "$SECRET"
	require_message_authenticator = yes
}
modules {
	pap { }
	always handled { rcode = handled }
	always reject { rcode = reject }
	files { usersfile = "$DIR/users" }
}
server default {
	listen {
		type = auth
		ipaddr = 127.0.0.1
		port = $PORT
	}
	authorize {
		if (&User-Name == "jiro") {
			if (&State == 0x746f6b656e && &User-Password == "123456") {
				update control { Auth-Type := Accept }
			}
			elsif (!&State && &User-Password == "jiro's password") {
				update control { Auth-Type := Challenge }
			}
			else {
				reject
			}
		}
		else {
			files
			pap
		}
	}
	authenticate {
		pap
		Auth-Type Challenge {
			update reply {
				State := 0x746f6b656e
				Reply-Message := "Token code:"
				Prompt := Echo
			}
			update control { Response-Packet-Type := Access-Challenge }
			handled
		}
	}
	$SIGN
}
`
	signReplies = `
	post-auth {
		update reply { Message-Authenticator := 0x00 }
		Post-Auth-Type Challenge {
			update reply { Message-Authenticator := 0x00 }
		}
		Post-Auth-Type Reject {
			update reply { Message-Authenticator := 0x00 }
		}
	}
`
	users = `
hanako Cleartext-Password := "horse battery 9"
	Class := "staff"
`
)

// freeRADIUS starts a server of the test's own on a free port of loopback.
func freeRADIUS(t *testing.T, sign bool) netip.AddrPort {
	t.Helper()
	program := peer(t, "freeradius", "freeradius")
	addr := freePort(t)
	dir := t.TempDir()
	signs := ""
	if sign {
		signs = signReplies
	}
	conf := strings.NewReplacer("$DIR", dir, "$SECRET", secret, "$PORT", strings.TrimPrefix(addr.String(), "127.0.0.1:"), "$SIGN", signs).Replace(radiusdConf)
	for name, text := range map[string]string{"radiusd.conf": conf, "users": users, "dictionary": "$INCLUDE /usr/share/freeradius/dictionary\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var log lockedBuffer
	cmd := exec.Command(program, "-f", "-l", "stdout", "-xx", "-d", dir, "-n", "radiusd")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Log(log.String())
		}
	})
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(log.String(), "Ready to process requests"); time.Sleep(20 * time.Millisecond) {
		select {
		case <-ended:
			t.Fatalf("freeradius has ended:\n%s", log.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("freeradius isn't ready:\n%s", log.String())
		}
	}
	return addr
}

func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// askFreeRADIUS has every kind of answer from the server.
func askFreeRADIUS(t *testing.T, c *Client) {
	t.Helper()
	ask := func(user, password string, state []byte) Answer {
		t.Helper()
		a, err := c.Ask(t.Context(), Question{User: user, Password: password, State: state})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	if a := ask("hanako", password, nil); a.Kind != Accept || len(a.Class) != 1 || string(a.Class[0]) != "staff" {
		t.Errorf("the right password: %#v", a)
	}
	if a := ask("hanako", password+" ", nil); a.Kind != Reject {
		t.Errorf("a wrong password: %#v", a)
	}
	if a := ask("hanako", "", nil); a.Kind != Reject {
		t.Errorf("no password: %#v", a)
	}
	if a := ask("nobody", password, nil); a.Kind != Reject {
		t.Errorf("nobody: %#v", a)
	}
	a := ask("jiro", "jiro's password", nil)
	if a.Kind != Challenge || a.Message != "Token code:" || !a.Echo {
		t.Fatalf("a challenge: %#v", a)
	}
	if again := ask("jiro", "123456", a.State); again.Kind != Accept {
		t.Errorf("the code: %#v", again)
	}
	if again := ask("jiro", "123457", a.State); again.Kind != Reject {
		t.Errorf("another code: %#v", again)
	}
	if again := ask("jiro", "123456", nil); again.Kind != Reject {
		t.Errorf("the code without the challenge: %#v", again)
	}
}

func TestFreeRADIUS(t *testing.T) {
	c := newClient(t, newNetwork(t), freeRADIUS(t, true))
	c.Dial = new(net.Dialer).DialContext
	askFreeRADIUS(t, c)

	// Another secret: the server finds our Message-Authenticator wrong.
	c.Secret, c.Timeout = Secret("another secret"), 100*time.Millisecond
	if a, err := c.Ask(t.Context(), hanako); !errors.Is(err, errNoAnswer) {
		t.Errorf("with another secret: %v, %v", a.Kind, err)
	}
}

// FreeRADIUS 3.2.1 signs no reply unless it is told to.
func TestFreeRADIUSWithoutMessageAuthenticator(t *testing.T) {
	addr := freeRADIUS(t, false)
	c := newClient(t, newNetwork(t), addr)
	c.Dial, c.Timeout = new(net.Dialer).DialContext, 300*time.Millisecond
	if a, err := c.Ask(t.Context(), hanako); !errors.Is(err, errNoAnswer) || c.drops(authenticatorMissing) == 0 {
		t.Errorf("%v, %v; want it dropped", a.Kind, err)
	}
	old := newClient(t, newNetwork(t), addr)
	old.Dial, old.RequireMessageAuthenticator = new(net.Dialer).DialContext, false
	askFreeRADIUS(t, old)
}

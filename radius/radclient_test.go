package radius

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestRadclient asks a real socket with FreeRADIUS's client, which checks every
// reply with code that isn't ours.
func TestRadclient(t *testing.T) {
	radclient, err := exec.LookPath("radclient")
	if err != nil {
		const want = "radclient is not in PATH: apt-get install freeradius-utils"
		if os.Getenv("CI") != "" {
			t.Fatal(want)
		}
		t.Skip(want)
	}
	gate := &fakeGate{}
	s := newServer(t, gate, &logBuffer{})
	clients, err := NewClients([]Client{{
		Name: "loopback", Prefix: netip.MustParsePrefix("127.0.0.1/32"), Secret: Secret(secret), Realm: "staff", RequireMessageAuthenticator: true,
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.Clients = clients
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(conn) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})

	const login = `User-Name = "hanako", Message-Authenticator = 0x00, User-Password = `
	for name, test := range map[string]struct {
		secret, command, attributes, want string
		calls                             int
	}{
		"Accept":          {secret, "auth", login + `"` + rightCode + `"`, "Received Access-Accept", 1},
		"Reject":          {secret, "auth", login + `"` + wrongCode + `"`, "Received Access-Reject", 1},
		"Status-Server":   {secret, "status", `Message-Authenticator = 0x00`, "Received Access-Accept", 0},
		"Proxy-State":     {secret, "auth", login + `"` + rightCode + `", Proxy-State = 0x0102, Proxy-State = 0x01`, "Proxy-State = 0x0102\n\tProxy-State = 0x01\n", 1},
		"unauthenticated": {secret, "auth", `User-Name = "hanako", User-Password = "` + rightCode + `"`, "No reply from server", 0},
		"another secret":  {"guess", "auth", login + `"` + rightCode + `"`, "No reply from server", 0},
	} {
		t.Run(name, func(t *testing.T) {
			before := gate.calls()
			cmd := exec.CommandContext(t.Context(), radclient, "-x", "-r", "1", "-t", "1", conn.LocalAddr().String(), test.command, test.secret)
			cmd.Stdin = strings.NewReader(test.attributes + "\n")
			out, _ := cmd.CombinedOutput() // its exit code is 1 for a Reject
			if !strings.Contains(string(out), test.want) {
				t.Errorf("radclient: want %q in\n%s", test.want, out)
			}
			if n := gate.calls() - before; n != test.calls {
				t.Errorf("the gate was asked %d times, want %d", n, test.calls)
			}
		})
	}
}

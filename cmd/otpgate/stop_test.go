package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	codec "layeh.com/radius"

	"otpgate/internal/admin"
	"otpgate/internal/audit"
)

// stopLimit is what service managers are promised.
const stopLimit = 5 * time.Second

func TestStopsWhenToldTo(t *testing.T) {
	s := newSite(t, "", "")
	took, err := s.serve(t).stop()
	if err != nil || took > stopLimit {
		t.Errorf("SIGTERM: %v after %v", err, took)
	}
	if _, err := os.Stat(s.socket); !os.IsNotExist(err) {
		t.Errorf("the admin socket was left behind: %v", err)
	}
}

// Peers that stall don't keep the gateway from stopping: one that has connected
// and says nothing, and ones that never finish their requests.
func TestStopsDespiteStalledPeers(t *testing.T) {
	s := newSite(t, "", "")
	p := s.serve(t)
	const half = "POST /v1/users HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
	silent := dialFrom(t, "127.0.0.1", s.https)
	defer silent.Close()
	public, err := tls.Dial("tcp", s.https, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer public.Close()
	operator, err := net.Dial("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close()
	for _, conn := range []net.Conn{public, operator} {
		if _, err := io.WriteString(conn, half); err != nil {
			t.Fatal(err)
		}
	}
	s.hasConnections(t, "https", 2)
	s.hasConnections(t, "admin", 1)
	took, err := p.stop()
	if err != nil || took > stopLimit {
		t.Errorf("SIGTERM: %v after %v", err, took)
	}
	log := s.logged(t)
	for _, server := range []string{"https", "admin"} {
		if n := strings.Count(log, `"level":"WARN","msg":"time is up: connections that were still busy are cut off","server":"`+server+`"`); n != 1 {
			t.Errorf("the log says %d times that %s cut something off:\n%s", n, server, log)
		}
	}
	if strings.Contains(log, `"level":"ERROR"`) {
		t.Errorf("the log has errors:\n%s", log)
	}
}

// hasConnections waits until a server of the gateway has at least that many
// connections.
func (s site) hasConnections(t *testing.T, server string, least int) {
	t.Helper()
	shown := regexp.MustCompile(`(?m)^otpgate_http_connections\{server="` + server + `"\} (\d+)$`)
	open := 0
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		res, err := http.Get("http://" + s.metrics + "/metrics")
		if err != nil {
			continue
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if found := shown.FindSubmatch(text); found != nil {
			open, _ = strconv.Atoi(string(found[1]))
		}
		if open >= least {
			return
		}
	}
	t.Fatalf("server %s has %d connections, and should have %d", server, open, least)
}

// At SIGTERM, what was read is answered: whatever was decided, the gear hears.
func TestStopAnswersWhatIsUnderWay(t *testing.T) {
	const people = 1000
	s := newSite(t, "", "")
	p := s.serve(t)
	secret, err := os.ReadFile(filepath.Join(s.dir, "data", "vpn.secret"))
	if err != nil {
		t.Fatal(err)
	}
	nas := nas{address: s.radius, secret: []byte(strings.TrimSpace(string(secret)))}
	for round := 0; ; round++ {
		if round == 5 {
			t.Fatal("in five rounds no answer came after SIGTERM: there was no load")
		}
		var mu sync.Mutex
		var signalled time.Time
		answered, late := map[string]bool{}, 0
		var asking, sent sync.WaitGroup
		for i := range people {
			sent.Add(1)
			asking.Go(func() {
				user := fmt.Sprintf("nobody-%d-%d", round, i) // costs the same as a user
				reply, err := nas.exchange(t.Context(), user, "123456", sent.Done)
				mu.Lock()
				defer mu.Unlock()
				if err == nil && reply == codec.CodeAccessReject {
					answered[user] = true
					if !signalled.IsZero() {
						late++
					}
				}
			})
		}
		sent.Wait()
		mu.Lock()
		signalled = time.Now()
		mu.Unlock()
		took, err := p.stop()
		if err != nil || took > stopLimit {
			t.Errorf("SIGTERM: %v after %v", err, took)
		}
		asking.Wait()
		for user := range decided(t, s, fmt.Sprintf("nobody-%d-", round)) {
			if !answered[user] {
				t.Errorf("%s: it was decided, and no answer came", user)
			}
		}
		// What is read and then dropped leaves at least one line.
		if log := s.logged(t); strings.Contains(log, "packet dropped") {
			t.Errorf("the log is\n%s", log)
		}
		if late > 0 {
			t.Logf("%d of %d answers came after SIGTERM", late, len(answered))
			return
		}
		p = s.serve(t)
	}
}

// decided returns the users with a prefix whose tries are in the audit log.
func decided(t *testing.T, s site, prefix string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, "data", "audit", "audit-*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no audit log: %v", err)
	}
	users := map[string]bool{}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			var e audit.Entry
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				t.Fatal(err)
			}
			if e.Event == "verify" && strings.HasPrefix(e.User, prefix) {
				users[e.User] = true
			}
		}
	}
	return users
}

// A flood of connections that say nothing takes neither the files that the rest
// of the gateway needs, nor everybody else's place.
func TestFloodOfConnections(t *testing.T) {
	s := newSite(t, "", "")
	s.start(t, exec.Command("sh", "-c", `ulimit -n 300; exec "$0" serve -c "$1"`, binary, s.config))
	for range 285 {
		dialFrom(t, "127.0.0.1", s.https)
	}
	s.hasConnections(t, "https", 75) // half of what 300 files allow: more of one address are refused
	begun := time.Now()
	if err := s.ready(nil); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := s.client().Users(ctx, "", func(admin.User) error { return nil }); err != nil {
		t.Errorf("an operator: %v", err)
	}
	if _, err := tlsFrom("127.0.0.2", s.https, "/.well-known/openid-configuration"); err != nil {
		t.Errorf("a customer: %v", err)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("they waited %v", took)
	}
}

// tlsFrom gets a page over TLS from a loopback address.
func tlsFrom(from, address, path string) (status int, err error) {
	client := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{
		DialContext:       (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true,
	}}
	res, err := client.Get("https://" + address + path)
	if err != nil {
		return 0, err
	}
	res.Body.Close()
	return res.StatusCode, nil
}

package directory

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestCheck asks a real slapd about everybody, in all ways of asking.
func TestCheck(t *testing.T) {
	server := newSlapd(t, newAuthority(t))
	for name, cfg := range map[string]Config{
		"search, LDAPS":      searching("ldaps://" + server.tls),
		"search, StartTLS":   searching("ldap://" + server.plain),
		"template, LDAPS":    templating("ldaps://" + server.tls),
		"template, StartTLS": templating("ldap://" + server.plain),
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Roots = server.roots
			s := newSite(t, cfg)
			s.wantCheck(t, "alice", "alice-password", true)
			s.wantCheck(t, "bob", "bob-password", true)
			s.wantCheck(t, `o'neil (x)*,+\=1`, "oneil-password", true)

			s.wantCheck(t, "alice", "bob-password", false)
			s.wantCheck(t, "alice", "alice-passwor", false)
			s.wantCheck(t, "alice", "", false)
			s.wantCheck(t, "alice", strings.Repeat("x", maxPassword+1), false)
			s.wantCheck(t, "mallory", "alice-password", false)
			for _, user := range []string{
				"", "*", "al*", "alice)(uid=*", ")(uid=*", "*)(|(uid=*", "{user}", "{dn}", "alice\x00", "alice\n", "\xff",
				`\61lice`, `\`, "#", " ", "alice,ou=people", "alice,ou=people,dc=example", "alice+cn=alice", `"alice"`, strings.Repeat("x", maxUser+1),
				"gateway",
			} {
				s.wantCheck(t, user, "alice-password", false)
				s.wantCheck(t, user, accountPassword, false)
			}
			s.wantCheck(t, "alice", "alice-password", true)

			s.wantCheck(t, "locked", "locked-password", false)
			s.wantCheck(t, "changing", "changing-password", false)
			for _, line := range []string{"user=locked", "Account locked", "user=changing", "must be changed"} {
				if !strings.Contains(s.log.String(), line) {
					t.Errorf("%q isn't in the log:\n%s", line, s.log)
				}
			}
			if strings.Contains(s.log.String(), "password=") || strings.Contains(s.log.String(), "-password") {
				t.Errorf("a password is in the log:\n%s", s.log)
			}
			if n := s.metric(t, "otpgate_directory_requests_total", "check", "right"); n != 4 {
				t.Errorf("%v right ones counted", n)
			}
			if n := s.metric(t, "otpgate_directory_server_failures_total"); n != 0 {
				t.Errorf("%v failures of the server counted", n)
			}
		})
	}
}

// Somebody unknown costs a search and a bind, like everybody: the connections
// of both kinds tell.
func TestSameWork(t *testing.T) {
	server := newSlapd(t, newAuthority(t))
	for _, user := range []string{"alice", "mallory", "twin", "*"} {
		cfg := searching("ldaps://" + server.tls)
		cfg.Roots = server.roots
		s := newSite(t, cfg)
		s.wantCheck(t, user, "wrong", false)
		if n := s.metric(t, "otpgate_directory_connections"); n != 2 {
			t.Errorf("%s: %v connections", user, n)
		}
	}
}

// The groups of somebody unknown cost two searches, like everybody's: that for the
// groups fails if it is made.
func TestSameWorkForGroups(t *testing.T) {
	server := newSlapd(t, newAuthority(t))
	for _, user := range []string{"alice", "mallory", "twin", "*"} {
		cfg := searching("ldaps://" + server.tls)
		cfg.Roots, cfg.Groups = server.roots, Groups{Base: "ou=nowhere,dc=example", Filter: "(|(member={dn})(cn={user}))"}
		s := newSite(t, cfg)
		if groups, err := s.Groups(t.Context(), user); groups != nil || !errors.Is(err, ErrSetup) {
			t.Errorf("%s: %q, %v; want the search to fail", user, groups, err)
		}
		cfg.Groups.Base = "ou=groups,dc=example"
		cfg.Groups.Filter = "(!(cn={user}))" // whatever is found is nobody's
		s = newSite(t, cfg)
		if groups, err := s.Groups(t.Context(), user); err != nil || (len(groups) > 0) != (user == "alice") {
			t.Errorf("%s: %q, %v", user, groups, err)
		}
	}
}

// Whoever has two entries can't log in with the password of either.
func TestTwoEntries(t *testing.T) {
	server := newSlapd(t, newAuthority(t))
	cfg := searching("ldaps://" + server.tls)
	cfg.Roots, cfg.Groups = server.roots, Groups{Attribute: "memberOf"}
	s := newSite(t, cfg)
	s.wantCheck(t, "twin", "twin-password", false)
	if !strings.Contains(s.log.String(), "more than one entry") {
		t.Errorf("the log doesn't say why:\n%s", s.log)
	}
	if groups, err := s.Groups(t.Context(), "twin"); groups != nil || err != nil {
		t.Errorf("groups: %q, %v", groups, err)
	}
}

func TestGroups(t *testing.T) {
	server := newSlapd(t, newAuthority(t))
	people := map[string]Users{"search": byUID, "template": {Template: "uid={user},ou=people,dc=example"}}
	groups := map[string]Groups{
		"attribute": {Attribute: "MEMBEROF"},
		"search":    {Base: "ou=groups,dc=example", Filter: "(member={dn})"},
	}
	for by, users := range people {
		for from, g := range groups {
			t.Run(by+", "+from, func(t *testing.T) {
				cfg := searching("ldaps://" + server.tls)
				cfg.Roots, cfg.Users, cfg.Groups = server.roots, users, g
				s := newSite(t, cfg)
				for user, want := range map[string][]string{"alice": {"admins", "vpn"}, "bob": nil, "mallory": nil, "*": nil} {
					s.wantCheck(t, user, "bob-password", user == "bob") // binds as a person in between
					for range 2 {
						if got, err := s.Groups(t.Context(), user); err != nil || !slices.Equal(got, want) {
							t.Errorf("groups of %s: %q, %v; want %q", user, got, err, want)
						}
					}
				}
				if n := strings.Count(s.log.String(), "left out"); n != 1 || !strings.Contains(s.log.String(), "Tokyo") {
					t.Errorf("the group with a comma is logged %d times:\n%s", n, s.log)
				}
				if from == "search" {
					if got, err := s.Groups(t.Context(), `o'neil (x)*,+\=1`); err != nil || !slices.Equal(got, []string{"vpn"}) {
						t.Errorf("groups of o'neil: %q, %v", got, err)
					}
				}
			})
		}
	}
}

// Nothing that must be secret goes over the wire in clear.
func TestWire(t *testing.T) {
	server := newSlapd(t, newAuthority(t))
	for scheme, to := range map[string]string{"ldaps://": server.tls, "ldap://": server.plain} {
		wire := newTap(t, to)
		cfg := searching(scheme + wire.address)
		cfg.Roots = server.roots
		newSite(t, cfg).wantCheck(t, "alice", "alice-password", true)
		for _, secret := range []string{"alice", "password", "gateway", "uid="} {
			if wire.has(secret) {
				t.Errorf("%s: %q is on the wire", scheme, secret)
			}
		}
		if startTLS := wire.has("1.3.6.1.4.1.1466.20037"); startTLS != (scheme == "ldap://") || !wire.has("\x16\x03") {
			t.Errorf("%s: StartTLS %v, or no handshake", scheme, startTLS)
		}
	}
}

// Whoever doesn't prove to be the server that is meant, gets no password.
func TestNoPasswordToStrangers(t *testing.T) {
	server, others := newSlapd(t, newAuthority(t)), newAuthority(t)
	noTLS := newSlapd(t, nil)
	liar := listener(t, func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 1024))
		// StartTLS succeeded, says the answer; a bind response is right behind.
		_, _ = conn.Write([]byte("\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00\x30\x0c\x02\x01\x02\x61\x07\x0a\x01\x00\x04\x00\x04\x00"))
		_, _ = io.Copy(io.Discard, conn)
	})
	stray := listener(t, func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 1024))
		_, _ = conn.Write([]byte("\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00"))
		_, _ = io.Copy(io.Discard, conn)
	})
	chatterbox := listener(t, func(conn net.Conn) {
		_, _ = conn.Write([]byte("\x30\x84\x7f\xff\xff\xff\x04\x84\x7f\xff\xff\xf0"))
		for {
			if _, err := conn.Write(make([]byte, 32<<10)); err != nil {
				return
			}
		}
	})
	for name, c := range map[string]struct {
		scheme, to string
		want       error // besides ErrUnavailable
	}{
		"other authority, LDAPS":    {"ldaps://", server.tls, nil},
		"other authority, StartTLS": {"ldap://", server.plain, nil},
		"LDAPS that isn't":          {"ldaps://", server.plain, nil},
		"no StartTLS":               {"ldap://", noTLS.plain, ErrSetup},
		"StartTLS that isn't":       {"ldap://", liar, nil},
		"another answer":            {"ldap://", stray, errAnswer},
		"more than asked":           {"ldap://", chatterbox, errTooMuch},
	} {
		t.Run(name, func(t *testing.T) {
			wire := newTap(t, c.to)
			for _, cfg := range []Config{searching(c.scheme + wire.address), templating(c.scheme + wire.address)} {
				cfg.Roots, cfg.Limit = others.roots, 2*time.Second
				s := newSite(t, cfg)
				right, err := s.Check(t.Context(), "alice", "alice-password")
				if right || !errors.Is(err, ErrUnavailable) || (c.want != nil && !errors.Is(err, c.want)) {
					t.Errorf("%v, %v", right, err)
				}
				if err := s.Ping(t.Context()); err == nil {
					t.Error("Ping finds nothing wrong")
				}
			}
			if wire.has("password") || wire.accepted.Load() == 0 {
				t.Error("a password is on the wire, or nobody was asked")
			}
		})
	}
}

func TestFailover(t *testing.T) {
	certificates := newAuthority(t)
	first, second := newSlapd(t, certificates), newSlapd(t, certificates)
	cfg := searching("ldaps://"+first.tls, "ldaps://"+second.tls)
	cfg.Roots = certificates.roots
	s := newSite(t, cfg)
	failures := func(of *slapd) float64 {
		return s.metric(t, "otpgate_directory_server_failures_total", "ldaps://"+of.tls)
	}
	open := func(to *slapd) float64 { return s.metric(t, "otpgate_directory_connections", "ldaps://"+to.tls) }

	s.wantCheck(t, "alice", "alice-password", true)
	if open(first) != 2 || open(second) != 0 {
		t.Errorf("connections: %v and %v", open(first), open(second))
	}
	// A server that was restarted costs no failure: the broken connections are replaced.
	first.kill()
	first.start()
	s.wantCheck(t, "alice", "alice-password", true)
	if failures(first) != 0 {
		t.Error("a restart in between counts as failure")
	}

	first.kill()
	for range 3 {
		s.wantCheck(t, "alice", "alice-password", true)
		s.wantCheck(t, "alice", "wrong", false)
	}
	if failures(first) != 1 || failures(second) != 0 || strings.Count(s.log.String(), "the next one answered") != 1 {
		t.Errorf("the first server failed %v times, the second %v times:\n%s", failures(first), failures(second), s.log)
	}
	// When the pause is over it is asked again, and the first as before.
	first.start()
	s.clock.advance(restFailed)
	s.wantCheck(t, "bob", "bob-password", true)
	if open(first) == 0 || failures(first) != 1 {
		t.Errorf("after its pause: %v connections, %v failures", open(first), failures(first))
	}

	first.kill()
	second.kill()
	for range 2 {
		right, err := s.Check(t.Context(), "alice", "alice-password")
		if right || !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), first.tls) || !strings.Contains(err.Error(), second.tls) {
			t.Errorf("without any server: %v, %v", right, err)
		}
		if strings.Contains(err.Error(), "password") {
			t.Errorf("a password is in %v", err)
		}
	}
	// Those that rest are asked where no other is.
	const again = "A directory that wasn't ready answers again"
	if strings.Contains(s.log.String(), again) {
		t.Errorf("it was always ready until now:\n%s", s.log)
	}
	second.start()
	for range 2 {
		s.wantCheck(t, "alice", "alice-password", true)
	}
	if n := strings.Count(s.log.String(), again); n != 1 {
		t.Errorf("%d lines say that it answers again:\n%s", n, s.log)
	}
}

// Idle connections that have broken without a sign are replaced, at no cost.
func TestStale(t *testing.T) {
	server := newSlapd(t, newAuthority(t))
	wire := newTap(t, server.tls)
	cfg := searching("ldaps://" + wire.address)
	cfg.Roots = server.roots
	s := newSite(t, cfg)
	for round := range 3 {
		s.wantCheck(t, "alice", "alice-password", true)
		if n := wire.accepted.Load(); n != int64(2*(round+1)) {
			t.Errorf("%d connections in round %d", n, round)
		}
		wire.cut.Store(wire.accepted.Load())
	}
	if n := s.metric(t, "otpgate_directory_server_failures_total"); n != 0 {
		t.Errorf("%v failures counted", n)
	}
	// Not again and again: one that breaks its new connections too has failed.
	wire.cut.Store(1 << 32)
	if right, err := s.Check(t.Context(), "alice", "alice-password"); right || !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v, %v", right, err)
	}
	if n := wire.accepted.Load(); n != 7 {
		t.Errorf("%d connections in the end", n)
	}
}

// A server that says nothing costs its share of the time, and no more.
func TestSilence(t *testing.T) {
	certificates := newAuthority(t)
	server := newSlapd(t, certificates)
	pair, err := tls.LoadX509KeyPair(certificates.certFile, certificates.keyFile)
	if err != nil {
		t.Fatal(err)
	}
	silent := func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }
	for name, address := range map[string]string{
		"before StartTLS": "ldap://" + listener(t, silent),
		"before TLS":      "ldaps://" + listener(t, silent),
		"before the bind": "ldaps://" + listener(t, func(conn net.Conn) {
			silent(tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{pair}}))
		}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := searching(address)
			cfg.Roots, cfg.Limit = server.roots, 200*time.Millisecond
			right, err := newSite(t, cfg).Check(t.Context(), "alice", "alice-password")
			if right || !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("alone: %v, %v", right, err)
			}

			// Half of the time is left for the other, on a busy machine too.
			cfg.Servers, cfg.Limit = []string{address, "ldaps://" + server.tls}, 10*time.Second
			s := newSite(t, cfg)
			s.wantCheck(t, "alice", "alice-password", true)
			if n := s.metric(t, "otpgate_directory_server_failures_total"); n != 1 {
				t.Errorf("%v failures counted, want that of the first server", n)
			}
		})
	}
}

// A caller that gives up isn't the server's fault.
func TestCancel(t *testing.T) {
	silent := listener(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	s := newSite(t, searching("ldaps://"+silent))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if right, err := s.Check(ctx, "alice", "alice-password"); right || !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnavailable) {
		t.Errorf("%v, %v", right, err)
	}
	if n := s.metric(t, "otpgate_directory_server_failures_total"); n != 0 {
		t.Errorf("%v failures counted", n)
	}
}

// A refused service account is not tried again at once: that would lock it.
func TestServiceAccountRefused(t *testing.T) {
	server := newSlapd(t, newAuthority(t))
	wire := newTap(t, server.tls)
	cfg := searching("ldaps://" + wire.address)
	cfg.Roots, cfg.Account.Password = server.roots, Secret("not-its-secret")
	s := newSite(t, cfg)
	refusedOnce := func() {
		t.Helper()
		for range 3 {
			right, err := s.Check(t.Context(), "alice", "alice-password")
			if right || !errors.Is(err, ErrSetup) || !strings.Contains(err.Error(), "service account") || strings.Contains(err.Error(), "not-its-secret") {
				t.Errorf("%v, %v", right, err)
			}
		}
	}
	refusedOnce()
	if n := wire.accepted.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	s.clock.advance(restRefused)
	refusedOnce()
	if n := wire.accepted.Load(); n != 2 {
		t.Errorf("%d connections, some time later", n)
	}
}

func TestPing(t *testing.T) {
	server := newSlapd(t, newAuthority(t))
	for name, c := range map[string]struct {
		change func(*Config)
		want   string // in the error
	}{
		"all right":     {func(*Config) {}, ""},
		"template":      {func(c *Config) { *c = templating(c.Servers...) }, ""},
		"users' base":   {func(c *Config) { c.Users.Base = "ou=nowhere,dc=example" }, "ou=nowhere"},
		"groups' base":  {func(c *Config) { c.Groups.Base = "dc=elsewhere" }, "dc=elsewhere"},
		"account":       {func(c *Config) { c.Account.DN = "cn=nobody,dc=example" }, "service account"},
		"second server": {func(c *Config) { c.Servers = append(c.Servers, "ldaps://127.0.0.1:1") }, "127.0.0.1:1"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := searching("ldaps://" + server.tls)
			cfg.Groups = Groups{Base: "ou=groups,dc=example", Filter: "(member={dn})"}
			c.change(&cfg)
			cfg.Roots = server.roots
			err := newSite(t, cfg).Ping(t.Context())
			if (err == nil) != (c.want == "") || (err != nil && !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v; want %q", err, c.want)
			}
		})
	}
}

func TestParallel(t *testing.T) {
	server := newSlapd(t, newAuthority(t))
	wire := newTap(t, server.tls)
	cfg := searching("ldaps://" + wire.address)
	cfg.Roots = server.roots
	s := newSite(t, cfg)
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			s.wantCheck(t, "alice", "alice-password", true)
			s.wantCheck(t, "bob", "alice-password", false)
			if i%2 == 0 {
				s.wantCheck(t, "bob", "bob-password", true)
			}
		})
	}
	all.Wait()
	if n := wire.accepted.Load(); n > 2*maxAsking {
		t.Errorf("%d connections; %d are the most", n, 2*maxAsking)
	}
	s.clock.advance(maxIdle)
	s.wantCheck(t, "alice", "alice-password", true)
	if n := s.metric(t, "otpgate_directory_connections"); n != 2 {
		t.Errorf("%v connections are open after a quiet minute", n)
	}
}

func TestClosed(t *testing.T) {
	server := newSlapd(t, newAuthority(t))
	cfg := searching("ldaps://" + server.tls)
	cfg.Roots = server.roots
	s := newSite(t, cfg)
	s.wantCheck(t, "alice", "alice-password", true)
	s.Close()
	if right, err := s.Check(t.Context(), "alice", "alice-password"); right || err == nil {
		t.Errorf("after Close: %v, %v", right, err)
	}
}

// listener has handle talk to whoever comes, and returns its address.
func listener(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				handle(conn)
			}()
		}
	}()
	return l.Addr().String()
}

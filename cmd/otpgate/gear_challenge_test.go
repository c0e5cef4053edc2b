package main

import (
	"strings"
	"testing"
)

// challengeSite is a site whose gear asks for anything first, and then for the code.
func challengeSite(t *testing.T) site {
	t.Helper()
	s := newSite(t, "", "")
	s.edit(t, "realm: staff }", "realm: staff, require_message_authenticator: false, mode: challenge, first_factor: none, accounting: true }")
	return s
}

// PAM asks a second time, by its conversation.
func TestPAMChallenge(t *testing.T) {
	s := challengeSite(t)
	s.serve(t)
	host := newPAMHost(t, s, s.radius)
	key := employee(t, s.client(), "taro")

	wrong := host.wants(t, false, "taro", "", wrongCode(key))
	code := codeNow(key, 30, 0)
	screen := host.wants(t, true, "taro", "", code)
	if asked := strings.Count(screen, ": "); asked < 2 || !strings.HasPrefix(screen, "Code: ") {
		t.Errorf("asked %d times:\n%s", asked, screen)
	}
	host.wants(t, false, "taro", "", code)
	if nobody := host.wants(t, false, "nobody", "", "123456"); nobody != wrong {
		t.Errorf("with a wrong code the screen is %q, for somebody who doesn't exist %q", wrong, nobody)
	}
}

// ocserv has the person asked a second time, in openconnect.
func TestOcservChallenge(t *testing.T) {
	s := challengeSite(t)
	s.edit(t, "metrics: \"127.0.0.1:", "metrics: \":") // what is reached through the tunnel
	v := newVPN(t, s)
	key := employee(t, s.client(), "taro")
	v.refused(v.connect("taro", "first", wrongCode(key)))
	v.connect("taro", "first", codeNow(key, 30, 0))
	until(t, "the tunnel carries a connection", v.reaches)
}

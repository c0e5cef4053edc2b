package radius

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	codec "layeh.com/radius"
)

// loginOf is a request of a user, unlike any before.
func loginOf(user string, n int) []byte {
	return newPacket(codec.CodeAccessRequest, byte(n), fmt.Sprint(user, n)).user(user).password(wrongCode, secret).signed(secret)
}

func TestOneUserIsHeldBackAtOneClient(t *testing.T) {
	inBubble(t, func(h *harness) {
		for n := range userBurst {
			h.wantReply(vpn, loginOf("hanako", n), codec.CodeAccessReject)
		}
		next := loginOf("hanako", userBurst)
		h.wantDrop(vpn, next, "vpn", userTooFast)
		h.wantCalls(userBurst) // the gate never saw it

		// Nobody else is slowed by it.
		h.wantReply(vpn, loginOf("taro", 100), codec.CodeAccessReject)
		h.wantReply(vpnV6, loginOf("hanako", 101), codec.CodeAccessReject)
		// A resend of what was answered is answered, and costs nothing.
		h.wantReply(vpn, loginOf("hanako", 1), codec.CodeAccessReject)

		time.Sleep(time.Second)
		h.wantReply(vpn, next, codec.CodeAccessReject) // the gear asks again
		h.wantDrop(vpn, loginOf("hanako", 102), "vpn", userTooFast)
		h.wantCalls(userBurst + 3)

		time.Sleep(time.Hour)
		for n := range userBurst {
			h.wantReply(vpn, loginOf("hanako", 150+n), codec.CodeAccessReject)
		}
	})
}

func TestOneClientIsHeldBack(t *testing.T) {
	inBubble(t, func(h *harness) {
		const perSecond = 50
		h.Clients.lookup(vpn.Addr()).limit = newClientLimit(perSecond)
		user := func(n int) string { return fmt.Sprint("user", n) }
		for n := range perSecond {
			h.wantReply(vpn, loginOf(user(n), n), codec.CodeAccessReject)
		}
		h.wantDrop(vpn, loginOf(user(60), 60), "vpn", clientTooFast)
		h.wantReply(vpnV6, loginOf(user(63), 63), codec.CodeAccessReject)
		h.wantReply(vpn, loginOf(user(1), 1), codec.CodeAccessReject) // a resend
		h.wantReply(vpn, newPacket(codec.CodeStatusServer, 61, "status").signed(secret), codec.CodeAccessAccept)

		time.Sleep(time.Second / perSecond)
		h.wantReply(vpn, loginOf(user(60), 60), codec.CodeAccessReject)
		h.wantDrop(vpn, loginOf(user(62), 62), "vpn", clientTooFast)
	})
}

func TestRequestsOfOthersUseNobodysRate(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.Clients.lookup(vpn.Addr()).limit = newClientLimit(1)
		for n := range 10 {
			forged := newPacket(codec.CodeAccessRequest, byte(n), fmt.Sprint(n)).user("hanako").password(wrongCode, "guess").signed("guess")
			h.wantDrop(vpn, forged, "vpn", authenticatorWrong)
		}
		h.wantReply(vpn, loginOf("hanako", 20), codec.CodeAccessReject)
	})
}

func TestManyNamesTakeBoundedMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newUserLimits(time.Now, userBurst, userEvery)
		for range userBurst {
			l.allow("vpn", "staff", "victim")
		}
		for n := range 2 * maxUsers {
			if !l.allow("vpn", "staff", fmt.Sprint(n)) {
				t.Fatalf("the first request for user %d is held back", n)
			}
			if n%1000 == 0 && l.allow("vpn", "staff", "victim") {
				t.Fatal("a flood of names frees somebody who is asked for all the time")
			}
		}
		if len(l.byUser) != maxUsers || l.oldest.Len() != maxUsers {
			t.Errorf("%d and %d are held, want %d", len(l.byUser), l.oldest.Len(), maxUsers)
		}
		time.Sleep(userBurst * userEvery)
		l.allow("vpn", "staff", "hanako")
		if len(l.byUser) != 1 || l.oldest.Len() != 1 {
			t.Errorf("%d and %d are held after the flood, want 1", len(l.byUser), l.oldest.Len())
		}
	})
}

func TestManyUnknownAddressesTakeBoundedMemory(t *testing.T) {
	var u strangers
	at := time.Unix(0, 0)
	for n := range 1000 {
		u.seen(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), at.Add(time.Duration(n)*time.Second))
	}
	latest := u.latest()
	if len(latest) != maxUnknown || latest[0].Address.String() != "10.0.3.231" || latest[maxUnknown-1].Address.String() != "10.0.3.212" {
		t.Errorf("%d addresses: %v", len(latest), latest)
	}
}

// However a name is written, a directory may take it for one person's.
func TestPasswordsOfOneUserAreHeldBack(t *testing.T) {
	for kind, mode := range map[string]Mode{"ldap": ModePasswordOTP, "radius": ModeChallenge} {
		inBubble(t, func(h *harness) {
			d, u := &fakeDirectory{}, &fakeUpstream{}
			f := FirstFactor{Directory: d}
			if kind == "radius" {
				f = FirstFactor{Upstream: u}
			}
			h.as("vpn", mode, f)
			n := 0
			try := func(name string) []sent {
				n++
				return h.exchange(vpn, newPacket(codec.CodeAccessRequest, byte(n), fmt.Sprint(n)).user(name).password("guess"+rightCode, secret).signed(secret))
			}
			names := []string{"hanako", "Hanako", "HANAKO", "\uff48anako", "h\u00e1nako", "ha\u0301nako"}
			for i := range 20 {
				if got := len(try(names[i%len(names)])); (got == 1) != (i < passwordBurst) {
					t.Errorf("%s: try %d has %d answers", kind, i, got)
				}
			}
			if asked := len(d.checked) + d.others + len(u.questions); asked != passwordBurst {
				t.Errorf("%s: asked %d times, want %d", kind, asked, passwordBurst)
			}
			if n := h.drops("vpn", userTooFast); n != 20-passwordBurst {
				t.Errorf("%s: %v dropped", kind, n)
			}
			if len(try("taro")) != 1 {
				t.Error("somebody else is held back")
			}
			time.Sleep(passwordEvery)
			if len(try("hanako")) != 1 || len(try("Hanako")) != 0 {
				t.Errorf("%s: not one more after its time", kind)
			}
		})
	}
}

func TestFoldedNames(t *testing.T) {
	for _, same := range [][]string{
		{"hanako", "HANAKO", "\uff28anako", "h\u00e4nako", "ha\u0308nako", "hana\ufe00ko"},
		{"STRASSE", "stra\u00dfe"},
		{"hana ko", "Hana  ko", "hana\u3000ko"},
	} {
		for _, name := range same {
			if folded(name) != folded(same[0]) {
				t.Errorf("%q is %q, and %q is %q", name, folded(name), same[0], folded(same[0]))
			}
		}
	}
	if folded("hanako") == folded("hanak") || folded("hanako") == folded("\u82b1\u5b50") || folded("hana ko") == folded("hanako") {
		t.Error("two people are one")
	}
}

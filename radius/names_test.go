package radius

import (
	"strconv"
	"testing"

	codec "layeh.com/radius"
)

func TestNames(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.Realms = map[string]Realm{"retail": NewRealm(true, English, nil, nil)}
		for _, c := range h.Clients.byPrefix {
			switch c.Name {
			case "vpn":
				c.OtherRealms = []string{"retail"}
			case "legacy":
				c.Latin1 = true
			}
		}
		for i, c := range []struct{ sent, realm, user string }{
			{"hanako", "staff", "hanako"},
			{"Hanako@staff", "staff", "Hanako"},
			{`STAFF\hanako`, "staff", "hanako"},
			{`retail\HANAKO`, "retail", "hanako"},
			{"Hanako@RETAIL", "retail", "hanako"},
			{"ÄNNE@retail", "retail", "änne"},
			{"hanako@example.com", "staff", "hanako@example.com"},
			{"hanako@example.com@retail", "retail", "hanako@example.com"},
			{`EXAMPLE\hanako`, "staff", `EXAMPLE\hanako`},
			{"hanako@staff@retail", "retail", "hanako@staff"}, // once
			{`retail\hanako@staff`, "retail", "hanako@staff"},
		} {
			b := newPacket(codec.CodeAccessRequest, byte(i), c.sent).user(c.sent).password(rightCode, secret).signed(secret)
			h.wantReply(vpn, b, codec.CodeAccessAccept)
			if a := h.gate.attempts[len(h.gate.attempts)-1]; a.Realm != c.realm || a.User != c.user {
				t.Errorf("%s: %s in %s, want %s in %s", c.sent, a.User, a.Realm, c.user, c.realm)
			}
		}
		asked := h.gate.calls()
		for i, sent := range []string{"@staff", `staff\`, "hanako @staff", "J\xfcrgen", "\x00@retail"} {
			b := newPacket(codec.CodeAccessRequest, byte(100+i), sent).user(sent).password(rightCode, secret).signed(secret)
			h.wantReply(vpn, b, codec.CodeAccessReject)
		}
		h.wantCalls(asked)

		// Only where the client has the realm, or the charset.
		for i, c := range []struct{ sent, user string }{{"hanako@retail", "hanako@retail"}, {"J\xfcrgen", "Jürgen"}, {"J\xc3\xbcrgen", "JÃ¼rgen"}} {
			b := newPacket(codec.CodeAccessRequest, byte(i), c.sent).user(c.sent).password(rightCode, secret).signed(secret)
			h.wantReply(legacy, b, codec.CodeAccessAccept)
			if a := h.gate.attempts[len(h.gate.attempts)-1]; a.Realm != "staff" || a.User != c.user {
				t.Errorf("%q: %q in %s, want %q in staff", c.sent, a.User, a.Realm, c.user)
			}
		}
	})
}

// A peer hashes the name that was typed, whatever we take off it (RFC 2759 §8.2).
func TestMSCHAPv2HashesTheNameAsSent(t *testing.T) {
	for i, c := range []struct{ sent, hashed string }{
		{"hanako@staff", "hanako@staff"}, {`STAFF\hanako`, "hanako"}, {"J\xfcrgen@staff", "J\xfcrgen@staff"},
	} {
		inBubble(t, func(h *harness) {
			for _, client := range h.Clients.byPrefix {
				client.Latin1 = true
			}
			b := newPacket(codec.CodeAccessRequest, byte(i), strconv.Itoa(i)).user(c.sent).msCHAPv2(c.hashed, rightCode).signed(secret)
			h.wantReply(vpn, b, codec.CodeAccessAccept)
		})
	}
}

// The same name in two realms is two people: one's wrong code is no other's.
func TestBurstsAreOfOneRealm(t *testing.T) {
	inBubble(t, func(h *harness) {
		for _, c := range h.Clients.byPrefix {
			c.OtherRealms = []string{"retail"}
		}
		h.wantReply(vpn, newPacket(codec.CodeAccessRequest, 1, "a").user("hanako").password(wrongCode, secret).signed(secret), codec.CodeAccessReject)
		h.wantReply(vpn, newPacket(codec.CodeAccessRequest, 2, "b").user("hanako@retail").chap(wrongCode, nil).signed(secret), codec.CodeAccessReject)
		h.wantCalls(2)
	})
}

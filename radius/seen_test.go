package radius

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	codec "layeh.com/radius"
)

func TestSeen(t *testing.T) {
	inBubble(t, func(h *harness) {
		start := time.Now()
		time.Sleep(time.Minute)
		h.wantReply(vpn, login(1, "a", rightCode), codec.CodeAccessAccept)
		h.wantReply(vpn, login(2, "b", wrongCode), codec.CodeAccessReject)
		h.wantReply(vpn, newPacket(codec.CodeAccessRequest, 3, "c").user("hanako").chap(wrongCode, nil).signed(secret), codec.CodeAccessReject)
		h.wantReply(vpn, newPacket(codec.CodeStatusServer, 4, "d").signed(secret), codec.CodeAccessAccept)
		elsewhere := netip.MustParseAddrPort("192.0.2.11:50000")
		unsigned := newPacket(codec.CodeAccessRequest, 5, "e").user("hanako").password(rightCode, secret).b
		h.wantDrop(elsewhere, unsigned, "vpn", authenticatorMissing)
		last := time.Now()
		time.Sleep(time.Minute)
		h.wantReply(legacy, unsigned, codec.CodeAccessAccept)
		h.wantDrop(nobody, unsigned, "", unknownClient)
		h.wantDrop(nobody, unsigned, "", unknownClient)

		want := Seen{
			Since: start,
			Clients: []SeenClient{
				{Name: "legacy", Last: time.Now(), From: legacy.Addr(), Requests: 1, Accepts: 1, Unsigned: 1, Methods: map[string]int{"PAP": 1}},
				{
					Name: "vpn", Last: last, From: elsewhere.Addr(), Requests: 5, Accepts: 1, Rejects: 2, Statuses: 1, Unsigned: 1,
					Dropped: map[string]int{"message_authenticator_missing": 1}, Refused: map[string]int{"same_code": 1}, Methods: map[string]int{"PAP": 2, "CHAP": 1},
				},
				{Name: "vpn6"},
			},
			Unknown: []SeenUnknown{{Address: nobody.Addr(), Packets: 2, Last: time.Now()}},
		}
		got := h.Seen()
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Error(diff)
		}
		got.Clients[1].Methods["PAP"] = 99 // whoever has it can't change what is counted
		if n := h.Seen().Clients[1].Methods["PAP"]; n != 2 {
			t.Errorf("%d by PAP, want 2", n)
		}
	})
}

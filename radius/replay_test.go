package radius

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"otpgate/verifier"
)

// One captured packet with a wrong code must not become many wrong codes.
func TestCapturedPacketIsEvaluatedOnce(t *testing.T) {
	inBubble(t, func(h *harness) {
		b := login(1, "a", wrongCode)
		h.wantReply(vpn, b, codec.CodeAccessReject)
		for port := range uint16(11) {
			h.wantDrop(netip.AddrPortFrom(vpn.Addr(), 40000+port), b, "vpn", replayed)
		}
		h.wantDrop(netip.MustParseAddrPort("192.0.2.77:50000"), b, "vpn", replayed) // another of the client's addresses
		h.wantReply(vpn, b, codec.CodeAccessReject)                                 // a resend gets its answer still
		for _, wait := range []time.Duration{replyHold, time.Hour, 24 * time.Hour} {
			time.Sleep(wait)
			h.wantDrop(vpn, b, "vpn", replayed)
		}
		h.wantCalls(1)
	})
}

// A client that has seen another's packet can't have it taken for a replay by
// sending it first, not even where both have one secret.
func TestReplaysAreOfOneClient(t *testing.T) {
	inBubble(t, func(h *harness) {
		b := login(1, "a", rightCode)
		h.wantReply(vpnV6, b, codec.CodeAccessAccept)
		h.wantReply(vpn, b, codec.CodeAccessAccept)
		h.wantDrop(netip.AddrPortFrom(vpn.Addr(), 50001), b, "vpn", replayed)
	})
}

// Without a Message-Authenticator the packet can be altered around the password.
func TestCapturedPacketIsEvaluatedOnceHoweverAltered(t *testing.T) {
	inBubble(t, func(h *harness) {
		request := func(id byte, user string) *packet {
			return newPacket(codec.CodeAccessRequest, id, "a").user(user).password(wrongCode, secret)
		}
		h.wantReply(legacy, request(1, "hanako").b, codec.CodeAccessReject)
		other := netip.AddrPortFrom(legacy.Addr(), 50001)
		h.wantDrop(other, request(1, "hanako").b, "legacy", replayed)
		h.wantDrop(other, request(2, "hanako").b, "legacy", replayed)
		h.wantDrop(other, request(3, "hanako").add(rfc2865.NASPort_Type, []byte{0, 0, 0, 7}).b, "legacy", replayed)
		h.wantDrop(other, request(4, "taro").b, "legacy", replayed)
		h.wantCalls(1)
		// What only the gear itself can send is another request.
		h.wantReply(legacy, newPacket(codec.CodeAccessRequest, 5, "b").user("hanako").password(wrongCode, secret).b, codec.CodeAccessReject)
		h.wantReply(legacy, newPacket(codec.CodeAccessRequest, 6, "a").user("hanako").password(rightCode, secret).b, codec.CodeAccessAccept)
	})
}

// A replay must not take the place of a younger request with its identifier.
func TestReplayDoesNotPurge(t *testing.T) {
	inBubble(t, func(h *harness) {
		old, young := login(1, "a", wrongCode), login(1, "b", rightCode)
		h.wantReply(vpn, old, codec.CodeAccessReject)
		h.wantReply(vpn, young, codec.CodeAccessAccept)
		h.wantDrop(vpn, old, "vpn", replayed)
		h.wantReply(vpn, young, codec.CodeAccessAccept)
		h.wantCalls(2)
	})
}

func TestReplayOfWhatIsUnderWay(t *testing.T) {
	inBubble(t, func(h *harness) {
		release := h.blockGate()
		superseded, b := login(1, "a", wrongCode), login(1, "b", wrongCode)
		other := netip.AddrPortFrom(vpn.Addr(), 50001)
		h.exchange(vpn, superseded)
		h.exchange(vpn, b)
		h.wantDrop(other, superseded, "vpn", replayed)
		h.wantDrop(other, b, "vpn", replayed)
		close(release)
		synctest.Wait()
		h.conn.take()
		h.wantDrop(other, superseded, "vpn", replayed)
		h.wantDrop(other, b, "vpn", replayed)
		h.wantCalls(2)
	})
}

// What the gate didn't decide may come again, from another port too.
func TestUndecidedIsNoReplay(t *testing.T) {
	inBubble(t, func(h *harness) {
		b := login(1, "a", rightCode)
		h.gate.verify = func(context.Context, verifier.Attempt) (verifier.Result, error) {
			return verifier.Result{}, errGate
		}
		h.wantDrop(vpn, b, "vpn", noDecision)
		h.gate.verify = nil
		h.wantReply(netip.AddrPortFrom(vpn.Addr(), 50001), b, codec.CodeAccessAccept)
	})
}

// Gear asks whether we are there with whatever packet it likes.
func TestStatusServerMayRepeatItself(t *testing.T) {
	inBubble(t, func(h *harness) {
		b := newPacket(codec.CodeStatusServer, 1, "a").signed(secret)
		for port := range uint16(3) {
			h.wantReply(netip.AddrPortFrom(vpn.Addr(), 40000+port), b, codec.CodeAccessAccept)
		}
		time.Sleep(time.Hour)
		h.wantReply(vpn, b, codec.CodeAccessAccept)
	})
}

// The oldest go first, and a client pushes out nobody else's.
func TestMemoryIsBoundedByClient(t *testing.T) {
	m := newMemory()
	f := func(i int) (f fingerprint) {
		f[0], f[1], f[2] = byte(i), byte(i>>8), byte(i>>16)
		return f
	}
	keep := func(client string, i int) {
		m.begin(f(i))
		m.keep(client, f(i))
	}
	keep("vpn", 1<<20)
	for i := range maxRemembered + 2 {
		keep("legacy", i)
	}
	if len(m.known) != maxRemembered+1 || len(m.byClient["legacy"].ring) != maxRemembered {
		t.Errorf("%d known, %d of one client", len(m.known), len(m.byClient["legacy"].ring))
	}
	if m.has(f(1)) || !m.has(f(2)) || !m.has(f(maxRemembered+1)) || !m.has(f(1<<20)) {
		t.Error("not the oldest of the same client have gone")
	}
}

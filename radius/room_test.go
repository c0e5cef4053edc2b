package radius

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"

	codec "layeh.com/radius"

	"otpgate/verifier"
)

// hashingGate takes its time for a PIN.
type hashingGate struct {
	*fakeGate
	turn chan struct{}
}

func (g hashingGate) CheckPIN(ctx context.Context, realm, user, pin string) (verifier.FirstFactor, error) {
	<-g.turn
	return g.fakeGate.CheckPIN(ctx, realm, user, pin)
}

func (g hashingGate) ChoosePIN(ctx context.Context, a verifier.Attempt, ticket verifier.PINTicket, pin string) (verifier.Result, error) {
	<-g.turn
	return g.fakeGate.ChoosePIN(ctx, a, ticket, pin)
}

// One client that has any number of PINs hashed takes neither the workers from
// those who need only their code, nor all of the turns from another client.
func TestPINsOfOneClientStarveNobody(t *testing.T) {
	inBubble(t, func(h *harness) {
		gate := hashingGate{h.gate, make(chan struct{})}
		h.Gate = gate
		h.as("vpn", ModeChallenge, FirstFactor{PIN: true})
		h.as("vpn6", ModeChallenge, FirstFactor{PIN: true})
		flood := func(from netip.AddrPort, n int) {
			for i := range n {
				p := newPacket(codec.CodeAccessRequest, byte(i), fmt.Sprint("flood", from, i)).user(fmt.Sprint("user", i)).password(rightPIN, secret)
				h.conn.in <- sent{netip.AddrPortFrom(from.Addr(), uint16(2000+i)), p.signed(secret)}
			}
			synctest.Wait()
		}
		flood(vpn, workers+200)
		if n := h.drops("vpn", firstFactorUnavailable); n != workers+200-maxClientHashing {
			t.Errorf("%v dropped, want all but %d", n, maxClientHashing)
		}
		h.wantReply(legacy, newPacket(codec.CodeAccessRequest, 1, "a").user("hanako").password(rightCode, secret).b, codec.CodeAccessAccept)
		flood(vpnV6, maxHashing)
		if n := h.drops("vpn6", firstFactorUnavailable); n != maxClientHashing {
			t.Errorf("%v of another client dropped, want %d", n, maxClientHashing)
		}
		close(gate.turn)
		synctest.Wait()
		if n := len(h.conn.take()); n != maxHashing {
			t.Errorf("%d answered, want %d", n, maxHashing)
		}
		h.wantReply(vpn, h.typing(rightPIN, nil).signed(secret), codec.CodeAccessChallenge)
		if h.hashing.taken != 0 || len(h.hashing.byClient) != 0 {
			t.Errorf("%d turns are taken, of %d clients", h.hashing.taken, len(h.hashing.byClient))
		}
	})
}

// A PIN that is chosen is hashed too.
func TestChosenPINTakesATurn(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.gate.pin = ""
		h.as("vpn", ModePasswordOTP, FirstFactor{PIN: true})
		state := h.asks("8093", h.asks(rightCode, nil, promptNewPIN.english()), promptPINAgain.english())
		h.hashing.share = 0
		h.wantDrop(vpn, h.typing("8093", state).signed(secret), "vpn", firstFactorUnavailable)
		h.hashing.share = maxClientHashing
		h.answers("8093", state, codec.CodeAccessAccept)
	})
}

// How many digits somebody's code has, the time must not tell: what has no room
// for a code costs the same as what has, and nobody is asked about the person.
func TestSameWorkWithoutRoomForACode(t *testing.T) {
	for _, typed := range []string{"x" + rightCode, rightCode, "x"} {
		for _, digits := range []int{6, 8} {
			inBubble(t, func(h *harness) {
				h.gate.digits = digits
				d, u := &fakeDirectory{}, &fakeUpstream{}
				for i, f := range []FirstFactor{{PIN: true}, {Directory: d}, {Upstream: u}} {
					h.as("vpn", ModePasswordOTP, f)
					h.types(typed, nil, codec.CodeAccessReject)
					h.wantCalls(i + 1)
					if got := h.gate.attempts[i].FirstFactor.Verdict; got != verifier.FactorWrong {
						t.Errorf("%q, %d digits: the gate heard of %v", typed, digits, got)
					}
				}
				if len(h.gate.checked) != 1 || len(d.checked)+d.others != 1 || len(u.questions) != 1 {
					t.Errorf("%q, %d digits: %d PINs, %d passwords, %d questions, want one of each", typed, digits,
						len(h.gate.checked), len(d.checked)+d.others, len(u.questions))
				}
				hasRoom := digits == 6 && typed == "x"+rightCode
				if (len(d.checked) == 1) != hasRoom {
					t.Errorf("%q, %d digits: hanako's passwords: %q", typed, digits, d.checked)
				}
				if q := u.questions[0]; q.User == "hanako" && digits == 8 {
					t.Errorf("%q: hanako was asked about", typed)
				}
			})
		}
	}
}

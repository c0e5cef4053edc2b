package radius

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"otpgate/verifier"
)

func acceptOnly(code string) func(context.Context, verifier.Attempt) (verifier.Result, error) {
	return func(_ context.Context, a verifier.Attempt) (verifier.Result, error) {
		if a.Match(code) && !a.Match("something else") {
			return verifier.Result{Outcome: verifier.Accepted}, nil
		}
		return verifier.Result{Outcome: verifier.Wrong}, nil
	}
}

// try is one request: by a method, with a code.
type try struct{ method, code string }

// burstOf sends one request after the other and checks the answers.
func (h *harness) burstOf(from netip.AddrPort, user, station string, tries ...try) {
	h.t.Helper()
	for _, try := range tries {
		id := byte(h.sent)
		p := newPacket(codec.CodeAccessRequest, id, fmt.Sprint(h.sent)).user(user)
		h.sent++
		switch try.method {
		case "PAP":
			p.password(try.code, secret)
		case "CHAP":
			p.chap(try.code, []byte(fmt.Sprintf("challenge %d", h.sent)))
		case "MS-CHAPv2":
			p.msCHAPv2(user, try.code)
		}
		want := codec.CodeAccessReject
		if try.code == rightCode {
			want = codec.CodeAccessAccept
		}
		reply := h.wantReply(from, p.add(rfc2865.CallingStationID_Type, []byte(station)).signed(secret), want)
		if carries := len(reply) > headerLength+18; carries != (try.method == "MS-CHAPv2") {
			h.t.Errorf("%s: an answer of %d octets", try.method, len(reply))
		}
	}
}

func TestBurstCountsOnce(t *testing.T) {
	for order, calls := range map[string]int{
		"PAP MS-CHAPv2 CHAP": 1, // FortiGate's
		"PAP CHAP MS-CHAPv2": 1,
		"MS-CHAPv2 PAP CHAP": 1,
		"CHAP PAP MS-CHAPv2": 1,
		"CHAP PAP":           1, // Palo Alto, old releases
		"MS-CHAPv2 CHAP PAP": 2, // nothing shows that the first two are one
		"CHAP MS-CHAPv2 PAP": 2,
		"PAP PAP":            2, // typed again
		"PAP CHAP CHAP":      2,
		"PAP CHAP PAP CHAP":  2,
	} {
		t.Run(order, func(t *testing.T) {
			inBubble(t, func(h *harness) {
				for _, method := range strings.Fields(order) {
					h.burstOf(vpn, "hanako", "203.0.113.7", try{method, wrongCode})
				}
				h.wantCalls(calls)
				h.burstOf(vpn, "hanako", "203.0.113.7", try{"PAP", rightCode}) // none of it is in the way of the next one
			})
		})
	}
}

func TestGuessesCount(t *testing.T) {
	other := "111111"
	for name, tries := range map[string][]try{
		"three codes":          {{"PAP", wrongCode}, {"MS-CHAPv2", other}, {"CHAP", "222222"}},
		"the other way":        {{"CHAP", wrongCode}, {"MS-CHAPv2", other}, {"PAP", "222222"}},
		"response, then PAP":   {{"MS-CHAPv2", wrongCode}, {"PAP", other}, {"CHAP", "222222"}},
		"back to the first":    {{"PAP", wrongCode}, {"MS-CHAPv2", other}, {"PAP", wrongCode}},
		"forgotten by another": {{"PAP", wrongCode}, {"CHAP", other}, {"MS-CHAPv2", wrongCode}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(h *harness) {
				h.burstOf(vpn, "hanako", "203.0.113.7", tries...)
				h.wantCalls(len(tries))
			})
		})
	}
}

func TestRightCodeIsNeverInABurst(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.burstOf(vpn, "hanako", "x", try{"PAP", wrongCode}, try{"MS-CHAPv2", rightCode}, try{"CHAP", rightCode}, try{"PAP", rightCode})
		h.wantCalls(4) // that a code passes once is the gate's business
	})
}

func TestBurstIsOfOnePlace(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.burstOf(vpn, "hanako", "203.0.113.7", try{"PAP", wrongCode})
		h.burstOf(vpn, "hanako", "203.0.113.8", try{"CHAP", wrongCode})
		h.burstOf(vpn, "taro", "203.0.113.7", try{"CHAP", wrongCode})
		h.burstOf(vpnV6, "hanako", "203.0.113.7", try{"CHAP", wrongCode})
		h.wantCalls(4)
		h.burstOf(vpn, "hanako", "203.0.113.7", try{"CHAP", wrongCode})
		h.wantCalls(4)
	})
}

func TestBurstEnds(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.burstOf(vpn, "hanako", "x", try{"PAP", wrongCode})
		time.Sleep(burstHold - time.Millisecond)
		h.burstOf(vpn, "hanako", "x", try{"MS-CHAPv2", wrongCode})
		h.wantCalls(1)
		time.Sleep(time.Millisecond) // its second method didn't make it longer
		h.burstOf(vpn, "hanako", "x", try{"CHAP", wrongCode})
		h.wantCalls(2)
	})
}

func TestNoDecisionIsNoRefusal(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.gate.verify = func(context.Context, verifier.Attempt) (verifier.Result, error) { return verifier.Result{}, errGate }
		h.wantDrop(vpn, login(200, "first", wrongCode), "vpn", noDecision)
		h.gate.verify = nil
		h.burstOf(vpn, "hanako", "", try{"CHAP", wrongCode})
		h.wantCalls(2)
	})
}

// TestBurstsAreBounded: the oldest goes first, and then counts.
func TestBurstsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBursts(time.Now)
		typed := func() *proof { return &proof{method: methodPAP, typed: wrongCode, match: verifier.Typed(wrongCode)} }
		response := &proof{method: methodCHAP, match: verifier.Typed(wrongCode)}
		key := func(i int) loginKey { return loginKey{user: fmt.Sprint(i)} }
		for i := range maxBursts + 1 {
			b.refused(key(i), typed())
		}
		b.refused(key(maxBursts), typed()) // no second entry
		if len(b.byLogin) != maxBursts || b.oldest.Len() != maxBursts {
			t.Errorf("%d and %d entries, want %d", len(b.byLogin), b.oldest.Len(), maxBursts)
		}
		if b.continues(key(0), response) || !b.continues(key(1), response) || !b.continues(key(maxBursts), response) {
			t.Error("not the oldest went")
		}
		time.Sleep(burstHold)
		if b.continues(key(2), response) || len(b.byLogin) != 0 || b.oldest.Len() != 0 {
			t.Errorf("%d and %d entries after their time", len(b.byLogin), b.oldest.Len())
		}
	})
}

package radius

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"

	"otpgate/verifier"
)

// withoutDecision lets the gate fail.
func withoutDecision(context.Context, verifier.Attempt) (verifier.Result, error) {
	return verifier.Result{}, errGate
}

// RFC 9765 §6.1: what can't be processed is told so.
func TestProtocolErrorOverRADIUS11(t *testing.T) {
	log := &fakeAccounts{fail: errors.New("the disk is full")}
	user := func(code codec.Code) *packet {
		return v11(code, 0x01020304).user("hanako").add(rfc2865.ProxyState_Type, []byte("one")).add(rfc2865.ProxyState_Type, []byte("two"))
	}
	login := func() *packet { return user(codec.CodeAccessRequest).add(rfc2865.UserPassword_Type, []byte(rightCode)) }
	accounting := func() *packet {
		return user(codec.CodeAccountingRequest).number(rfc2866.AcctStatusType_Type, 1).add(rfc2866.AcctSessionID_Type, []byte("s"))
	}
	many := login()
	for range maxAttributes {
		many.add(rfc2865.ReplyMessage_Type, []byte("x"))
	}
	for name, try := range map[string]struct {
		prepare func(*tlsHarness)
		request *packet
		why     reason
		cause   uint32
	}{
		"no decision": {func(h *tlsHarness) { h.gate.verify = withoutDecision }, login(), noDecision, 506},
		"a panic": {func(h *tlsHarness) {
			h.gate.verify = func(context.Context, verifier.Attempt) (verifier.Result, error) { panic("boom") }
		}, login(), internalError, 506},
		"too fast a client":     {func(h *tlsHarness) { h.proxyClient().limit.SetBurst(0); h.proxyClient().limit.SetLimit(0) }, login(), clientTooFast, 506},
		"accounting not kept":   {func(h *tlsHarness) { h.AccountLog = log }, accounting(), notKept, 506},
		"accounting not wanted": {func(h *tlsHarness) { h.proxyClient().Accounting = false }, accounting(), accountingOff, 406},
		"accounting malformed":  {func(*tlsHarness) {}, user(codec.CodeAccountingRequest), accountingMalformed, 404},
		"too many attributes":   {func(*tlsHarness) {}, many, tooManyAttributes, 404},
	} {
		t.Run(name, func(t *testing.T) {
			overTLSInBubble(t, func(h *tlsHarness) {
				try.prepare(h)
				conn := h.dial11()
				got := ask11(t, conn, try.request, codeProtocolError)
				if cause := got.Get(101); len(cause) != 4 || binary.BigEndian.Uint32(cause) != try.cause {
					t.Errorf("Error-Cause % x, want %d", cause, try.cause)
				}
				var states []byte
				for _, avp := range got {
					if avp.Type == rfc2865.ProxyState_Type {
						states = append(states, avp.Attribute...)
					}
				}
				if want := "onetwo"; try.why != tooManyAttributes && string(states) != want {
					t.Errorf("Proxy-States %q, want %q", states, want)
				}
				if n := h.drops("proxy", try.why); n != 1 {
					t.Errorf("dropped for %s: %v, want 1", try.why, n)
				}
				ask11(t, conn, v11(codec.CodeStatusServer, 9), codec.CodeAccessAccept) // the connection goes on
			})
		})
	}
}

func (h *tlsHarness) proxyClient() *client {
	return h.Clients.byCertificate[Certificate{SubjectCN: "proxy.example"}]
}

// However many are told so, their places on the connection come free.
func TestProtocolErrorsFreeTheirSlots(t *testing.T) {
	overTLSInBubble(t, func(h *tlsHarness) {
		h.gate.verify = withoutDecision
		conn := h.dial11()
		for i := range uint32(2 * maxInFlight) {
			ask11(t, conn, v11(codec.CodeAccessRequest, i).user(fmt.Sprint("user", i)).add(rfc2865.UserPassword_Type, []byte(rightCode)), codeProtocolError)
		}
		h.gate.verify = nil
		ask11(t, conn, v11(codec.CodeAccessRequest, 0).user("hanako").add(rfc2865.UserPassword_Type, []byte(rightCode)), codec.CodeAccessAccept)
	})
}

// Nobody else is told anything: a forger over UDP least of all, and historic
// RADIUS/TLS has no such packet.
func TestNoProtocolErrorElsewhere(t *testing.T) {
	overTLSInBubble(t, func(h *tlsHarness) {
		h.gate.verify = withoutDecision
		conn := h.mustDial(proxy, h.as("proxy.example"))
		send(t, conn, radsec(1, "a", rightCode).b)
		synctest.Wait()
		h.gate.verify = nil
		send(t, conn, radsec(2, "b", rightCode).b)
		if reply := receive(t, conn); reply[1] != 2 || bytes.IndexByte(reply[:1], byte(codeProtocolError)) == 0 {
			t.Errorf("% x, want the answer to the second request alone", reply)
		}
	})
}

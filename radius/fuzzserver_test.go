package radius

import (
	"bytes"
	"crypto/tls"
	"io"
	"log/slog"
	"testing"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/rfc2869"

	"otpgate/radius/eap"
	"otpgate/verifier"
)

// fuzzedWays are the ways in that FuzzServer sends to.
var fuzzedWays = []struct {
	client string
	format format
}{
	{"vpn", overUDP}, {"legacy", overUDP}, {"proxy", overTLS}, {"proxy", version11}, {"vpn6", overUDP},
}

// FuzzServer sends any two packets, one after the other, from parse to reply, by
// each way in: over UDP with and without Message-Authenticator, over TLS, as
// RADIUS/1.1, and with a PIN asked for. If the first is answered by a challenge, the
// second has its State. Each ends as one reply or one drop, without a panic; nobody is
// accepted whom the gate didn't accept; and the same packet is evaluated once.
func FuzzServer(f *testing.F) {
	pap := func(id byte, code string) []byte {
		return bytes.Clone(newPacket(codec.CodeAccessRequest, id, "a").user("hanako").password(code, secret).b)
	}
	clear11 := func(token uint32, code string) []byte {
		return v11(codec.CodeAccessRequest, token).user("hanako").add(rfc2865.UserPassword_Type, []byte(code)).add(rfc2865.ProxyState_Type, []byte("p")).b
	}
	account := v11(codec.CodeAccountingRequest, 3).number(rfc2866.AcctStatusType_Type, 1).add(rfc2866.AcctSessionID_Type, []byte("s"))
	f.Add(login(1, "a", rightCode), login(1, "a", rightCode), uint8(0), false)
	f.Add(pap(1, rightCode), pap(2, wrongCode), uint8(1), false)
	f.Add(pap(1, wrongCode), newPacket(codec.CodeAccessRequest, 1, "b").user("hanako").b, uint8(1), false)
	f.Add(radsec(1, "a", rightCode).b, radsec(1, "b", rightCode).signed("radsec"), uint8(2), true)
	f.Add(clear11(1, rightCode), clear11(1, wrongCode), uint8(3), false)
	f.Add(account.b, v11(codec.CodeStatusServer, 0).b, uint8(3), false)
	f.Add(v11(codec.CodeAccessRequest, 9).user("jiro").msCHAPv2To(make([]byte, 16), make([]byte, 16), "jiro", rightCode).b, []byte{4, 0, 0, 20}, uint8(3), true)
	typing := func(text string) []byte {
		return newPacket(codec.CodeAccessRequest, 1, text).user("hanako").password(text, secret).signed(secret)
	}
	byEAP := func(message []byte) []byte {
		return newPacket(codec.CodeAccessRequest, 1, string(message)).user("hanako").add(rfc2869.EAPMessage_Type, message).signed(secret)
	}
	f.Add(typing(rightPIN), typing(rightCode), uint8(4), true)
	f.Add(typing(rightPIN), typing(farCode), uint8(4), true)
	f.Add(byEAP(eapResponse(50, "\x01hanako")), byEAP(eapResponse(51, "\x06"+rightCode)), uint8(0), true)
	f.Add(byEAP(eapResponse(50, "\x01hanako")), byEAP(eapResponse(51, "\x03\x1a")), uint8(0), true)
	f.Add(withState(typing(rightCode), sealedState(f)), typing(rightPIN), uint8(4), true)

	offered := eapConfig(f, tls.Certificate{}, eap.GTC, eap.MSCHAPv2)
	f.Fuzz(func(t *testing.T, first, second []byte, via uint8, sign bool) {
		way := fuzzedWays[int(via)%len(fuzzedWays)]
		s := newServer(t, newFakeGate(), &logBuffer{})
		s.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
		s.AccountLog, s.EAP = keepsAll{}, offered
		s.prepare()
		defer s.cancel()
		defer s.eap.close()
		c := fuzzedClient(t, way.client)
		out := newOutbox()
		var state []byte // of the first one's challenge
		for i, b := range [][]byte{first, second, second} {
			if i > 0 && state != nil {
				b = withState(b, state)
			}
			if sign && way.format == overUDP {
				b = resign(b)
			}
			d := &datagram{via: out, from: vpn, client: c, format: way.format, at: s.Now()}
			d.n = copy(d.buf[:], b)
			calls := s.Gate.(*fakeGate).calls()
			out.slots <- struct{}{}
			s.handle(new(request), d)
			reply := checkEnd(t, s, out, d, s.Gate.(*fakeGate).calls()-calls)
			if i == 0 && reply != nil {
				state = rfc2865.State_Get(reply)
			}
		}
		if n := s.Gate.(*fakeGate).calls(); n > 2 {
			t.Fatalf("the gate was asked %d times for two packets", n)
		}
	})
}

func fuzzedClient(t *testing.T, name string) *client {
	t.Helper()
	if name != "proxy" {
		for c := range testClients(t).all {
			if c.Name == name {
				if name == "vpn6" {
					c.Mode, c.FirstFactor = ModeChallenge, FirstFactor{PIN: true}
				}
				return c
			}
		}
	}
	c := newClient(Client{Name: "proxy", Secret: Secret(tlsSecret), Certificate: &Certificate{SubjectCN: "a"}, Realm: "staff", Accounting: true})
	return c
}

// sealedState is one that asks hanako for a code, at the client with the PIN.
func sealedState(f *testing.F) []byte {
	s := newServer(f, newFakeGate(), &logBuffer{})
	value, err := s.seal(s.Clients.lookup(vpnV6.Addr()), &progress{
		stage: stageCode, who: subject{realm: "staff", user: "hanako"},
		factor: verifier.FirstFactor{Kind: verifier.FactorPIN, Verdict: verifier.FactorRight},
	})
	if err != nil {
		f.Fatal(err)
	}
	return value
}

// withState adds a State to what may be a packet.
func withState(b, state []byte) []byte {
	if raw, err := cut(b); err == nil {
		return (&packet{bytes.Clone(raw)}).add(rfc2865.State_Type, state).b
	}
	return b
}

// checkEnd checks what became of d, for which the gate was asked so many times. It
// returns the reply, or nil.
func checkEnd(t *testing.T, s *Server, out *outbox, d *datagram, calls int) (answered *codec.Packet) {
	t.Helper()
	h := harness{Server: s}
	if h.drops(d.client.Name, internalError) != 0 || calls > 1 {
		t.Fatalf("a panic, or the gate was asked %d times", calls)
	}
	select {
	case reply := <-out.replies:
		<-out.slots
		answered = checkFormat(t, reply, d)
		attempts := s.Gate.(*fakeGate).attempts
		if codec.Code(reply[0]) == codec.CodeAccessAccept && codec.Code(d.buf[0]) != codec.CodeStatusServer &&
			calls == 1 && !attempts[len(attempts)-1].Match(rightCode) {
			t.Fatalf("accepted, though the gate did not: % x", d.buf[:d.n])
		}
	default:
		if calls != 0 {
			t.Fatal("the gate has decided, and nothing was answered")
		}
	}
	if len(out.slots) != 0 || len(out.replies) != 0 {
		t.Fatalf("%d slots and %d replies are left over", len(out.slots), len(out.replies))
	}
	return answered
}

// checkFormat checks that reply is a packet of the request's format.
func checkFormat(t *testing.T, reply []byte, d *datagram) *codec.Packet {
	t.Helper()
	request, err := cut(d.buf[:d.n])
	if err != nil {
		t.Fatalf("an answer to what is no packet: %v", err)
	}
	p, err := codec.Parse(reply, d.client.Secret)
	if err != nil || len(reply) > codec.MaxPacketLength {
		t.Fatalf("the answer is no packet: %v, % x", err, reply)
	}
	signed := p.Code != codec.CodeAccountingResponse && d.format != version11
	if first := len(p.Attributes) > 0 && p.Attributes[0].Type == rfc2869.MessageAuthenticator_Type; first != signed {
		t.Fatalf("the first attribute is a Message-Authenticator: %v, want %v", first, signed)
	}
	switch {
	case d.format == version11 && (reply[1] != 0 || !bytes.Equal(reply[4:8], request[4:8]) || !bytes.Equal(reply[8:20], make([]byte, 12))):
		t.Fatalf("the header isn't that of RADIUS/1.1 with the request's Token: % x", reply[:20])
	case d.format != version11 && (reply[1] != request[1] || !codec.IsAuthenticResponse(reply, request, d.client.Secret)):
		t.Fatalf("the answer isn't authentic: % x", reply)
	}
	return p
}

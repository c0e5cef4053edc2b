package radius

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	codec "layeh.com/radius"
	"layeh.com/radius/rfc2759"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"

	"otpgate/radius/eap"
	"otpgate/verifier"
)

// inEAP is inBubble for a server that offers these methods.
func inEAP(t *testing.T, f func(*harness), methods ...eap.Method) {
	t.Helper()
	certificate := tls.Certificate{}
	if methods == nil {
		methods = []eap.Method{eap.GTC, eap.MSCHAPv2}
	} else {
		certificate, _ = eapCertificate(t)
	}
	config := eapConfig(t, certificate, methods...)
	inBubble(t, func(h *harness) {
		h.EAP = config
		f(h)
		h.eap.close()
		if n := testutil.ToFloat64(h.Metrics.eapOpen); n != 0 {
			t.Errorf("%v sessions are counted as open", n)
		}
	})
}

// eapPeer is a person's device behind the gear at an address.
type eapPeer struct {
	*harness
	from  netip.AddrPort
	name  string
	state []byte
	id    byte
	data  string // of the last request, with its type
}

func (h *harness) eapPeer(from netip.AddrPort, name string) *eapPeer {
	return &eapPeer{harness: h, from: from, name: name, id: 50}
}

func eapResponse(id byte, data string) []byte {
	return append([]byte{2, id, 0, byte(4 + len(data))}, data...)
}

// request is one with the EAP packet, in as many attributes as it takes.
func (p *eapPeer) request(message []byte) *packet {
	p.sent++
	b := newPacket(codec.CodeAccessRequest, byte(p.sent), fmt.Sprint("eap", p.sent)).user(p.name)
	if p.state != nil {
		b.add(rfc2865.State_Type, p.state)
	}
	if len(message) == 0 {
		return b.add(rfc2869.EAPMessage_Type, nil)
	}
	for len(message) > 0 {
		n := min(len(message), 100)
		b.add(rfc2869.EAPMessage_Type, message[:n])
		message = message[n:]
	}
	return b
}

// send answers the last request, and returns the reply.
func (p *eapPeer) send(data string, want codec.Code) *codec.Packet {
	p.t.Helper()
	return p.wantEAP(p.request(eapResponse(p.id, data)).signed(secret), want)
}

// wantEAP sends b and takes the EAP packet of the reply, which fits its code.
func (p *eapPeer) wantEAP(b []byte, want codec.Code) *codec.Packet {
	p.t.Helper()
	reply, err := codec.Parse(p.wantReply(p.from, b, want), []byte(secret))
	if err != nil {
		p.t.Fatal(err)
	}
	var message []byte
	for _, avp := range reply.Attributes {
		if avp.Type == rfc2869.EAPMessage_Type {
			message = append(message, avp.Attribute...)
		}
	}
	code := map[codec.Code]byte{codec.CodeAccessChallenge: 1, codec.CodeAccessAccept: 3, codec.CodeAccessReject: 4}[want]
	if len(message) < 4 || message[0] != code || int(binary.BigEndian.Uint16(message[2:])) != len(message) {
		p.t.Fatalf("a %s with the EAP packet %x", want, message)
	}
	if want == codec.CodeAccessChallenge {
		p.state, p.id, p.data = rfc2865.State_Get(reply), message[1], string(message[4:])
		if len(p.state) == 0 {
			p.t.Fatal("a challenge without State")
		}
	} else if message[1] != p.id {
		p.t.Errorf("the end has identifier %d, not that of the response, %d", message[1], p.id)
	}
	return reply
}

// begin says who it is, and is asked for a code by GTC.
func (p *eapPeer) begin() *eapPeer {
	p.t.Helper()
	p.send("\x01"+p.name, codec.CodeAccessChallenge)
	if !strings.HasPrefix(p.data, "\x06") {
		p.t.Fatalf("asked %q", p.data)
	}
	return p
}

func (h *harness) refused(client string, why refusal) float64 {
	return testutil.ToFloat64(h.Metrics.rejects.WithLabelValues(client, string(why)))
}

func TestEAPGTC(t *testing.T) {
	inEAP(t, func(h *harness) {
		p := h.eapPeer(vpn, "hanako@staff").begin()
		if p.data != "\x06"+promptCode.english() {
			t.Errorf("asked %q", p.data)
		}
		b := p.request(eapResponse(p.id, "\x06"+rightCode)).add(rfc2865.ProxyState_Type, []byte("proxy")).signed(secret)
		p.wantEAP(b, codec.CodeAccessAccept)
		p.wantEAP(b, codec.CodeAccessAccept) // the answer was lost
		h.wantCalls(1)
		if a := h.gate.attempts[0]; a.User != "hanako" || a.Realm != "staff" || a.Client != "vpn" {
			t.Errorf("the gate was asked for %+v", a)
		}
		p = h.eapPeer(vpn, "hanako").begin()
		p.send("\x06"+wrongCode, codec.CodeAccessReject)
		h.wantCalls(2)
		p.id++ // and the session is no more
		p.send("\x06"+rightCode, codec.CodeAccessReject)
		h.wantCalls(2)
		for _, result := range []result{eapAccepted, eapRejected} {
			if n := testutil.ToFloat64(h.Metrics.eapEnded.WithLabelValues("vpn", string(result), "EAP-GTC")); n != 1 {
				t.Errorf("%v sessions are counted as %s", n, result)
			}
		}
	})
}

func TestEAPStart(t *testing.T) {
	inEAP(t, func(h *harness) {
		p := h.eapPeer(vpn, "hanako")
		p.wantEAP(p.request(nil).signed(secret), codec.CodeAccessChallenge)
		if p.data != "\x01" {
			t.Fatalf("asked %q", p.data)
		}
		p.begin().send("\x06"+rightCode, codec.CodeAccessAccept)
		h.wantCalls(1)
	})
}

// The keys of EAP-MSCHAPv2 are what MS-CHAPv2 has.
func TestEAPMSCHAPv2(t *testing.T) {
	inEAP(t, func(h *harness) {
		p := h.eapPeer(vpn, "hanako").begin()
		p.send("\x03\x1a", codec.CodeAccessChallenge)
		peerChallenge := bytes.Repeat([]byte{7}, 16)
		nt, err := rfc2759.GenerateNTResponse([]byte(p.data[6:22]), peerChallenge, []byte("hanako"), []byte(rightCode))
		if err != nil {
			t.Fatal(err)
		}
		p.send("\x1a\x02"+p.data[2:3]+"\x00\x3c\x31"+string(peerChallenge)+strings.Repeat("\x00", 8)+string(nt)+"\x00hanako", codec.CodeAccessChallenge)
		h.wantCalls(1)
		b := p.request(eapResponse(p.id, "\x1a\x03")).signed(secret)
		reply := p.wantEAP(b, codec.CodeAccessAccept)
		send, recv := reveal(t, hiddenKey(t, reply, msMPPESendKey), b), reveal(t, hiddenKey(t, reply, msMPPERecvKey), b)
		if bytes.Equal(send, recv) || len(send) != 16 {
			t.Errorf("keys %x, %x", send, recv)
		}
	})
}

// What doesn't belong to a session doesn't reach it.
func TestEAPSessionIsBound(t *testing.T) {
	inEAP(t, func(h *harness) {
		p := h.eapPeer(vpn, "hanako").begin()
		for name, test := range map[string]struct {
			other eapPeer
			data  string
			why   refusal
		}{
			"another client": {eapPeer{harness: h, from: legacy, name: "hanako", state: p.state, id: p.id}, "\x06" + rightCode, eapSessionForeign},
			"another user":   {eapPeer{harness: h, from: vpn, name: "taro", state: p.state, id: p.id}, "\x06" + rightCode, eapSessionForeign},
			"another State":  {eapPeer{harness: h, from: vpn, name: "hanako", state: make([]byte, 16), id: p.id}, "\x06" + rightCode, eapSessionUnknown},
			"a short State":  {eapPeer{harness: h, from: vpn, name: "hanako", state: p.state[:15], id: p.id}, "\x06" + rightCode, eapSessionUnknown},
		} {
			client := "vpn"
			if test.other.from == legacy {
				client = "legacy"
			}
			before := h.refused(client, test.why)
			test.other.send(test.data, codec.CodeAccessReject)
			if n := h.refused(client, test.why) - before; n != 1 {
				t.Errorf("%s: refused %v times for %s", name, n, test.why)
			}
		}
		// Packets out of order are not answered, and don't end it.
		for _, message := range [][]byte{eapResponse(p.id+1, "\x06"+rightCode), eapResponse(p.id, "\x1a"+rightCode), {1, p.id, 0, 5, 6}, nil} {
			h.wantDrop(vpn, p.request(message).signed(secret), "vpn", eapIgnored)
		}
		other := h.eapPeer(vpn, "hanako")
		h.wantDrop(vpn, other.request(eapResponse(1, "\x06"+rightCode)).signed(secret), "vpn", eapIgnored)
		h.wantDrop(vpn, p.request(eapResponse(p.id, "\x06"+rightCode)).b, "vpn", authenticatorMissing)
		h.wantDrop(legacy, p.request(eapResponse(p.id, "\x06"+rightCode)).b, "legacy", authenticatorMissing)
		h.wantCalls(0)
		p.send("\x06"+rightCode, codec.CodeAccessAccept)
		h.wantCalls(1)
	})
}

func TestEAPSessionExpires(t *testing.T) {
	inEAP(t, func(h *harness) {
		in, late := h.eapPeer(vpn, "hanako").begin(), h.eapPeer(vpn, "hanako").begin()
		time.Sleep(eapHold - time.Second)
		in.send("\x06"+rightCode, codec.CodeAccessAccept)
		time.Sleep(time.Second)
		late.send("\x06"+rightCode, codec.CodeAccessReject)
		h.wantCalls(1)
	})
}

// A client that begins sessions without end pushes out its own, and nobody else's.
func TestEAPFlood(t *testing.T) {
	inEAP(t, func(h *harness) {
		other := h.eapPeer(legacy, "taro").begin()
		first, second := h.eapPeer(vpn, "hanako").begin(), h.eapPeer(vpn, "hanako").begin()
		for n := range maxClientEAPSessions - 1 {
			h.eapPeer(vpn, fmt.Sprint("user", n)).begin()
		}
		if n := testutil.ToFloat64(h.Metrics.eapOpen); n != maxClientEAPSessions+1 {
			t.Errorf("%v sessions are open", n)
		}
		first.send("\x06"+rightCode, codec.CodeAccessReject)
		h.wantCalls(0)
		second.send("\x06"+rightCode, codec.CodeAccessAccept)
		other.send("\x06"+rightCode, codec.CodeAccessAccept)
		if n := testutil.ToFloat64(h.Metrics.eapEnded.WithLabelValues("vpn", string(eapPushedOut), "")); n != 1 {
			t.Errorf("%v sessions are counted as pushed out", n)
		}
	})
}

// Whoever shows nothing but names pushes out nobody who has gone further, and, from
// one station or by one name, nobody at all.
func TestEAPFloodOfIdentities(t *testing.T) {
	inEAP(t, func(h *harness) {
		h.as("vpn", ModeChallenge, FirstFactor{PIN: true})
		underWay := h.eapPeer(vpn, "hanako").begin()
		underWay.send("\x06"+rightPIN, codec.CodeAccessChallenge)
		for n := range 2 * maxClientEAPSessions {
			h.eapPeer(vpn, fmt.Sprint("user", n)).begin()
		}
		underWay.send("\x06"+rightCode, codec.CodeAccessAccept)
	})
	inEAP(t, func(h *harness) {
		victim := h.eapPeer(vpn, "hanako").begin()
		from := func(station, name string) *packet {
			p := h.eapPeer(vpn, name)
			return p.request(eapResponse(p.id, "\x01"+name)).add(rfc2865.CallingStationID_Type, []byte(station))
		}
		for n := range maxStationEAPSessions {
			h.wantReply(vpn, from("192.0.2.99[4500]", fmt.Sprint("user", n)).signed(secret), codec.CodeAccessChallenge)
		}
		for n := range maxClientEAPSessions {
			h.wantReply(vpn, from(fmt.Sprintf("192.0.2.99[%d]", n), fmt.Sprint("more", n)).signed(secret), codec.CodeAccessReject)
		}
		h.wantRefused("vpn", eapCrowded, maxClientEAPSessions)
		h.wantReply(vpn, from("192.0.2.100", "taro").signed(secret), codec.CodeAccessChallenge)
		for n := range maxClientEAPSessions {
			name := []string{"jiro", "JIRO", "\uff4airo"}[n%3]
			want := codec.CodeAccessChallenge
			if n >= maxNameEAPSessions {
				want = codec.CodeAccessReject
			}
			h.wantReply(vpn, from(fmt.Sprint("station", n), name).signed(secret), want)
		}
		victim.send("\x06"+rightCode, codec.CodeAccessAccept)
		time.Sleep(eapHold) // and all of it is over with their time
		h.wantReply(vpn, from("192.0.2.99", "jiro").signed(secret), codec.CodeAccessChallenge)
		if own := h.eap.byClient["vpn"]; own.count() != 1 || len(own.stations) != 1 || len(own.names) != 1 {
			t.Errorf("%d sessions, %d stations, %d names are kept, want 1", own.count(), len(own.stations), len(own.names))
		}
	})
}

// When all are taken by others, a client with none is refused; it takes nobody's.
func TestEAPSessionsTotal(t *testing.T) {
	config := eapConfig(t, tls.Certificate{}, eap.GTC)
	sessions := newEAPSessions(time.Now, newServer(t, newFakeGate(), &logBuffer{}).Metrics)
	defer sessions.close()
	var first *eapSession
	for i := range maxEAPSessions {
		e, err := sessions.begin(&client{Client: Client{Name: fmt.Sprint(i / maxClientEAPSessions)}}, "", "", config.NewSession(""))
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = e
		}
		sessions.release(e, ending{})
	}
	if _, err := sessions.begin(&client{Client: Client{Name: "late"}}, "", "", config.NewSession("")); !errors.Is(err, eapBusy) {
		t.Errorf("%v, want it refused", err)
	}
	if first.removed {
		t.Error("another client's session is gone")
	}
}

func TestEAPRefused(t *testing.T) {
	inEAP(t, func(h *harness) {
		p := h.eapPeer(vpn, "hanako").begin()
		b := p.request(eapResponse(p.id, "\x06"+rightCode)).password(rightCode, secret).signed(secret)
		p.wantEAP(b, codec.CodeAccessReject) // RFC 3579 §3.3
		p.send("\x06", codec.CodeAccessReject)
		if h.refused("vpn", emptyPassword) != 1 || h.refused("vpn", ambiguousMethod) != 1 {
			t.Error("not refused for what it was")
		}
		p = h.eapPeer(vpn, "hanako").begin()
		p.send("\x03\x0d", codec.CodeAccessReject) // wants EAP-TLS
		if h.refused("vpn", eapMethodUnwanted) != 1 || h.refused("vpn", eapFailed) != 0 {
			t.Error("not refused for what it was")
		}
		h.wantCalls(0)
	})
	inBubble(t, func(h *harness) { // EAP is off
		p := h.eapPeer(vpn, "hanako")
		reply := h.wantReply(vpn, p.request(eapResponse(1, "\x01hanako")).signed(secret), codec.CodeAccessReject)
		if len(reply) != headerLength+18 || h.refused("vpn", methodNotSupported) != 1 {
			t.Errorf("%x", reply)
		}
	})
}

// Who could not be judged gets no answer, and never one from what is left.
func TestEAPNoDecision(t *testing.T) {
	inEAP(t, func(h *harness) {
		other := h.eapPeer(vpn, "taro").begin()
		p := h.eapPeer(vpn, "hanako").begin()
		h.gate.verify = func(context.Context, verifier.Attempt) (verifier.Result, error) { return verifier.Result{}, errGate }
		h.wantDrop(vpn, p.request(eapResponse(p.id, "\x06"+rightCode)).signed(secret), "vpn", noDecision)
		h.gate.verify = nil
		h.wantDrop(vpn, p.request(eapResponse(p.id, "\x06"+rightCode)).signed(secret), "vpn", noDecision)
		h.wantCalls(1)

		p = h.eapPeer(vpn, "jiro").begin()
		h.gate.verify = func(context.Context, verifier.Attempt) (verifier.Result, error) { panic("a fault") }
		h.wantDrop(vpn, p.request(eapResponse(p.id, "\x06"+rightCode)).signed(secret), "vpn", internalError)
		h.gate.verify = nil
		p.send("\x06"+rightCode, codec.CodeAccessReject)
		h.wantCalls(2)
		other.send("\x06"+rightCode, codec.CodeAccessAccept)
	})
}

// A second packet of a session that is answering one doesn't wait for it.
func TestEAPOneAtATime(t *testing.T) {
	inEAP(t, func(h *harness) {
		p := h.eapPeer(vpn, "hanako").begin()
		decided := make(chan struct{})
		h.gate.verify = func(context.Context, verifier.Attempt) (verifier.Result, error) {
			<-decided
			return verifier.Result{Outcome: verifier.Accepted}, nil
		}
		if replies := h.exchange(vpn, p.request(eapResponse(p.id, "\x06"+rightCode)).signed(secret)); len(replies) != 0 {
			t.Fatal("answered before the gate")
		}
		h.wantDrop(vpn, p.request(eapResponse(p.id, "\x06"+rightCode)).signed(secret), "vpn", eapIgnored)
		close(decided)
		synctest.Wait()
		if replies := h.conn.take(); len(replies) != 1 || replies[0].b[0] != byte(codec.CodeAccessAccept) {
			t.Errorf("replies %v", replies)
		}
		h.wantCalls(1)
	})
}

// With a first factor, GTC asks twice, and the same whether it was right or wrong.
func TestEAPModes(t *testing.T) {
	in := func(client Client, f func(*harness)) {
		inEAP(t, func(h *harness) {
			client.Name, client.Prefix, client.Secret, client.Realm = "vpn", netip.MustParsePrefix("192.0.2.0/24"), Secret(secret), "staff"
			clients, err := NewClients([]Client{client})
			if err != nil {
				t.Fatal(err)
			}
			h.Clients = clients
			f(h)
		})
	}
	in(Client{Mode: ModeChallenge, FirstFactor: FirstFactor{PIN: true}}, func(h *harness) {
		for _, test := range []struct {
			pin  string
			want codec.Code
		}{{rightPIN, codec.CodeAccessAccept}, {"0000", codec.CodeAccessReject}} {
			p := h.eapPeer(vpn, "hanako").begin()
			if p.data != "\x06"+promptFirstFactor.english() {
				t.Errorf("asked first %q", p.data)
			}
			p.send("\x06"+test.pin, codec.CodeAccessChallenge)
			if p.data != "\x06"+promptCode.english() {
				t.Errorf("asked then %q", p.data)
			}
			p.send("\x06"+rightCode, test.want)
		}
		h.wantCalls(2)
	})
	in(Client{Mode: ModeChallenge}, func(h *harness) { // no factor: the code is asked for once
		h.eapPeer(vpn, "hanako").begin().send("\x06"+farCode, codec.CodeAccessReject) // a question would tell a guesser
		h.eapPeer(vpn, "hanako").begin().send("\x06"+rightCode, codec.CodeAccessAccept)
		h.wantCalls(2)
	})
	in(Client{Mode: ModePasswordOTP, FirstFactor: FirstFactor{PIN: true}}, func(h *harness) {
		p := h.eapPeer(vpn, "hanako").begin()
		if p.data != "\x06"+promptFactorAndCode.english() {
			t.Errorf("asked %q", p.data)
		}
		p.send("\x06"+rightPIN+rightCode, codec.CodeAccessAccept)
		p = h.eapPeer(vpn, "hanako").begin()
		p.send("\x06"+rightCode+rightPIN, codec.CodeAccessReject)
	})
}

// The realm of who logs in is what the name in the tunnel says, if the client may
// have it.
func TestEAPInnerIdentity(t *testing.T) {
	gate := newOnceGate()
	s := newEAPOLServer(t, gate, Client{})
	const network = "eap=TTLS\nCA\nphase2=\"auth=PAP\"\n"
	for _, inner := range []string{"hanako@retail", `RETAIL\hanako`, "anonymous"} {
		if ok, out := s.run(t, network+credentials("hanako@staff", inner, rightCode)); ok {
			t.Errorf("%s is in:\n%s", inner, tail(out))
		}
		if a := gate.last(); a.Realm != "staff" || a.User != inner {
			t.Errorf("%s: the gate was asked for %s in %s", inner, a.User, a.Realm)
		}
	}
	if ok, out := s.run(t, network+credentials("anonymous@staff", "hanako@STAFF", rightCode)); !ok {
		t.Errorf("not in:\n%s", tail(out))
	}
}

// A device that doesn't trust the certificate shows no code.
func TestEAPUntrusted(t *testing.T) {
	gate := newOnceGate()
	s := newEAPOLServer(t, gate, Client{})
	_, another := eapCertificate(t)
	if err := os.WriteFile(s.ca, another, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, network := range []string{"eap=TTLS\nCA\nphase2=\"auth=PAP\"\n", "eap=PEAP\nCA\nphase2=\"auth=GTC\"\n"} {
		if ok, out := s.run(t, network+credentials("anonymous", "hanako", rightCode)); ok || !strings.Contains(out, "CTRL-EVENT-EAP-FAILURE") {
			t.Errorf("no EAP-Failure:\n%s", tail(out))
		}
	}
	if n := gate.calls(); n != 0 {
		t.Errorf("the gate was asked %d times", n)
	}
	if n := testutil.ToFloat64(s.Metrics.rejects.WithLabelValues("wlan", string(eapCertificateRefused))); n != 2 {
		t.Errorf("%v are counted as refusals of the certificate", n)
	}
}

// Without RFC 7627 there is no key, and so no code is used up.
func TestEAPWithoutExtendedMasterSecret(t *testing.T) {
	gate := newOnceGate()
	s := newEAPOLServer(t, gate, Client{})
	file := filepath.Join(t.TempDir(), "openssl.cnf")
	const text = "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nOptions = -ExtendedMasterSecret\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OPENSSL_CONF", file)
	network := "eap=TTLS\nCA\nphase2=\"auth=PAP\"\nphase1=\"tls_disable_tlsv1_3=1\"\n" + credentials("anonymous", "hanako", rightCode)
	if ok, out := s.run(t, network); ok || !strings.Contains(out, "CTRL-EVENT-EAP-FAILURE") {
		t.Errorf("no EAP-Failure:\n%s", tail(out))
	}
	if n := gate.calls(); n != 0 {
		t.Errorf("the gate was asked %d times", n)
	}
}

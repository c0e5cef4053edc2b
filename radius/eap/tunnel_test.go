package eap

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"layeh.com/radius/rfc2759"
)

func avp(code uint32, value string) []byte { return encodeAVP(avpKind{code: code}, []byte(value)) }

func inTTLS(t *testing.T) *peer {
	t.Helper()
	p := newPeer(t, TTLS)
	p.identify("anonymous")
	p.handshake(tls.VersionTLS12)
	return p
}

func TestTTLSPAP(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		p := newPeer(t, TTLS)
		p.identify("anonymous")
		p.handshake(version)
		p.say(append(avp(avpUserName, "hanako"), avp(avpUserPassword, rightCode+"\x00\x00\x00")...))
		p.want(Success, 1)
		if got := p.judge.shown[0]; got.Identity != "hanako" || got.Tunnel != "TTLS" || got.Name() != "TTLS/PAP" || got.CanAsk {
			t.Errorf("shown %+v", got)
		}
		label, context := "ttls keying material", []byte(nil)
		if version == tls.VersionTLS13 {
			label, context = "EXPORTER_EAP_TLS_Key_Material", []byte{byte(TTLS)}
		}
		if want, err := p.tls.export(label, context, 128); err != nil || !bytes.Equal(p.step.MSK, want[:64]) {
			t.Errorf("key %x, want %x (%v)", p.step.MSK, want, err)
		}
	}
}

// A code that is shown where the handshake should be is none.
func TestProofBeforeTunnel(t *testing.T) {
	pap := append(avp(avpUserName, "hanako"), avp(avpUserPassword, rightCode)...)
	for _, method := range []Method{TTLS, PEAP} {
		p := newPeer(t, method)
		p.identify("hanako")
		p.answer(method, append([]byte{0}, pap...))
		if p.step.Status == Continue { // an alert
			p.answer(method, []byte{0})
		}
		p.want(Failure, 0)
		p = newPeer(t, method)
		p.identify("hanako")
		p.answer(method, []byte{0}) // nothing
		p.want(Failure, 0)
	}
}

// What a tunnel takes as one proof, and no other.
func TestTTLSRefuses(t *testing.T) {
	name, password := avp(avpUserName, "hanako"), avp(avpUserPassword, rightCode)
	identity := avp(avpEAPMessage, string(packet{codeResponse, 1, typeIdentity, []byte("hanako")}.encode()))
	for label, plain := range map[string][]byte{
		"no name":          password,
		"no name's octets": append(avp(avpUserName, ""), password...),
		"no proof":         name,
		"two names":        slices.Concat(name, avp(avpUserName, "taro"), password),
		"two passwords":    slices.Concat(name, password, password),
		"two methods":      slices.Concat(name, password, identity),
		"unknown, must":    slices.Concat(name, password, avp(3, "CHAP")),
		"cut":              append(name, password[:len(password)-4]...),
		"a long password":  append(name, avp(avpUserPassword, string(bytes.Repeat([]byte("1"), maxTyped+1)))...),
		"a proof as EAP":   avp(avpEAPMessage, string(packet{codeResponse, 1, GTC, []byte(rightCode)}.encode())),
		"another's answer": msCHAPv2(t, bytes.Repeat([]byte{1}, 17)),
	} {
		t.Run(label, func(t *testing.T) {
			p := inTTLS(t)
			p.say(plain)
			p.want(Failure, 0)
		})
	}
	t.Run("silence", func(t *testing.T) {
		p := inTTLS(t)
		p.say(nil)
		p.want(Continue, 0)
		p.say(nil)
		p.want(Failure, 0)
	})
}

// Once EAP has begun in the tunnel, nothing else takes its place.
func TestTTLSStaysWithEAP(t *testing.T) {
	p := inTTLS(t)
	p.say(avp(avpEAPMessage, string(packet{codeResponse, 1, typeIdentity, []byte("hanako")}.encode())))
	p.want(Continue, 0)
	p.say(append(avp(avpUserName, "hanako"), avp(avpUserPassword, rightCode)...))
	p.want(Failure, 0)
}

// What comes beside the end of the handshake was sent before the peer had seen
// it. crypto/tls as a client sends nothing so early, so its part is played here.
func TestProofBesideHandshake(t *testing.T) {
	r := &records{established: true}
	r.resume = func() (struct{}, bool) {
		r.plain = append(avp(avpUserName, "hanako"), avp(avpUserPassword, rightCode)...)
		r.out.WriteString("the server's Finished")
		return struct{}{}, true
	}
	var j judge
	octets := size
	tunnel := &tunnel{inside: newTTLS(r, "Code?"), tls: r, size: &octets, msk: make([]byte, mskLength)}
	if m, err := tunnel.respond(t.Context(), []byte{0, 1}, j.Decide); err != nil || m.status != Failure || len(j.shown) > 0 {
		t.Errorf("status %d, %v; shown %+v", m.status, err, j.shown)
	}
}

// msCHAPv2 is the AVPs to a challenge of 16 octets and the identifier.
func msCHAPv2(t *testing.T, challenge []byte) []byte {
	t.Helper()
	peerChallenge := bytes.Repeat([]byte{7}, 16)
	nt, err := rfc2759.GenerateNTResponse(challenge[:16], peerChallenge, []byte("hanako"), []byte(rightCode))
	if err != nil {
		t.Fatal(err)
	}
	value := slices.Concat([]byte{challenge[16], 0}, peerChallenge, make([]byte, 8), nt)
	return slices.Concat(avp(avpUserName, "hanako"), encodeAVP(avpKind{vendorMicrosoft, avpMSCHAPChallenge}, challenge[:16]),
		encodeAVP(avpKind{vendorMicrosoft, avpMSCHAP2Response}, value))
}

// The peer is in once it has seen that we know the code, too.
func TestTTLSMSCHAPv2(t *testing.T) {
	for _, acknowledges := range []bool{true, false} {
		p := inTTLS(t)
		challenge, err := p.tls.export("ttls challenge", nil, 17)
		if err != nil {
			t.Fatal(err)
		}
		p.say(msCHAPv2(t, challenge))
		p.want(Continue, 1)
		if acknowledges {
			p.send(nil)
			p.want(Success, 1)
			continue
		}
		p.say(msCHAPv2(t, challenge))
		p.want(Failure, 1)
	}
}

// A peer that doesn't confirm the result isn't in.
func TestPEAPResult(t *testing.T) {
	result := func(id byte, value ...byte) []byte { return packet{codeResponse, id, typeExtensions, value}.encode() }
	for name, test := range map[string]struct {
		code  string
		reply func(id byte) []byte
		want  Status
	}{
		"confirmed":            {rightCode, func(id byte) []byte { return result(id, 0x80, 3, 0, 2, 0, 1) }, Success},
		"behind another TLV":   {rightCode, func(id byte) []byte { return result(id, 0, 9, 0, 1, 5, 0x80, 3, 0, 2, 0, 1) }, Success},
		"denied":               {rightCode, func(id byte) []byte { return result(id, 0x80, 3, 0, 2, 0, 2) }, Failure},
		"empty":                {rightCode, func(id byte) []byte { return result(id) }, Failure},
		"cut":                  {rightCode, func(id byte) []byte { return result(id, 0x80, 3, 0, 2, 0) }, Failure},
		"another identifier":   {rightCode, func(id byte) []byte { return result(id+1, 0x80, 3, 0, 2, 0, 1) }, Failure},
		"a failure, confirmed": {wrongCode, func(id byte) []byte { return result(id, 0x80, 3, 0, 2, 0, 2) }, Failure},
		"a failure, denied":    {wrongCode, func(id byte) []byte { return result(id, 0x80, 3, 0, 2, 0, 1) }, Failure},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t, PEAP)
			p.identify("anonymous")
			p.handshake(tls.VersionTLS12)
			if got := p.say(nil); !bytes.Equal(got, []byte{byte(typeIdentity)}) {
				t.Fatalf("asked %x", got)
			}
			if got := p.say(append([]byte{byte(typeIdentity)}, "hanako"...)); string(got) != "\x06Code?" {
				t.Fatalf("asked %q", got)
			}
			got := p.say(append([]byte{byte(GTC)}, test.code...))
			if len(got) != 11 || got[0] != codeRequest || Method(got[4]) != typeExtensions {
				t.Fatalf("told %x", got)
			}
			if told := binary.BigEndian.Uint16(got[9:]); (told == resultSuccess) != (test.code == rightCode) {
				t.Errorf("told the result %d", told)
			}
			p.say(test.reply(got[1]))
			p.want(test.want, 1)
			if (p.step.MSK != nil) != (test.want == Success) {
				t.Errorf("key %x", p.step.MSK)
			}
		})
	}
}

func TestFragments(t *testing.T) {
	for _, size := range []int{minFragment, 100, 1020, 5000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			var from, to fragments
			sent := bytes.Repeat([]byte("0123456789"), 400)
			from.send(sent)
			for parts := 1; ; parts++ {
				data := from.next(size)
				if len(data)+headerLength+1 > size {
					t.Fatalf("a packet of %d octets", len(data)+headerLength+1)
				}
				got, whole, err := to.receive(data)
				if err != nil {
					t.Fatal(err)
				}
				if whole {
					if !bytes.Equal(got, sent) || (parts > 1) != (size < 4000) {
						t.Errorf("%d octets in %d parts", len(got), parts)
					}
					return
				}
				if _, whole, err := from.receive([]byte{0}); whole || err != nil {
					t.Fatalf("an acknowledgement: %v, %v", whole, err)
				}
			}
		})
	}
}

func TestFragmentsRefused(t *testing.T) {
	for name, parts := range map[string][][]byte{
		"nothing":                {nil},
		"another version":        {{1}},
		"no length":              {{flagMore, 1, 2}},
		"half a length":          {{flagLength | flagMore, 0, 0}},
		"a length too long":      {{flagLength | flagMore, 0, 0, 0x40, 1, 1}},
		"no octets":              {{flagLength | flagMore, 0, 0, 0, 9}},
		"more than the length":   {{flagLength | flagMore, 0, 0, 0, 2, 1, 2}},
		"less than the length":   {{flagLength, 0, 0, 0, 3, 1, 2}},
		"the length changes":     {{flagLength | flagMore, 0, 0, 0, 4, 1, 2}, {flagLength, 0, 0, 0, 5, 3, 4, 5}},
		"the end comes too late": {{flagLength | flagMore, 0, 0, 0, 4, 1, 2}, {0, 3, 4, 5}},
	} {
		t.Run(name, func(t *testing.T) {
			var f fragments
			for i, part := range parts {
				if _, _, err := f.receive(part); (err != nil) != (i == len(parts)-1) {
					t.Errorf("part %d: %v", i, err)
				}
			}
		})
	}
	var f fragments // whatever the peer says or doesn't, it doesn't fill the memory
	for octets, want := range map[int]error{maxMessage: nil, maxMessage + 1: errMessageSize} {
		if _, _, err := f.receive(make([]byte, 1+octets)); !errors.Is(err, want) {
			t.Errorf("%d octets without a length: %v, want %v", octets, err, want)
		}
		f = fragments{}
	}
	big := append([]byte{flagLength | flagMore, 0, 0, 0x40, 0}, make([]byte, maxMessage-1)...)
	if _, _, err := f.receive(big); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.receive([]byte{flagMore, 1, 2}); err == nil {
		t.Error("a message over the bound is taken")
	}
	f = fragments{} // octets where an acknowledgement is due
	f.send(make([]byte, 200))
	f.next(minFragment)
	if _, _, err := f.receive([]byte{0, 1}); err == nil {
		t.Error("octets are taken for an acknowledgement")
	}
}

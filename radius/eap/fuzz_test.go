package eap

import (
	"bytes"
	"testing"
)

// FuzzSession sends any packets to a session, with the identifier that it waits
// for or another. None gets in without a proof that was accepted.
func FuzzSession(f *testing.F) {
	f.Add([]byte("\x01hanako"), []byte("\x06"+rightCode), []byte("\x03\x15"), true)
	f.Add([]byte("\x01hanako"), []byte("\x03\x15"), []byte("\x15\x00\x16\x03\x01"), true)
	f.Add([]byte("\x01hanako"), []byte("\x03\x19"), []byte("\x19\xc0\x00\x00\x00\x09\x16"), true)
	f.Add([]byte("\x01hanako"), []byte("\x03\x1a"), []byte("\x1a\x02\x00\x00\x36\x31"), true)
	certificate := testCertificate(f)
	f.Fuzz(func(t *testing.T, a, b, c []byte, right bool) {
		config, err := NewConfig([]Method{GTC, MSCHAPv2, TTLS, PEAP}, certificate)
		if err != nil {
			t.Fatal(err)
		}
		p := &peer{Session: config.NewSession("Code?"), t: t}
		defer p.Close()
		for _, data := range [][]byte{a, b, c, c} {
			raw := data
			if right && len(data) > 0 && len(data) < 1<<15 {
				raw = packet{codeResponse, p.last.identifier, Method(data[0]), data[1:]}.encode()
			}
			if p.try(raw) != nil {
				continue
			}
			if p.step.Status == Success && (len(p.judge.shown) == 0 || p.judge.shown[len(p.judge.shown)-1].Typed != rightCode) {
				t.Fatal("in without a right code")
			}
		}
	})
}

// FuzzTunnel says anything in a tunnel.
func FuzzTunnel(f *testing.F) {
	f.Add(append(avp(avpUserName, "hanako"), avp(avpUserPassword, rightCode)...), false)
	f.Add(append(avp(avpUserName, "hanako"), avp(avpUserPassword, wrongCode)...), false)
	f.Add(avp(avpEAPMessage, "\x02\x01\x00\x0b\x01hanako"), false)
	f.Add([]byte("\x01hanako"), true)
	f.Add([]byte("\x06"+rightCode), true)
	f.Add([]byte("\x21\x80\x03\x00\x02\x00\x01"), true)
	certificate := testCertificate(f)
	f.Fuzz(func(t *testing.T, plain []byte, inPEAP bool) {
		var j judge
		r := newRecords(certificate)
		defer r.stop()
		var in inside = newTTLS(r, "Code?")
		if inPEAP {
			in = newPEAP("Code?")
			in.open()
		}
		for range 2 {
			if bytes.Contains(plain, []byte{vendorMicrosoft >> 8, vendorMicrosoft & 0xff}) {
				return // needs a handshake: TestTTLSMSCHAPv2
			}
			m, err := in.respond(t.Context(), plain, j.Decide)
			if err != nil {
				t.Fatal(err)
			}
			if m.status == Success && (len(j.shown) == 0 || j.shown[len(j.shown)-1].Typed != rightCode) {
				t.Fatal("in without a right code")
			}
		}
	})
}

func FuzzAVPs(f *testing.F) {
	f.Add(append(avp(avpUserName, "hanako"), avp(avpUserPassword, rightCode)...))
	f.Add(encodeAVP(avpKind{vendorMicrosoft, avpMSCHAP2Response}, make([]byte, 50)))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseAVPs(b)
		if err != nil {
			return
		}
		var again []byte
		for kind, value := range got {
			if !kind.known() {
				t.Errorf("%+v is kept", kind)
			}
			again = append(again, encodeAVP(kind, value)...)
		}
		same, err := parseAVPs(again)
		if err != nil || len(same) != len(got) {
			t.Fatalf("%x, again: %v, %v", b, same, err)
		}
		for kind, value := range got {
			if !bytes.Equal(same[kind], value) {
				t.Errorf("%+v: %x, again %x", kind, value, same[kind])
			}
		}
	})
}

func FuzzFragments(f *testing.F) {
	f.Add([]byte{flagLength | flagMore, 0, 0, 0, 4, 1, 2}, []byte{0, 3, 4})
	f.Add([]byte{0, 1, 2}, []byte{0})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var fr fragments
		for _, data := range [][]byte{a, b, b} {
			message, whole, err := fr.receive(data)
			if len(message) > maxMessage || len(fr.in) > maxMessage {
				t.Fatalf("%d octets are held", max(len(message), len(fr.in)))
			}
			if err != nil {
				return
			}
			if whole {
				fr.send(message)
			}
			if data := fr.next(minFragment); len(data) > minFragment-headerLength-1 {
				t.Fatalf("%d octets are sent", len(data))
			}
		}
	})
}

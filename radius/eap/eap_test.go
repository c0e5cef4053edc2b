package eap

import (
	"bytes"
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"testing"

	"layeh.com/radius/rfc2759"
)

func TestGTC(t *testing.T) {
	for code, want := range map[string]Status{rightCode: Success, wrongCode: Failure, "": Failure} {
		p := newPeer(t, GTC)
		p.identify("hanako")
		if p.last.kind != GTC || string(p.last.data) != "Code?" {
			t.Fatalf("asked by %s: %q", p.last.kind, p.last.data)
		}
		p.answer(GTC, []byte(code))
		p.want(want, 1)
		if got := p.judge.shown[0]; got.Identity != "hanako" || got.Typed != code || !got.CanAsk || got.Name() != "EAP-GTC" {
			t.Errorf("shown %+v", got)
		}
		if len(p.step.Packet) != headerLength || p.step.Packet[1] != 78 || p.step.MSK != nil {
			t.Errorf("the end is %+v", p.step)
		}
		if err := p.try(packet{codeResponse, 78, GTC, []byte(rightCode)}.encode()); !errors.Is(err, errEnded) {
			t.Errorf("after the end: %v", err)
		}
	}
}

func TestGTCAsksAgain(t *testing.T) {
	p := newPeer(t, GTC)
	p.judge.decide = func(p *Proof) (Verdict, error) {
		if p.Typed == "password" {
			return Verdict{Ask, strings.Repeat("あ", 1000)}, nil
		}
		return Verdict{Kind: Accept}, nil
	}
	p.identify("hanako")
	p.answer(GTC, []byte("password"))
	p.want(Continue, 1)
	if got := string(p.last.data); strings.Trim(got, "あ") != "" || len(got) > maxPrompt || len(got) < maxPrompt-3 {
		t.Errorf("asked %q", got)
	}
	p.answer(GTC, []byte(rightCode))
	p.want(Success, 2)
}

// What isn't an answer to the last request changes nothing.
func TestOutOfOrder(t *testing.T) {
	p := newPeer(t, GTC, MSCHAPv2)
	p.wantDiscarded(packet{codeResponse, 1, GTC, []byte(rightCode)}.encode()) // nobody has said who it is
	p.wantDiscarded(packet{codeResponse, 1, typeNak, []byte{byte(GTC)}}.encode())
	p.identify("hanako")
	id := p.last.identifier
	for _, b := range [][]byte{
		nil,
		{2, id, 0, 5},
		{2, id, 0, 4, 6},
		{2, id, 0xff, 0xff, 6},
		packet{codeRequest, id, GTC, []byte(rightCode)}.encode(),
		packet{codeSuccess, id, 0, nil}.encode(),
		packet{codeSuccess, id, GTC, []byte(rightCode)}.encode(),
		packet{codeResponse, id - 1, GTC, []byte(rightCode)}.encode(),
		packet{codeResponse, id + 1, GTC, []byte(rightCode)}.encode(),
		packet{codeResponse, id, typeIdentity, []byte("taro")}.encode(),
		packet{codeResponse, id, MSCHAPv2, []byte(rightCode)}.encode(),
		packet{codeResponse, id, TTLS, []byte{0}}.encode(),
	} {
		p.wantDiscarded(b)
	}
	p.want(Continue, 0)
	p.answer(GTC, append([]byte(rightCode), "padding"...)[:6])
	p.want(Success, 1)
}

// A peer gets the first of the methods that it wants, and nothing twice.
func TestNak(t *testing.T) {
	p := newPeer(t, MSCHAPv2, GTC)
	p.identify("hanako")
	if p.last.kind != MSCHAPv2 {
		t.Fatalf("offered %s first", p.last.kind)
	}
	p.answer(typeNak, []byte{byte(TTLS), byte(MSCHAPv2), byte(GTC)})
	if p.last.kind != GTC {
		t.Fatalf("offered %s second", p.last.kind)
	}
	p.answer(typeNak, []byte{byte(MSCHAPv2)})
	p.want(Failure, 0)
	for name, nak := range map[string]packet{
		"none":     {kind: typeNak, data: []byte{0}},
		"unknown":  {kind: typeNak, data: []byte{13, 4}},
		"expanded": {kind: typeExpanded, data: []byte{0, 0, 0, 0, 0, 0, 3, byte(GTC)}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t, MSCHAPv2, GTC)
			p.identify("hanako")
			p.answer(nak.kind, nak.data)
			p.want(Failure, 0)
		})
	}
	p = newPeer(t, GTC, MSCHAPv2)
	p.judge.decide = func(*Proof) (Verdict, error) { return Verdict{Kind: Ask}, nil }
	p.identify("hanako")
	p.answer(GTC, []byte(wrongCode))
	p.wantDiscarded(packet{codeResponse, p.last.identifier, typeNak, []byte{byte(MSCHAPv2)}}.encode())
}

func TestStart(t *testing.T) {
	p := newPeer(t, GTC)
	b := p.Start().Packet
	if len(b) != 5 || b[0] != codeRequest || Method(b[4]) != typeIdentity {
		t.Fatalf("%x", b)
	}
	p.wantDiscarded(packet{codeResponse, b[1] + 1, typeIdentity, []byte("hanako")}.encode())
	p.last.identifier = b[1]
	p.answer(typeIdentity, []byte("hanako"))
	p.answer(GTC, []byte(rightCode))
	p.want(Success, 1)
}

// Bounds on what a peer sends, each of which ends the session before a proof.
func TestBounds(t *testing.T) {
	p := newPeer(t, GTC)
	p.identify(strings.Repeat("x", maxIdentity+1))
	p.want(Failure, 0)
	p = newPeer(t, GTC)
	p.identify("")
	p.want(Failure, 0)
	p = newPeer(t, GTC)
	p.identify("hanako")
	p.answer(GTC, bytes.Repeat([]byte("1"), maxTyped+1))
	p.want(Failure, 0)
	p = newPeer(t, GTC)
	p.identify("hanako")
	for range maxRounds - 1 {
		p.wantDiscarded(packet{codeResponse, p.last.identifier + 1, GTC, nil}.encode())
	}
	p.answer(GTC, []byte(rightCode))
	p.want(Failure, 0)
}

// Who couldn't be judged isn't in, whatever comes next; nor is who caused a panic.
func TestNoVerdict(t *testing.T) {
	errDisk := errors.New("the disk is gone")
	for name, fail := range map[string]func() error{"error": func() error { return errDisk }, "panic": func() error { panic("a fault") }} {
		t.Run(name, func(t *testing.T) {
			p := newPeer(t, GTC)
			p.identify("hanako")
			p.judge.decide = func(*Proof) (Verdict, error) { return Verdict{Kind: Accept}, fail() }
			b := packet{codeResponse, p.last.identifier, GTC, []byte(rightCode)}.encode()
			err := func() (err error) {
				defer func() {
					if recover() != nil {
						err = errBroken
					}
				}()
				return p.try(b)
			}()
			p.judge.decide = nil
			if again := p.try(b); err == nil || !errors.Is(again, err) {
				t.Errorf("%v, and then %v", err, again)
			}
			p.want(Continue, 1)
		})
	}
}

// response is the peer's packet of EAP-MSCHAPv2.
func response(t *testing.T, challenge []byte, name, code string) []byte {
	t.Helper()
	peerChallenge := bytes.Repeat([]byte{7}, 16)
	nt, err := rfc2759.GenerateNTResponse(challenge[5:21], peerChallenge, []byte(name), []byte(code))
	if err != nil {
		t.Fatal(err)
	}
	b := append([]byte{opResponse, challenge[1], 0, byte(54 + len(name)), 49}, peerChallenge...)
	return slices.Concat(b, make([]byte, 8), nt, []byte{0}, []byte(name))
}

func TestMSCHAPv2(t *testing.T) {
	start := func() *peer {
		p := newPeer(t, MSCHAPv2)
		p.identify("hanako")
		return p
	}
	p := start()
	p.answer(MSCHAPv2, response(t, p.last.data, "hanako", rightCode))
	p.want(Continue, 1)
	if p.last.data[0] != opSuccess || !bytes.HasPrefix(p.last.data[4:], []byte("S=")) {
		t.Errorf("told %q", p.last.data)
	}
	p.answer(MSCHAPv2, []byte{opSuccess})
	p.want(Success, 1)
	if len(p.step.MSK) != 32 || bytes.Equal(p.step.MSK[:16], p.step.MSK[16:]) {
		t.Errorf("key %x", p.step.MSK)
	}

	p = start()
	p.answer(MSCHAPv2, response(t, p.last.data, "hanako", wrongCode))
	p.want(Continue, 1)
	if p.last.data[0] != opFailure || !bytes.HasPrefix(p.last.data[4:], []byte("E=691 R=0 ")) {
		t.Errorf("told %q", p.last.data)
	}
	p.answer(MSCHAPv2, []byte{opSuccess}) // as if it were in
	p.want(Failure, 1)

	p = start() // a response, and then another in the place of the acknowledgement
	again := p.last.data
	p.answer(MSCHAPv2, response(t, again, "hanako", wrongCode))
	p.answer(MSCHAPv2, response(t, again, "hanako", rightCode))
	p.want(Failure, 1)

	for name, spoil := range map[string]func([]byte) []byte{
		"success at once": func([]byte) []byte { return []byte{opSuccess} },
		"nothing":         func([]byte) []byte { return nil },
		"identifier":      func(b []byte) []byte { b[1]++; return b },
		"length":          func(b []byte) []byte { b[3]++; return b },
		"value size":      func(b []byte) []byte { b[4]++; return b },
		"cut":             func(b []byte) []byte { return b[:53] },
		"name":            func(b []byte) []byte { return append(b, make([]byte, 300)...) },
	} {
		t.Run(name, func(t *testing.T) {
			p := start()
			p.answer(MSCHAPv2, spoil(response(t, p.last.data, "hanako", rightCode)))
			p.want(Failure, 0)
		})
	}
}

func TestNewConfig(t *testing.T) {
	for _, methods := range [][]Method{nil, {GTC, GTC}, {13}, {TTLS}, {PEAP}} {
		if _, err := NewConfig(methods, tls.Certificate{}); err == nil {
			t.Errorf("%v is taken", methods)
		}
	}
}

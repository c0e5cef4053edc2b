package eap

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"iter"
	"math/big"
	"testing"
	"time"
)

const (
	rightCode = "123456"
	wrongCode = "654321"
	size      = 1020 // of packets
)

func testCertificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// judge accepts rightCode, and keeps what it was shown.
type judge struct {
	shown  []Proof
	decide func(*Proof) (Verdict, error) // in place of that
}

func (j *judge) Decide(_ context.Context, p *Proof) (Verdict, error) {
	j.shown = append(j.shown, *p)
	switch {
	case j.decide != nil:
		return j.decide(p)
	case p.MSCHAPv2 == nil && p.Typed == rightCode, p.MSCHAPv2 != nil && p.MSCHAPv2.Match(rightCode):
		return Verdict{Kind: Accept}, nil
	}
	return Verdict{}, nil
}

// peer is the other side of a session, as far as the test wants it to be right.
type peer struct {
	*Session
	t     testing.TB
	judge judge
	last  packet // what we were sent
	step  Step
	tls   *records
}

func newPeer(t testing.TB, methods ...Method) *peer {
	t.Helper()
	var certificate tls.Certificate
	for _, m := range methods {
		if m == TTLS || m == PEAP {
			certificate = testCertificate(t)
		}
	}
	config, err := NewConfig(methods, certificate)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{Session: config.NewSession("Code?"), t: t}
	t.Cleanup(p.Close)
	return p
}

// try sends a packet and returns the error.
func (p *peer) try(b []byte) error {
	step, err := p.Next(p.t.Context(), b, size, p.judge.Decide)
	if err != nil {
		return err
	}
	p.step, p.last = step, packet{code: step.Packet[0], identifier: step.Packet[1]}
	if n := int(binary.BigEndian.Uint16(step.Packet[2:])); n != len(step.Packet) || n > size {
		p.t.Fatalf("a packet of %d octets says %d", len(step.Packet), n)
	}
	if step.Status == Continue {
		p.last.kind, p.last.data = Method(step.Packet[4]), step.Packet[5:]
	}
	return nil
}

// answer sends a response to the last request.
func (p *peer) answer(kind Method, data []byte) {
	p.t.Helper()
	if err := p.try(packet{codeResponse, p.last.identifier, kind, data}.encode()); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) identify(name string) {
	p.t.Helper()
	p.last.identifier = 77
	p.answer(typeIdentity, []byte(name))
}

func (p *peer) want(status Status, proofs int) {
	p.t.Helper()
	if p.step.Status != status {
		p.t.Fatalf("status %d, want %d", p.step.Status, status)
	}
	if len(p.judge.shown) != proofs {
		p.t.Fatalf("%d proofs were shown, want %d: %+v", len(p.judge.shown), proofs, p.judge.shown)
	}
}

func (p *peer) wantDiscarded(b []byte) {
	p.t.Helper()
	if err := p.try(b); !errors.Is(err, ErrDiscarded) {
		p.t.Errorf("%x: %v, want it discarded", b, err)
	}
}

// handshake sets a tunnel up, in which the peer speaks next.
func (p *peer) handshake(version uint16) {
	p.t.Helper()
	p.tls = &records{}
	p.tls.conn = tls.Client(pipe{p.tls}, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
	p.tls.resume, p.tls.stop = iter.Pull(p.tls.run)
	p.t.Cleanup(p.tls.stop)
	in := []byte(nil)
	for {
		_, out, err := p.tls.receive(in)
		if err != nil {
			p.t.Fatal(err)
		}
		if len(out) == 0 {
			return
		}
		in = p.send(out)
	}
}

// send sends records and returns those of the answer, joined.
func (p *peer) send(out []byte) []byte {
	p.t.Helper()
	method := p.last.kind
	p.answer(method, append([]byte{0}, out...))
	var in []byte
	for p.step.Status == Continue {
		data := p.last.data
		if data[0]&flagLength != 0 {
			data = data[lengthField:]
		}
		in = append(in, data[1:]...)
		if p.last.data[0]&flagMore == 0 {
			break
		}
		p.answer(method, []byte{0})
	}
	return in
}

// say speaks in the tunnel, and returns what is said there.
func (p *peer) say(plain []byte) []byte {
	p.t.Helper()
	var out []byte
	if len(plain) > 0 {
		var err error
		if out, err = p.tls.send(plain); err != nil {
			p.t.Fatal(err)
		}
	}
	plain, _, err := p.tls.receive(p.send(out))
	if err != nil {
		p.t.Fatal(err)
	}
	return plain
}

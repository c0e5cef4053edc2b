package eap

import (
	"context"
	"encoding/binary"
)

// The Extensions method, which carries the result (MS-PEAP §2.2.8.1, its TLV
// §2.2.8.1.2).
const (
	typeExtensions Method = 33

	tlvResult       = 3
	tlvMandatory    = 1 << 15
	tlvTypeMask     = 1<<14 - 1
	tlvHeaderLength = 4
	resultLength    = 2
	resultSuccess   = 1
	resultFailure   = 2
)

// peap is what goes on inside PEAP version 0 (MS-PEAP): EAP, whose packets go
// without their header, and then the result, which the peer confirms in a packet
// with a header. The peer's crypto-binding is not asked for, nor validated (MS-PEAP
// §3.3.5.3, by the arithmetic of §3.1.5.5).
type peap struct {
	inner  *conversation
	result int // resultSuccess or resultFailure; 0: EAP is under way
}

func newPEAP(prompt string) *peap { return &peap{inner: inTunnel(prompt)} }

func (*peap) kind() Method   { return PEAP }
func (*peap) label() string  { return "client EAP encryption" } // RFC 5216 §2.3
func (p *peap) open() []byte { return bare(p.inner.askIdentity()) }
func (p *peap) close()       { p.inner.close() }

func (p *peap) respond(ctx context.Context, plain []byte, decide Decide) (move, error) {
	if p.result != 0 {
		if p.result == resultSuccess && p.confirmed(plain) {
			return move{status: Success}, nil
		}
		return move{status: Failure}, nil
	}
	if len(plain) == 0 {
		return move{status: Failure}, nil
	}
	packet := packet{codeResponse, p.inner.identifier, Method(plain[0]), plain[1:]}
	m, err := p.inner.step(ctx, packet.encode(), decide)
	switch {
	case err != nil:
		return move{}, err
	case m.status == Continue:
		return move{data: bare(m.request)}, nil
	case m.status == Success:
		p.result = resultSuccess
	case m.status == Failure:
		p.result = resultFailure
	}
	return move{data: p.inner.request(typeExtensions, resultTLV(p.result)).encode()}, nil
}

// confirmed reports whether the peer's Extensions say that it is in, too.
func (p *peap) confirmed(plain []byte) bool {
	r, err := parse(plain)
	if err != nil || r.kind != typeExtensions || r.identifier != p.inner.identifier {
		return false
	}
	for b := r.data; len(b) >= tlvHeaderLength; {
		kind, length := binary.BigEndian.Uint16(b)&tlvTypeMask, int(binary.BigEndian.Uint16(b[2:]))
		b = b[tlvHeaderLength:]
		if length > len(b) {
			return false
		}
		if kind == tlvResult {
			return length == resultLength && binary.BigEndian.Uint16(b) == resultSuccess
		}
		b = b[length:]
	}
	return false
}

func resultTLV(result int) []byte {
	b := binary.BigEndian.AppendUint16(nil, tlvMandatory|tlvResult)
	b = binary.BigEndian.AppendUint16(b, resultLength)
	return binary.BigEndian.AppendUint16(b, uint16(result))
}

// bare is a packet without its header.
func bare(p packet) []byte { return p.encode()[headerLength:] }

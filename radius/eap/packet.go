package eap

import (
	"encoding/binary"
	"fmt"
)

// Codes and the types that are no methods (RFC 3748 §4, §5).
const (
	codeRequest  = 1
	codeResponse = 2
	codeSuccess  = 3
	codeFailure  = 4

	typeIdentity    Method = 1
	typeNak         Method = 3
	typeExpanded    Method = 254
	headerLength           = 4
	maxPacketLength        = 1<<16 - 1
)

// packet is an EAP packet. Success and Failure have no type and no data.
type packet struct {
	code       byte
	identifier byte
	kind       Method
	data       []byte
}

// parse returns the response in b. Octets behind its length are padding (RFC 3748
// §4.1); one that is too short, or is no response, is discarded.
func parse(b []byte) (packet, error) {
	if len(b) < headerLength+1 {
		return packet{}, fmt.Errorf("%w: %d octets", ErrDiscarded, len(b))
	}
	length := int(binary.BigEndian.Uint16(b[2:]))
	switch {
	case length <= headerLength || length > len(b):
		return packet{}, fmt.Errorf("%w: its length field says %d of %d octets", ErrDiscarded, length, len(b))
	case b[0] != codeResponse:
		return packet{}, fmt.Errorf("%w: it has code %d", ErrDiscarded, b[0])
	}
	return packet{b[0], b[1], Method(b[headerLength]), b[headerLength+1 : length]}, nil
}

// encode returns the packet's octets.
func (p packet) encode() []byte {
	length := headerLength
	if p.kind != 0 {
		length += 1 + len(p.data)
	}
	if length > maxPacketLength {
		panic("eap: a packet that no length field holds") // fragment.go and the prompts' bound prevent it
	}
	b := append(make([]byte, 0, length), p.code, p.identifier)
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	if p.kind != 0 {
		b = append(append(b, byte(p.kind)), p.data...)
	}
	return b
}

// lastIdentifier is that of a packet which isn't looked at any more.
func lastIdentifier(b []byte) byte {
	if len(b) < headerLength {
		return 0
	}
	return b[1]
}

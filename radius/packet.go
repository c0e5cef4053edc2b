package radius

import (
	"encoding/binary"
	"fmt"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
)

const (
	headerLength = 20 // RFC 2865 §3: also the shortest packet
	tokenEnd     = 8  // RFC 9765 §4.1: the Token is where the authenticator was
	// maxAttributes bounds the work that one packet can ask for. FreeRADIUS
	// draws the line at 200; gear sends 10 to 30.
	maxAttributes = 200
)

// request is one packet as a worker sees it. Everything in it points into the
// datagram and is valid until the worker takes the next one.
type request struct {
	*datagram
	raw    []byte // the packet, cut to its length field
	packet codec.Packet

	authenticators      int // how many Message-Authenticators there are
	authenticatorOffset int // of the last one's value in raw

	// Room that is used again for the next packet.
	avps     []codec.AVP // what packet.Attributes points to
	password [maxPassword]byte
	answer   codec.Attributes // of the reply
	unsigned codec.AVP        // its Message-Authenticator, before it is signed
	zero     [authenticatorLength]byte
}

// parse makes r the packet in d. It accepts what codec.Parse accepts, up to
// maxAttributes, but copies nothing.
func (r *request) parse(d *datagram) error {
	raw, err := cut(d.buf[:d.n])
	if err != nil {
		return err
	}
	r.datagram, r.raw = d, raw
	r.authenticators, r.authenticatorOffset = 0, 0
	r.avps = r.avps[:0]
	for offset := headerLength; offset < len(raw); {
		rest := raw[offset:]
		if len(rest) < 2 || rest[1] < 2 || int(rest[1]) > len(rest) {
			return fmt.Errorf("%w: an attribute's length leads out of the packet", malformed)
		}
		if len(r.avps) == maxAttributes {
			return tooManyAttributes
		}
		length := int(rest[1])
		avp := codec.AVP{Type: codec.Type(rest[0]), Attribute: rest[2:length:length]}
		if avp.Type == rfc2869.MessageAuthenticator_Type {
			r.authenticators++
			r.authenticatorOffset = offset + 2
		}
		r.avps = append(r.avps, avp)
		offset += length
	}

	attributes := r.packet.Attributes[:0]
	for i := range r.avps {
		attributes = append(attributes, &r.avps[i])
	}
	r.packet = codec.Packet{
		Code:          codec.Code(raw[0]),
		Identifier:    raw[1],
		Authenticator: [16]byte(raw[4:headerLength]),
		Secret:        d.client.Secret,
		Attributes:    attributes,
	}
	return nil
}

// cut returns the packet in b without the padding behind it (RFC 2865 §3).
func cut(b []byte) ([]byte, error) {
	if len(b) < headerLength {
		return nil, fmt.Errorf("%w: %d octets are too few", malformed, len(b))
	}
	length := int(binary.BigEndian.Uint16(b[2:4]))
	if length < headerLength || length > codec.MaxPacketLength {
		return nil, fmt.Errorf("%w: its length field says %d", malformed, length)
	}
	if length > len(b) {
		return nil, fmt.Errorf("%w: its length field says %d, but %d octets came", malformed, length, len(b))
	}
	return b[:length], nil
}

// has reports whether the packet has an attribute of the type.
func (r *request) has(t codec.Type) bool {
	_, ok := r.packet.Lookup(t)
	return ok
}

// reply encodes the answer: Message-Authenticator first, so that nobody can put
// octets of his own before it (CVE-2024-3596; radcli refuses it elsewhere), then
// the attributes, and last every Proxy-State of the request, unmodified and in
// order (RFC 2865 §5.33). In RADIUS/1.1 there is the Token instead of all that
// signs and identifies (RFC 9765 §4.1, §5.2).
func (r *request) reply(code codec.Code, attributes codec.Attributes) ([]byte, error) {
	r.answer = r.answer[:0]
	if r.format != version11 {
		r.unsigned = codec.AVP{Type: rfc2869.MessageAuthenticator_Type, Attribute: r.zero[:]}
		r.answer = append(r.answer, &r.unsigned)
	}
	r.answer = append(r.answer, attributes...)
	for _, avp := range r.packet.Attributes {
		if avp.Type == rfc2865.ProxyState_Type {
			r.answer = append(r.answer, avp)
		}
	}
	packet := codec.Packet{
		Code:          code,
		Identifier:    r.packet.Identifier,
		Authenticator: r.packet.Authenticator, // until sign sets the response's
		Attributes:    r.answer,
	}
	b, err := packet.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("%w: encoding the %s: %w", internalError, code, err)
	}
	if r.format == version11 {
		unsign(b)
		return b, nil
	}
	r.client.sign(b)
	return b, nil
}

// unsign makes the header of a reply that of RADIUS/1.1 (RFC 9765 §4.1): of the
// Request Authenticator only the Token is left, and the Identifier goes.
func unsign(b []byte) {
	b[1] = 0
	clear(b[tokenEnd:headerLength])
}

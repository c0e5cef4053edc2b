package radius

import (
	"encoding/binary"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
)

// A Protocol-Error tells a client over RADIUS/1.1 at once that its request gets no
// answer (RFC 9765 §6.1), so that it asks another server. The packet is dropped
// all the same: nothing was decided, and nothing is remembered of it.
const (
	codeProtocolError codec.Code = 52  // RFC 7930 §4
	errorCauseType    codec.Type = 101 // RFC 5176 §3.5
)

// errorCause is the value of an Error-Cause (RFC 5176 §3.5; RFC 9765 §6.1).
type errorCause uint32

const (
	invalidRequest       errorCause = 404
	unsupportedExtension errorCause = 406
	resourcesUnavailable errorCause = 506
)

// cause is what a client is told of the reason; ok is false if it is told
// nothing: where another packet is being answered, or the connection ends.
func (r reason) cause() (c errorCause, ok bool) {
	switch r {
	case queueFull, stale, clientTooFast, userTooFast, noDecision, firstFactorUnavailable, notKept, internalError:
		return resourcesUnavailable, true // one for all: a guesser needn't know which
	case accountingOff:
		return unsupportedExtension, true
	case accountingMalformed, tooManyAttributes:
		return invalidRequest, true
	default:
		return 0, false
	}
}

// protocolError is what goes out for a packet that was dropped; nil if nothing
// does. It has the packet's Token and every Proxy-State, as a reply has.
func protocolError(d *datagram, why reason) []byte {
	cause, ok := why.cause()
	raw, err := cut(d.buf[:d.n])
	if !ok || err != nil || d.format != version11 {
		return nil
	}
	if code := codec.Code(raw[0]); code != codec.CodeAccessRequest && code != codec.CodeAccountingRequest {
		return nil
	}
	packet := codec.Packet{Code: codeProtocolError, Authenticator: [16]byte(raw[4:headerLength])}
	packet.Add(errorCauseType, binary.BigEndian.AppendUint32(nil, uint32(cause)))
	var req request
	if req.parse(d) == nil { // else it has too many
		for _, avp := range req.packet.Attributes {
			if avp.Type == rfc2865.ProxyState_Type {
				packet.Attributes = append(packet.Attributes, avp)
			}
		}
	}
	b, err := packet.MarshalBinary()
	if err != nil { // the Proxy-States leave no room
		return nil
	}
	unsign(b)
	return b
}

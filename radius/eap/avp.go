package eap

import (
	"encoding/binary"
	"errors"
)

// The AVPs that matter in TTLS: attributes of RADIUS, those of a vendor under its
// number (RFC 5281 §10.1, RFC 2548).
const (
	avpUserName     = 1
	avpUserPassword = 2
	avpEAPMessage   = 79

	vendorMicrosoft    = 311
	avpMSCHAPChallenge = 11
	avpMSCHAP2Response = 25
	avpMSCHAP2Success  = 26
)

// The layout of an AVP (RFC 5281 §10.1).
const (
	avpHeaderLength = 8
	avpVendorLength = 4
	avpAlign        = 4
	avpVendorFlag   = 1 << 7
	avpMandatory    = 1 << 6
	avpLengthMask   = 1<<24 - 1
	// maxAVPs is how many a peer may send at once. A response by MS-CHAP-V2 is
	// three.
	maxAVPs = 16
)

var (
	errAVP          = errors.New("eap: an AVP that leads out of its message, or one AVP too many")
	errAVPMandatory = errors.New("eap: an AVP that the peer insists on, and that isn't known")
)

type avpKind struct{ vendor, code uint32 }

// avps are the known ones of a message, of each kind one.
type avps map[avpKind][]byte

// parseAVPs takes a sequence of AVPs apart (RFC 5281 §10.2). Unknown ones are left out, but for
// those that must not be (RFC 5281 §10.1).
func parseAVPs(b []byte) (avps, error) {
	out := make(avps)
	for n := 0; len(b) > 0; n++ {
		if len(b) < avpHeaderLength || n == maxAVPs {
			return nil, errAVP
		}
		flags, length := b[4], int(binary.BigEndian.Uint32(b[4:])&avpLengthMask)
		kind, header := avpKind{code: binary.BigEndian.Uint32(b)}, avpHeaderLength
		if flags&avpVendorFlag != 0 {
			header += avpVendorLength
		}
		if length < header || length > len(b) {
			return nil, errAVP
		}
		if flags&avpVendorFlag != 0 {
			kind.vendor = binary.BigEndian.Uint32(b[avpHeaderLength:])
		}
		_, twice := out[kind]
		switch {
		case twice:
			return nil, errAVP
		case kind.known():
			out[kind] = b[header:length]
		case flags&avpMandatory != 0:
			return nil, errAVPMandatory
		}
		// Each is padded (RFC 5281 §10.2); the last one's padding may be missing.
		b = b[min((length+avpAlign-1)/avpAlign*avpAlign, len(b)):]
	}
	return out, nil
}

func (k avpKind) known() bool {
	switch k.vendor {
	case 0:
		return k.code == avpUserName || k.code == avpUserPassword || k.code == avpEAPMessage
	case vendorMicrosoft:
		return k.code == avpMSCHAPChallenge || k.code == avpMSCHAP2Response
	}
	return false
}

// encodeAVP is one that the peer must understand.
func encodeAVP(kind avpKind, value []byte) []byte {
	flags, header := uint32(avpMandatory), avpHeaderLength
	if kind.vendor != 0 {
		flags, header = flags|avpVendorFlag, header+avpVendorLength
	}
	b := binary.BigEndian.AppendUint32(nil, kind.code)
	b = binary.BigEndian.AppendUint32(b, flags<<24|uint32(header+len(value)))
	if kind.vendor != 0 {
		b = binary.BigEndian.AppendUint32(b, kind.vendor)
	}
	b = append(b, value...)
	for len(b)%avpAlign != 0 {
		b = append(b, 0)
	}
	return b
}

package radius

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/vendors/microsoft"

	"otpgate/radius/mschap"
)

// The attributes of Microsoft that matter here (RFC 2548).
const (
	vendorMicrosoft  = 311
	vendorDataOffset = 4

	msCHAPResponse  = 1
	msCHAPChallenge = 11
	msMPPESendKey   = 16
	msMPPERecvKey   = 17
	msCHAP2Response = 25
)

const mppe128Bit = 4 // RFC 2548 §2.4.5: the S bit, and no weaker one

// msCHAPv2SuccessLength is the octets of all that success gives. A request that
// leaves no room for them is refused before its code is used up: the reply has
// every Proxy-State of the request too.
const msCHAPv2SuccessLength = 51 + 2*12 + 2*42

// msCHAPv2 is a response by MS-CHAPv2 (RFC 2759), in memory of its own.
type msCHAPv2 struct {
	identifier byte
	*mschap.Response
}

// msCHAPv2Response returns the request's response by MS-CHAPv2.
func (r *request) msCHAPv2Response(user string) (*msCHAPv2, error) {
	if r.countMicrosoft(msCHAPChallenge) != 1 {
		return nil, msCHAPChallengeMissing
	}
	response, identifier, ok := mschap.ParseResponse(r.microsoft(msCHAP2Response), r.microsoft(msCHAPChallenge), user)
	if !ok {
		return nil, msCHAPMislengthed
	}
	return &msCHAPv2{identifier, response}, nil
}

// success is what an Accept carries once Match has reported true: the proof that
// we know the code (MS-CHAP2-Success) and the keys (RFC 2548 §2.4).
func (m *msCHAPv2) success(r *request) (codec.Attributes, error) {
	sendKey, recvKey := m.Keys()
	var p codec.Packet
	var salt [2]byte
	_, _ = rand.Read(salt[:]) // never fails
	for _, add := range []func() error{
		func() error {
			return microsoft.MSCHAP2Success_Add(&p, append([]byte{m.identifier}, m.Success()...))
		},
		func() error {
			return microsoft.MSMPPEEncryptionPolicy_Add(&p, microsoft.MSMPPEEncryptionPolicy_Value_EncryptionAllowed)
		},
		func() error { return microsoft.MSMPPEEncryptionTypes_Add(&p, mppe128Bit) },
		func() error { return r.addMPPEKey(&p, msMPPESendKey, sendKey[:], salt) },
		func() error {
			// RFC 2548 §2.4.2: no two salts in a packet may be equal. The
			// codec's own functions draw each by itself.
			salt[1] ^= 1
			return r.addMPPEKey(&p, msMPPERecvKey, recvKey[:], salt)
		},
	} {
		if err := add(); err != nil {
			return nil, fmt.Errorf("%w: encoding the answer to MS-CHAPv2: %w", internalError, err)
		}
	}
	return p.Attributes, nil
}

// failure is what a Reject carries, whatever the reason (RFC 2548 §2.1.5).
func (m *msCHAPv2) failure() (codec.Attributes, error) {
	var p codec.Packet
	if err := microsoft.MSCHAPError_Add(&p, append([]byte{m.identifier}, mschap.Failure()...)); err != nil {
		return nil, fmt.Errorf("%w: encoding the answer to MS-CHAPv2: %w", internalError, err)
	}
	return p.Attributes, nil
}

// addMPPEKey adds a key to the reply p, hidden under the shared secret (RFC 2548
// §2.4.2), but in RADIUS/1.1 as it is (RFC 9765 §5.1.4).
func (r *request) addMPPEKey(p *codec.Packet, kind byte, key []byte, salt [2]byte) error {
	value := codec.Attribute(key)
	if r.format != version11 {
		salt[0] |= 1 << 7 // as it has to be
		var err error
		if value, err = codec.NewTunnelPassword(key, salt[:], r.packet.Secret, r.packet.Authenticator[:]); err != nil {
			return err
		}
	}
	attribute, err := codec.NewVendorSpecific(vendorMicrosoft, append(codec.Attribute{kind, byte(len(value) + 2)}, value...))
	if err != nil {
		return err
	}
	p.Add(rfc2865.VendorSpecific_Type, attribute)
	return nil
}

// microsoft returns the value of the first attribute of Microsoft's of that
// kind, or nil.
func (r *request) microsoft(kind byte) []byte {
	for k, value := range r.allMicrosoft {
		if k == kind {
			return value
		}
	}
	return nil
}

func (r *request) countMicrosoft(kind byte) int {
	n := 0
	for k := range r.allMicrosoft {
		if k == kind {
			n++
		}
	}
	return n
}

// allMicrosoft is an iterator over the attributes of Microsoft's.
func (r *request) allMicrosoft(yield func(kind byte, value []byte) bool) {
	for _, avp := range r.packet.Attributes {
		data := avp.Attribute
		if avp.Type != rfc2865.VendorSpecific_Type || len(data) < vendorDataOffset || binary.BigEndian.Uint32(data) != vendorMicrosoft {
			continue
		}
		// RFC 2865 §5.26: type, length, value, … A length that leads out ends it.
		for data = data[vendorDataOffset:]; len(data) >= 2 && data[1] >= 2 && int(data[1]) <= len(data); data = data[data[1]:] {
			if !yield(data[0], data[2:data[1]]) {
				return
			}
		}
	}
}

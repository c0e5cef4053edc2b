package radius

import (
	"crypto/des" //nolint:gosec // RFC 2759 §8.6 names DES.
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 2759 §8.2 and RFC 3079 §3.4 name SHA-1.
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/vendors/microsoft"
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

// Lengths of RFC 2759 and RFC 2548 §2.3.2.
const (
	msCHAPChallengeLength  = 16
	msCHAP2ResponseLength  = 50 // identifier, flags, peer's challenge, 8 reserved, NT-Response
	peerChallengeOffset    = 2
	ntResponseOffset       = 26
	ntResponseLength       = 24
	mppeKeyLength          = 16 // RFC 3079 §3.3: 128 bit
	mppe128Bit             = 4  // RFC 2548 §2.4.5: the S bit, and no weaker one
	masterKeyLength        = 16
	challengeHashLength    = 8
	desInputKey, desBlocks = 7, 3 // octets of a key before it is spread; keys
)

// msCHAPv2SuccessLength is the octets of all that success gives. A request that
// leaves no room for them is refused before its code is used up: the reply has
// every Proxy-State of the request too.
const msCHAPv2SuccessLength = 51 + 2*12 + 2*42

// Magic constants, and the pads, of RFC 2759 §8.7 and RFC 3079 §3.4.
const (
	signingMagic   = "Magic server to client signing constant"
	iterationMagic = "Pad to make it do more than one iteration"
	masterMagic    = "This is the MPPE Master Key"
	recvMagic      = "On the client side, this is the send key; on the server side, it is the receive key."
	sendMagic      = "On the client side, this is the receive key; on the server side, it is the send key."
	shaPadLength   = 40
	shaPad2        = 0xf2
)

// msCHAPv2 is a response by MS-CHAPv2 (RFC 2759), in memory of its own.
type msCHAPv2 struct {
	identifier byte
	challenge  [challengeHashLength]byte // of both sides' challenges and the name
	response   [ntResponseLength]byte
	// passwordHash is that of the code which matched, for the answer. It is the
	// one thing that match leaves behind: whichever candidate matches has the
	// same, and the gate needn't tell which code it was.
	passwordHash [md4Size]byte
}

// msCHAPv2Response returns the request's response by MS-CHAPv2.
func (r *request) msCHAPv2Response(user string) (*msCHAPv2, error) {
	if r.countMicrosoft(msCHAPChallenge) != 1 {
		return nil, msCHAPChallengeMissing
	}
	challenge, value := r.microsoft(msCHAPChallenge), r.microsoft(msCHAP2Response)
	if len(challenge) != msCHAPChallengeLength || len(value) != msCHAP2ResponseLength {
		return nil, msCHAPMislengthed
	}
	m := &msCHAPv2{identifier: value[0], response: [ntResponseLength]byte(value[ntResponseOffset:])}
	// RFC 2759 §8.2. Of the name, only what follows the domain (§4).
	h := sha1.New() //nolint:gosec // see the import
	h.Write(value[peerChallengeOffset:][:msCHAPChallengeLength])
	h.Write(challenge)
	h.Write([]byte(user[strings.LastIndexByte(user, '\\')+1:]))
	m.challenge = [challengeHashLength]byte(h.Sum(nil))
	return m, nil
}

// match is a verifier.Match: the NT-Response of the code (RFC 2759 §8.1). DES is
// what it costs, and a wrong code has hundreds of candidates, so it goes on to
// the second and third block only if the first is right. That tells a guesser by
// the time no more than the answer does: the key of the first block is seven
// octets of the hash, and no two codes have those in common.
func (m *msCHAPv2) match(code string) bool {
	hash := ntPasswordHash(code)
	var first [des.BlockSize]byte
	desEncrypt(first[:], hash[:], m.challenge)
	if subtle.ConstantTimeCompare(first[:], m.response[:des.BlockSize]) != 1 {
		return false
	}
	response := challengeResponse(m.challenge, hash)
	if subtle.ConstantTimeCompare(response[:], m.response[:]) != 1 {
		return false
	}
	m.passwordHash = hash
	return true
}

// success is what an Accept carries once match has reported true: the proof that
// we know the code (MS-CHAP2-Success) and the keys (RFC 2548 §2.4).
func (m *msCHAPv2) success(r *request) (codec.Attributes, error) {
	hashHash := md4Sum(m.passwordHash[:])
	master := masterKey(hashHash, m.response)
	var p codec.Packet
	var salt [2]byte
	_, _ = rand.Read(salt[:]) // never fails
	for _, add := range []func() error{
		func() error {
			return microsoft.MSCHAP2Success_Add(&p, append([]byte{m.identifier}, m.authenticatorResponse(hashHash)...))
		},
		func() error {
			return microsoft.MSMPPEEncryptionPolicy_Add(&p, microsoft.MSMPPEEncryptionPolicy_Value_EncryptionAllowed)
		},
		func() error { return microsoft.MSMPPEEncryptionTypes_Add(&p, mppe128Bit) },
		func() error { return r.addMPPEKey(&p, msMPPESendKey, startKey(master, sendMagic), salt) },
		func() error {
			// RFC 2548 §2.4.2: no two salts in a packet may be equal. The
			// codec's own functions draw each by itself.
			salt[1] ^= 1
			return r.addMPPEKey(&p, msMPPERecvKey, startKey(master, recvMagic), salt)
		},
	} {
		if err := add(); err != nil {
			return nil, fmt.Errorf("%w: encoding the answer to MS-CHAPv2: %w", internalError, err)
		}
	}
	return p.Attributes, nil
}

// failure is what a Reject carries, whatever the reason (RFC 2759 §6, RFC 2548
// §2.1.5): a wrong password, no other try in this exchange, and the challenge
// that the format wants all the same.
func (m *msCHAPv2) failure() (codec.Attributes, error) {
	var challenge [msCHAPChallengeLength]byte
	_, _ = rand.Read(challenge[:]) // never fails
	var p codec.Packet
	if err := microsoft.MSCHAPError_Add(&p, fmt.Appendf([]byte{m.identifier}, "E=691 R=0 C=%X V=3", challenge)); err != nil {
		return nil, fmt.Errorf("%w: encoding the answer to MS-CHAPv2: %w", internalError, err)
	}
	return p.Attributes, nil
}

// authenticatorResponse is RFC 2759 §8.7.
func (m *msCHAPv2) authenticatorResponse(hashHash [md4Size]byte) string {
	h := sha1.New() //nolint:gosec // see the import
	h.Write(hashHash[:])
	h.Write(m.response[:])
	h.Write([]byte(signingMagic))
	digest := h.Sum(nil)
	h.Reset()
	h.Write(digest)
	h.Write(m.challenge[:])
	h.Write([]byte(iterationMagic))
	return fmt.Sprintf("S=%X", h.Sum(nil))
}

// ntPasswordHash is RFC 2759 §8.3: over the code in UTF-16, little-endian.
func ntPasswordHash(code string) [md4Size]byte {
	var room [md4Block]byte
	b := room[:0]
	for _, c := range code {
		if hi, lo := utf16.EncodeRune(c); utf16.RuneLen(c) == 2 {
			b = binary.LittleEndian.AppendUint16(b, uint16(hi))
			b = binary.LittleEndian.AppendUint16(b, uint16(lo))
			continue
		}
		b = binary.LittleEndian.AppendUint16(b, uint16(c))
	}
	return md4Sum(b)
}

// challengeResponse is RFC 2759 §8.5: the challenge under three DES keys, which
// are the hash and five zeros.
func challengeResponse(challenge [challengeHashLength]byte, hash [md4Size]byte) (response [ntResponseLength]byte) {
	var keys [desBlocks * desInputKey]byte
	copy(keys[:], hash[:])
	for i := range desBlocks {
		desEncrypt(response[i*des.BlockSize:], keys[i*desInputKey:], challenge)
	}
	return response
}

// desEncrypt is RFC 2759 §8.6. Of key, the first desInputKey octets count; DES
// takes them as eight groups of seven bits, each with a parity bit that isn't
// looked at.
func desEncrypt(dst, key []byte, challenge [challengeHashLength]byte) {
	var in, groups [8]byte
	copy(in[1:], key[:desInputKey])
	for i, bits := 0, binary.BigEndian.Uint64(in[:]); i < len(groups); i++ {
		groups[i] = byte(bits>>(desInputKey*(len(groups)-1-i))) << 1
	}
	block, err := des.NewCipher(groups[:]) //nolint:gosec // see the import
	if err != nil {
		panic(err) // only for a key that isn't 8 octets long
	}
	block.Encrypt(dst, challenge[:])
}

// masterKey is GetMasterKey of RFC 3079 §3.4.
func masterKey(hashHash [md4Size]byte, response [ntResponseLength]byte) [masterKeyLength]byte {
	h := sha1.New() //nolint:gosec // see the import
	h.Write(hashHash[:])
	h.Write(response[:])
	h.Write([]byte(masterMagic))
	return [masterKeyLength]byte(h.Sum(nil))
}

// startKey is GetAsymmetricStartKey of RFC 3079 §3.4, for 128 bit.
func startKey(master [masterKeyLength]byte, magic string) [mppeKeyLength]byte {
	var pad [shaPadLength]byte
	h := sha1.New() //nolint:gosec // see the import
	h.Write(master[:])
	h.Write(pad[:])
	h.Write([]byte(magic))
	for i := range pad {
		pad[i] = shaPad2
	}
	h.Write(pad[:])
	return [mppeKeyLength]byte(h.Sum(nil))
}

// addMPPEKey adds a key to the reply p, hidden under the shared secret (RFC 2548
// §2.4.2), but in RADIUS/1.1 as it is (RFC 9765 §5.1.4).
func (r *request) addMPPEKey(p *codec.Packet, kind byte, key [mppeKeyLength]byte, salt [2]byte) error {
	value := codec.Attribute(key[:])
	if r.format != version11 {
		salt[0] |= 1 << 7 // as it has to be
		var err error
		if value, err = codec.NewTunnelPassword(key[:], salt[:], r.packet.Secret, r.packet.Authenticator[:]); err != nil {
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

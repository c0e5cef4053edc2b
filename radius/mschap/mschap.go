// Package mschap is the arithmetic of MS-CHAPv2 as the authenticator does it: is
// a response made from this code (RFC 2759), what proves in turn that the
// authenticator knew the code, and which keys follow (RFC 3079).
//
// What carries it is not its business: attributes of RADIUS (RFC 2548), EAP, a
// tunnel. It reads no packets, only the value of a response that two of these
// have in common (response.go), keeps nothing and decides nothing.
package mschap

import (
	"crypto/des" //nolint:gosec // RFC 2759 §8.6 names DES.
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 2759 §8.2 and RFC 3079 §3.4 name SHA-1.
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"

	"golang.org/x/crypto/md4" //nolint:gosec,staticcheck // RFC 2759 §8.3 names MD4.
)

// Lengths in octets (RFC 2759 §4, §8; RFC 3079 §3.3: 128 bit).
const (
	ChallengeLength  = 16
	NTResponseLength = 24
	KeyLength        = 16

	masterKeyLength        = 16
	challengeHashLength    = 8
	desInputKey, desBlocks = 7, 3 // octets of a key before it is spread; keys
)

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

// Response is a peer's response. One goroutine uses it at a time.
type Response struct {
	challenge [challengeHashLength]byte // of both sides' challenges and the name
	response  [NTResponseLength]byte
	// passwordHash is that of the code which matched, for the answer. It is the
	// one thing that Match leaves behind: whichever candidate matches has the
	// same, and the gate needn't tell which code it was.
	passwordHash [md4.Size]byte
}

// NewResponse returns the response of somebody by that name, octet by octet as
// the peer sent it, to the authenticator's and the peer's own challenge.
func NewResponse(authenticator, peer [ChallengeLength]byte, name string, response [NTResponseLength]byte) *Response {
	// RFC 2759 §8.2. Of the name, only what follows the domain (§4).
	h := sha1.New() //nolint:gosec // see the import
	h.Write(peer[:])
	h.Write(authenticator[:])
	h.Write([]byte(name[strings.LastIndexByte(name, '\\')+1:]))
	return &Response{challenge: [challengeHashLength]byte(h.Sum(nil)), response: response}
}

// Match reports whether the NT-Response is that of the code (RFC 2759 §8.1). DES
// is what it costs, and a wrong code has hundreds of candidates, so it goes on to
// the second and third block only if the first is right. That tells a guesser by
// the time no more than the answer does: the key of the first block is seven
// octets of the hash, and no two codes have those in common.
func (r *Response) Match(code string) bool {
	hash := ntPasswordHash(code)
	var first [des.BlockSize]byte
	desEncrypt(first[:], hash[:], r.challenge)
	if subtle.ConstantTimeCompare(first[:], r.response[:des.BlockSize]) != 1 {
		return false
	}
	response := challengeResponse(r.challenge, hash)
	if subtle.ConstantTimeCompare(response[:], r.response[:]) != 1 {
		return false
	}
	r.passwordHash = hash
	return true
}

// Success is the authenticator response, "S=" and 40 hexadecimal digits: the
// proof that we know the code that Match has reported true for (RFC 2759 §8.7).
func (r *Response) Success() string {
	hashHash := md4Sum(r.passwordHash[:])
	h := sha1.New() //nolint:gosec // see the import
	h.Write(hashHash[:])
	h.Write(r.response[:])
	h.Write([]byte(signingMagic))
	digest := h.Sum(nil)
	h.Reset()
	h.Write(digest)
	h.Write(r.challenge[:])
	h.Write([]byte(iterationMagic))
	return fmt.Sprintf("S=%X", h.Sum(nil))
}

// Keys are the authenticator's keys to send and to receive with, once Match has
// reported true (RFC 3079 §3.3).
func (r *Response) Keys() (send, recv [KeyLength]byte) {
	master := masterKey(md4Sum(r.passwordHash[:]), r.response)
	return startKey(master, sendMagic), startKey(master, recvMagic)
}

// Failure is what a refusal says, whatever the reason (RFC 2759 §6): a wrong
// password, no other try in this exchange, and the challenge that the format
// wants all the same.
func Failure() string {
	var challenge [ChallengeLength]byte
	_, _ = rand.Read(challenge[:]) // never fails
	return fmt.Sprintf("E=691 R=0 C=%X V=3", challenge)
}

// ntPasswordHash is RFC 2759 §8.3: over the code in UTF-16, little-endian.
func ntPasswordHash(code string) [md4.Size]byte {
	var room [md4.BlockSize]byte
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

func md4Sum(b []byte) (sum [md4.Size]byte) {
	h := md4.New() //nolint:gosec // see the import
	h.Write(b)
	h.Sum(sum[:0])
	return sum
}

// challengeResponse is RFC 2759 §8.5: the challenge under three DES keys, which
// are the hash and five zeros.
func challengeResponse(challenge [challengeHashLength]byte, hash [md4.Size]byte) (response [NTResponseLength]byte) {
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
func masterKey(hashHash [md4.Size]byte, response [NTResponseLength]byte) [masterKeyLength]byte {
	h := sha1.New() //nolint:gosec // see the import
	h.Write(hashHash[:])
	h.Write(response[:])
	h.Write([]byte(masterMagic))
	return [masterKeyLength]byte(h.Sum(nil))
}

// startKey is GetAsymmetricStartKey of RFC 3079 §3.4, for 128 bit.
func startKey(master [masterKeyLength]byte, magic string) [KeyLength]byte {
	var pad [shaPadLength]byte
	h := sha1.New() //nolint:gosec // see the import
	h.Write(master[:])
	h.Write(pad[:])
	h.Write([]byte(magic))
	for i := range pad {
		pad[i] = shaPad2
	}
	h.Write(pad[:])
	return [KeyLength]byte(h.Sum(nil))
}

package radius

import (
	"bytes"
	"crypto/md5" //nolint:gosec // RFC 2865 §5.3 names MD5.
	"crypto/subtle"

	"layeh.com/radius/rfc2865"
)

const (
	chapPasswordLength = 1 + md5.Size // RFC 2865 §5.3: identifier and response
	minCHAPChallenge   = 5            // RFC 2865 §5.40
)

// chap is a response by CHAP, in memory of its own.
type chap struct {
	identifier byte
	challenge  []byte
	response   [md5.Size]byte
}

// chapResponse returns the request's response by CHAP. The challenge is the
// CHAP-Challenge, else the Request Authenticator (RFC 2865 §2.2).
func (r *request) chapResponse() (*chap, error) {
	value := r.packet.Get(rfc2865.CHAPPassword_Type)
	if len(value) != chapPasswordLength {
		return nil, chapMislengthed
	}
	challenge := r.packet.Authenticator[:]
	switch r.count(rfc2865.CHAPChallenge_Type) {
	case 0:
		if r.format == version11 { // RFC 9765 §5.1.2: there is no authenticator
			return nil, chapChallengeMissing
		}
	case 1:
		challenge = r.packet.Get(rfc2865.CHAPChallenge_Type)
	default:
		return nil, ambiguousMethod
	}
	if len(challenge) < minCHAPChallenge {
		return nil, chapMislengthed
	}
	return &chap{identifier: value[0], challenge: bytes.Clone(challenge), response: [md5.Size]byte(value[1:])}, nil
}

// match is a verifier.Match: MD5 over identifier, code and challenge (RFC 2865
// §2.2, RFC 1994 §4.1).
func (c *chap) match(code string) bool {
	var room [64]byte
	b := append(append(append(room[:0], c.identifier), code...), c.challenge...)
	want := md5.Sum(b) //nolint:gosec // see the import
	return subtle.ConstantTimeCompare(want[:], c.response[:]) == 1
}

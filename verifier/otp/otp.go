// Package otp is the arithmetic of one-time passwords: HOTP (RFC 4226) and
// TOTP (RFC 6238). It knows no clock, no user and no window: the step is an
// argument, and which steps may be tried is the verifier's business.
package otp

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // RFC 4226 §5.2 and RFC 6238 §1.2 name HMAC-SHA-1; tokens in the field use it.
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"hash"
	"time"
)

// Algorithm is the hash under the HMAC, by its name in otpauth URIs and YAML.
type Algorithm string

// The algorithms of RFC 6238 §1.2.
const (
	SHA1   Algorithm = "SHA1"
	SHA256 Algorithm = "SHA256"
	SHA512 Algorithm = "SHA512"
)

// Type is the moving factor of a token: time or a counter.
type Type string

// The token types.
const (
	TOTP Type = "totp"
	HOTP Type = "hotp"
)

// The limits of what a token may be set to, and of its key (octets). RFC 4226
// §4 R6 asks for a key of at least 128 bits. One longer than a hash's block would
// be hashed before its use (RFC 2104 §2), so that two keys show the same codes.
const (
	MinDigits = 6
	MaxDigits = 8
	MinPeriod = 15 // seconds
	MaxPeriod = 120
	MinKey    = 16 // octets
	MaxKey    = 64
)

// Params say how a token makes its codes.
type Params struct {
	Type      Type      `json:"type"`
	Algorithm Algorithm `json:"algorithm"`
	Digits    int       `json:"digits"`
	Period    int       `json:"period,omitempty"` // seconds in a step; TOTP only
}

// Check returns an error that names the first value outside the limits.
func (p Params) Check() error {
	switch {
	case p.Type != TOTP && p.Type != HOTP:
		return fmt.Errorf("type %q: must be totp or hotp", p.Type)
	case p.Algorithm.hash() == nil:
		return fmt.Errorf("algorithm %q: must be SHA1, SHA256 or SHA512", p.Algorithm)
	case p.Digits < MinDigits || p.Digits > MaxDigits:
		return fmt.Errorf("digits %d: must be from %d to %d", p.Digits, MinDigits, MaxDigits)
	case p.Type == TOTP && (p.Period < MinPeriod || p.Period > MaxPeriod):
		return fmt.Errorf("period %d: must be from %d to %d seconds", p.Period, MinPeriod, MaxPeriod)
	}
	return nil
}

// Step is the number of the step that time t lies in: ⌊unix time / period⌋
// (RFC 6238 §4.2, T0 = 0).
func (p Params) Step(t time.Time) int64 {
	period := int64(p.Period)
	s := t.Unix()
	if s < 0 { // before 1970: floor, not truncation
		return (s - period + 1) / period
	}
	return s / period
}

// Generator makes the codes of one key. It keeps its HMAC between codes and so
// is not safe for concurrent use.
type Generator struct {
	mac    hash.Hash
	digits int
	sum    [sha512.Size]byte
}

// NewGenerator returns a Generator for key. The params must have passed Check.
func NewGenerator(key []byte, p Params) *Generator {
	return &Generator{mac: hmac.New(p.Algorithm.hash(), key), digits: p.Digits}
}

// Code is the code at counter value step (RFC 4226 §5.3).
func (g *Generator) Code(step int64) string {
	var counter [8]byte
	binary.BigEndian.PutUint64(counter[:], uint64(step))
	g.mac.Reset()
	g.mac.Write(counter[:])
	sum := g.mac.Sum(g.sum[:0])
	offset := sum[len(sum)-1] & 0x0f
	n := binary.BigEndian.Uint32(sum[offset:]) & 0x7fffffff

	var code [MaxDigits]byte
	for i := g.digits - 1; i >= 0; i-- {
		code[i] = '0' + byte(n%10)
		n /= 10
	}
	return string(code[:g.digits])
}

func (a Algorithm) hash() func() hash.Hash {
	switch a {
	case SHA1:
		return sha1.New
	case SHA256:
		return sha256.New
	case SHA512:
		return sha512.New
	}
	return nil
}

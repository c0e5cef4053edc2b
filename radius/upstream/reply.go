package upstream

import (
	"bytes"
	"crypto/hmac"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
)

const (
	// maxAttributes bounds the work that one reply can ask for. FreeRADIUS draws
	// the line at 200.
	maxAttributes = 200
	// MaxMessage is how many octets people are shown of what a challenge says: those
	// of two attributes. Servers that split a text send one and a bit, and no gear's
	// window has room for more.
	MaxMessage = 2 * maxValue
	// maxClasses is how many Class attributes of an Accept are kept. Servers send
	// one or two; they go on to the gear, which keeps them for its accounting.
	maxClasses = 4
)

// reply is what is kept of a packet's attributes.
type reply struct {
	code           codec.Code
	authenticators int // how many Message-Authenticators there are
	offset         int // of the last one's value
	proxied        bool
	messages       []string
	echo           bool
	states         [][]byte
	classes        [][]byte
}

// decode returns what b, a datagram from a server that was sent request, says; or
// the reason to drop it. What it returns doesn't point into b, which it changes.
func decode(b, request []byte, secret Secret, require bool) (Answer, error) {
	b, err := cut(b)
	if err != nil {
		return Answer{}, err
	}
	if b[1] != request[1] {
		return Answer{}, identifierOther
	}
	r, err := parse(b)
	if err != nil {
		return Answer{}, err
	}
	if err := r.checkIntegrity(b, request, secret, require); err != nil {
		return Answer{}, err
	}
	return r.answer()
}

// cut returns the packet in b without the padding behind it (RFC 2865 §3).
func cut(b []byte) ([]byte, error) {
	if len(b) < headerLength {
		return nil, fmt.Errorf("%w: %d octets are too few", malformed, len(b))
	}
	length := int(binary.BigEndian.Uint16(b[2:4]))
	if length < headerLength || length > codec.MaxPacketLength || length > len(b) {
		return nil, fmt.Errorf("%w: its length field says %d, and %d octets came", malformed, length, len(b))
	}
	return b[:length], nil
}

func parse(b []byte) (*reply, error) {
	r := &reply{code: codec.Code(b[0])}
	for offset, n := headerLength, 0; offset < len(b); n++ {
		rest := b[offset:]
		if len(rest) < 2 || rest[1] < 2 || int(rest[1]) > len(rest) {
			return nil, fmt.Errorf("%w: an attribute's length leads out of the packet", malformed)
		}
		if n == maxAttributes {
			return nil, fmt.Errorf("%w: more than %d attributes", malformed, maxAttributes)
		}
		length := int(rest[1])
		if err := r.keep(codec.Type(rest[0]), rest[2:length], offset+2); err != nil {
			return nil, err
		}
		offset += length
	}
	return r, nil
}

// keep takes what the value at offset says, if it is of use.
func (r *reply) keep(kind codec.Type, value []byte, offset int) error {
	switch kind {
	case rfc2869.MessageAuthenticator_Type:
		if len(value) != authenticatorLength {
			return fmt.Errorf("%w: its Message-Authenticator has %d octets", malformed, len(value))
		}
		r.authenticators, r.offset = r.authenticators+1, offset
	case rfc2865.ProxyState_Type:
		r.proxied = true
	case rfc2865.ReplyMessage_Type:
		r.messages = append(r.messages, string(value))
	case rfc2869.Prompt_Type: // RFC 2869 §5.10
		r.echo = len(value) == 4 && binary.BigEndian.Uint32(value) == uint32(rfc2869.Prompt_Value_Echo)
	case rfc2865.State_Type:
		r.states = append(r.states, bytes.Clone(value))
	case rfc2865.Class_Type:
		if len(r.classes) < maxClasses {
			r.classes = append(r.classes, bytes.Clone(value))
		}
	default: // of no use here, or hidden under a secret that the gear doesn't know
	}
	return nil
}

// checkIntegrity returns the reason to drop the reply unless it comes from a
// server that has the shared secret, and answers this request. It puts the
// Request Authenticator into b's header.
func (r *reply) checkIntegrity(b, request []byte, secret Secret, require bool) error {
	given := bytes.Clone(b[4:headerLength])
	copy(b[4:headerLength], request[4:headerLength])
	switch {
	case !hmac.Equal(responseAuthenticator(b, secret), given):
		return authenticatorWrong
	case r.authenticators > 1:
		return fmt.Errorf("%w: it has more than one Message-Authenticator", malformed)
	case r.authenticators == 0 && require:
		return authenticatorMissing
	case r.authenticators == 1 && !hmac.Equal(messageAuthenticator(b, r.offset, secret), b[r.offset:r.offset+authenticatorLength]):
		return messageAuthenticatorWrong
	case r.proxied:
		// RFC 2865 §5.33: a server returns what was sent, and we send none. Who
		// forges a Response Authenticator needs it (CVE-2024-3596).
		return proxyStateUnasked
	}
	return nil
}

// answer is what the reply says, once it is known to be the server's.
func (r *reply) answer() (Answer, error) {
	switch r.code {
	case codec.CodeAccessAccept:
		return Answer{Kind: Accept, Class: r.classes}, nil
	case codec.CodeAccessReject:
		return Answer{Kind: Reject}, nil
	case codec.CodeAccessChallenge:
		if len(r.states) > 1 { // RFC 2865 §5.44: 0-1
			return Answer{}, fmt.Errorf("%w: a challenge with more than one State", malformed)
		}
		a := Answer{Kind: Challenge, Message: line(r.messages), Echo: r.echo}
		if len(r.states) == 1 {
			a.State = r.states[0]
		}
		return a, nil
	default:
		return Answer{}, fmt.Errorf("%w: %s", unexpectedCode, r.code)
	}
}

// line joins messages, in their order (RFC 2865 §5.18), to one printable line.
func line(messages []string) string {
	printable := func(c rune) rune {
		if c == utf8.RuneError || !unicode.IsPrint(c) {
			return ' '
		}
		return c
	}
	s := strings.Join(strings.Fields(strings.Map(printable, strings.Join(messages, " "))), " ")
	if len(s) > MaxMessage {
		s = strings.ToValidUTF8(s[:MaxMessage], "") // a character cut in two goes
	}
	return s
}

package radius

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
)

// withLength sets the length field.
func withLength(b []byte, n int) []byte {
	binary.BigEndian.PutUint16(b[2:], uint16(n))
	return b
}

func TestMalformedIsDropped(t *testing.T) {
	request := func() *packet { return newPacket(codec.CodeAccessRequest, 1, "a").user("hanako") }
	many := newPacket(codec.CodeAccessRequest, 1, "a").password(rightCode, secret)
	for range maxAttributes {
		many.user("x")
	}
	large := request().password(rightCode, secret)
	for len(large.b) < codec.MaxPacketLength {
		large.add(rfc2865.ReplyMessage_Type, bytes.Repeat([]byte("x"), 253))
	}
	good := login(1, "a", rightCode)
	secondAuthenticator := func() []byte {
		p := request().password(rightCode, secret).add(rfc2869.MessageAuthenticator_Type, make([]byte, 16))
		return p.signed(secret)
	}
	for name, test := range map[string]struct {
		b   []byte
		why reason
	}{
		"empty":                               {nil, malformed},
		"one octet":                           {[]byte{1}, malformed},
		"19 octets":                           {good[:19], malformed},
		"header cut":                          {withLength(bytes.Clone(good[:20]), 19), malformed},
		"length field 0":                      {withLength(bytes.Clone(good), 0), malformed},
		"length field 19":                     {withLength(bytes.Clone(good), 19), malformed},
		"truncated":                           {good[:len(good)-1], malformed},
		"oversize":                            {large.signed(secret), malformed},
		"length field 65535":                  {withLength(bytes.Clone(good), 65535), malformed},
		"attribute of length 0":               {withLength(append(bytes.Clone(good), 1, 0), len(good)+2), malformed},
		"attribute of length 1":               {withLength(append(bytes.Clone(good), 1, 1), len(good)+2), malformed},
		"attribute leads out":                 {withLength(append(bytes.Clone(good), 1, 3), len(good)+2), malformed},
		"half an attribute":                   {withLength(append(bytes.Clone(good), 1), len(good)+1), malformed},
		"length field cuts an attribute":      {withLength(bytes.Clone(good), len(good)-3), malformed},
		"too many attributes":                 {many.signed(secret), tooManyAttributes},
		"Access-Accept":                       {newPacket(codec.CodeAccessAccept, 1, "a").signed(secret), unexpectedCode},
		"Accounting-Request":                  {newPacket(codec.CodeAccountingRequest, 1, "a").signed(secret), accountingWrong},
		"code 0":                              {newPacket(0, 1, "a").signed(secret), unexpectedCode},
		"code 255":                            {newPacket(255, 1, "a").signed(secret), unexpectedCode},
		"Message-Authenticator of 0 octets":   {request().password(rightCode, secret).add(rfc2869.MessageAuthenticator_Type, nil).b, authenticatorMalformed},
		"Message-Authenticator of 15 octets":  {request().password(rightCode, secret).add(rfc2869.MessageAuthenticator_Type, make([]byte, 15)).b, authenticatorMalformed},
		"Message-Authenticator of 17 octets":  {request().password(rightCode, secret).add(rfc2869.MessageAuthenticator_Type, make([]byte, 17)).b, authenticatorMalformed},
		"Message-Authenticator twice":         {secondAuthenticator(), authenticatorMalformed},
		"no Message-Authenticator":            {request().password(rightCode, secret).b, authenticatorMissing},
		"wrong secret":                        {request().password(rightCode, "guess").signed("guess"), authenticatorWrong},
		"altered after signing":               {append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1), authenticatorWrong},
		"Status-Server, no authenticator":     {newPacket(codec.CodeStatusServer, 1, "a").b, authenticatorMissing},
		"Status-Server, wrong secret":         {newPacket(codec.CodeStatusServer, 1, "a").signed("guess"), authenticatorWrong},
		"EAP-Message, no authenticator":       {request().add(rfc2869.EAPMessage_Type, []byte{2, 1, 0, 4}).b, authenticatorMissing},
		"empty request, no attributes at all": {newPacket(codec.CodeAccessRequest, 1, "a").b, authenticatorMissing},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(h *harness) {
				h.wantDrop(vpn, test.b, "vpn", test.why)
				h.wantCalls(0)
				if n := len(h.cache.entries); n != 0 {
					t.Errorf("%d entries in the cache, want none", n)
				}
				// The worker that had it goes on.
				h.wantReply(vpn, login(1, "b", rightCode), codec.CodeAccessAccept)
			})
		})
	}
}

func TestPaddingIsIgnored(t *testing.T) {
	inBubble(t, func(h *harness) {
		b := append(login(1, "a", rightCode), bytes.Repeat([]byte{0xff}, 5000)...)
		h.wantReply(vpn, b, codec.CodeAccessAccept)
	})
}

func TestEmptyAttributesAreHarmless(t *testing.T) {
	inBubble(t, func(h *harness) {
		p := newPacket(codec.CodeAccessRequest, 1, "a").user("hanako").password(rightCode, secret)
		for kind := range 256 {
			if kind == 80 || kind == 1 || kind == 2 || kind == 3 || kind == 79 {
				continue // each has a test of its own
			}
			if len(p.b)/2 < maxAttributes {
				p.add(codec.Type(kind), nil)
			}
		}
		h.wantReply(vpn, p.signed(secret), codec.CodeAccessAccept)
	})
}

func TestProxyStateComesBackInOrder(t *testing.T) {
	for name, build := range map[string]func(*packet) *packet{
		"Access-Request": func(p *packet) *packet { return p.user("hanako").password(rightCode, secret) },
		"Status-Server":  func(p *packet) *packet { p.b[0] = byte(codec.CodeStatusServer); return p },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(h *harness) {
				long := bytes.Repeat([]byte("z"), 253)
				p := newPacket(codec.CodeAccessRequest, 1, "a").add(rfc2865.ProxyState_Type, []byte("second to none"))
				b := build(p).add(rfc2865.ProxyState_Type, nil).add(rfc2865.NASPort_Type, []byte{0, 0, 0, 1}).
					add(rfc2865.ProxyState_Type, long).add(rfc2865.ProxyState_Type, []byte("a")).signed(secret)
				reply := h.wantReply(vpn, b, codec.CodeAccessAccept)
				want := newPacket(0, 0, "").add(rfc2865.ProxyState_Type, []byte("second to none")).
					add(rfc2865.ProxyState_Type, nil).add(rfc2865.ProxyState_Type, long).add(rfc2865.ProxyState_Type, []byte("a"))
				if got := reply[headerLength+18:]; !bytes.Equal(got, want.b[headerLength:]) {
					t.Errorf("behind the Message-Authenticator:\n%x, want\n%x", got, want.b[headerLength:])
				}
			})
		})
	}
}

// The largest request has room for its reply.
func TestLargestProxyStateFits(t *testing.T) {
	inBubble(t, func(h *harness) {
		p := newPacket(codec.CodeStatusServer, 1, "a")
		for len(p.b) <= codec.MaxPacketLength-18-255 {
			p.add(rfc2865.ProxyState_Type, bytes.Repeat([]byte("z"), 253))
		}
		p.add(rfc2865.ProxyState_Type, bytes.Repeat([]byte("z"), codec.MaxPacketLength-18-len(p.b)-2))
		b := p.signed(secret)
		if reply := h.wantReply(vpn, b, codec.CodeAccessAccept); len(reply) != codec.MaxPacketLength || len(b) != len(reply) {
			t.Errorf("request of %d octets, reply of %d, want %d", len(b), len(reply), codec.MaxPacketLength)
		}
	})
}

func TestUnknownAddress(t *testing.T) {
	inBubble(t, func(h *harness) {
		b := login(1, "a", rightCode)
		for i := range 1000 {
			nobody := nobody
			if i%2 == 1 {
				nobody = netipAddr(i)
			}
			h.wantDrop(nobody, b, "", unknownClient)
		}
		h.wantCalls(0)
		if n := strings.Count(h.logs.String(), "\n"); n != 1 {
			t.Errorf("%d log lines for 1000 packets at once, want 1:\n%s", n, h.logs)
		}
		if n := len(h.notices.seen); n != 1 {
			t.Errorf("%d notices kept for unknown addresses, want 1", n)
		}
	})
}

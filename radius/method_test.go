package radius

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"regexp"
	"testing"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/vendors/microsoft"
)

// TestCHAPOfRFC2865 has the packet of RFC 2865 §7.2.
func TestCHAPOfRFC2865(t *testing.T) {
	b := vector(t, "rfc2865 7.2 request")
	d := &datagram{client: &client{}}
	d.n = copy(d.buf[:], b)
	var req request
	if err := req.parse(d); err != nil {
		t.Fatal(err)
	}
	p, err := req.proof("flopsy")
	if err != nil {
		t.Fatal(err)
	}
	if !p.match("arctangent") || p.match("arctangenu") || p.match("") {
		t.Error("the response isn't matched by its password, or by another")
	}
	inBubble(t, func(h *harness) { // nothing in it depends on the secret
		h.wantDrop(legacy, b, "legacy", authenticatorMissing)
		h.wantCalls(0)
	})
}

func TestMSCHAPv2WithoutMessageAuthenticator(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.wantDrop(legacy, newPacket(codec.CodeAccessRequest, 1, "a").user("hanako").msCHAPv2("hanako", rightCode).b, "legacy", authenticatorMissing)
		h.wantCalls(0)
	})
}

func TestCHAP(t *testing.T) {
	for name, challenge := range map[string][]byte{"authenticator": nil, "5 octets": []byte("12345"), "253 octets": bytes.Repeat([]byte("x"), 253)} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(h *harness) {
				hanako := func(id byte) *packet { return newPacket(codec.CodeAccessRequest, id, fmt.Sprint(id)).user("hanako") }
				reply := h.wantReply(vpn, hanako(1).chap(wrongCode, challenge).signed(secret), codec.CodeAccessReject)
				if len(reply) != headerLength+18 {
					t.Errorf("the Reject tells more than No: %x", reply)
				}
				reply = h.wantReply(vpn, hanako(2).chap(rightCode, challenge).signed(secret), codec.CodeAccessAccept)
				if len(reply) != headerLength+18 {
					t.Errorf("the Accept carries something: %x", reply)
				}
				h.wantCalls(2)
			})
		})
	}
}

// The exchange of RFC 2759 §9.2 and its keys, by their names in testdata.
const (
	rfcAuthenticator = "rfc2759 9.2 authenticator challenge"
	rfcPeer          = "rfc2759 9.2 peer challenge"
	rfcNTResponse    = "rfc2759 9.2 nt-response"
	rfcSuccess       = "rfc2759 9.2 authenticator response"
	rfcSendKey       = "rfc3079 3.5.3 send start key"
	rfcRecvKey       = "layeh.com/radius rfc3079.MakeKey receive key, of which rfc3079 has no example"
)

func TestMSCHAPv2OfRFC2759(t *testing.T) {
	for _, name := range []string{"User", `BIGCO\User`} { // RFC 2759 §4: the name without the domain
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(h *harness) {
				h.gate.verify = acceptOnly("clientPass")
				value := append([]byte{msCHAPIdentifier, 0}, vector(t, rfcPeer)...)
				value = append(append(value, make([]byte, 8)...), vector(t, rfcNTResponse)...)
				b := newPacket(codec.CodeAccessRequest, 1, "a").user(name).
					microsoft(msCHAPChallenge, vector(t, rfcAuthenticator)).microsoft(msCHAP2Response, value).
					add(rfc2865.ProxyState_Type, []byte("proxy")).signed(secret)
				reply := h.wantReply(vpn, b, codec.CodeAccessAccept)
				if got := h.gate.attempts[0].User; got != name {
					t.Errorf("the gate was asked for %q", got)
				}
				if !bytes.HasSuffix(reply, []byte("\x21\x07proxy")) {
					t.Errorf("Proxy-State isn't last: %x", reply)
				}
				checkSuccess(t, reply, b)
				if again := h.wantReply(vpn, b, codec.CodeAccessAccept); !bytes.Equal(again, reply) {
					t.Error("a resend gets other keys")
				}
				h.wantCalls(1)
			})
		})
	}
}

func checkSuccess(t *testing.T, reply, request []byte) {
	t.Helper()
	p, err := codec.Parse(reply, []byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	if got := microsoft.MSCHAP2Success_Get(p); string(got) != string(rune(msCHAPIdentifier))+string(vector(t, rfcSuccess)) {
		t.Errorf("MS-CHAP2-Success %q", got)
	}
	if policy, types := microsoft.MSMPPEEncryptionPolicy_Get(p), microsoft.MSMPPEEncryptionTypes_Get(p); policy != 1 || types != 4 {
		t.Errorf("MPPE policy %d, types %d: want 1 (allowed), 4 (128 bit)", policy, types)
	}
	send, recv := hiddenKey(t, p, msMPPESendKey), hiddenKey(t, p, msMPPERecvKey)
	if got := reveal(t, send, request); !bytes.Equal(got, vector(t, rfcSendKey)) {
		t.Errorf("MS-MPPE-Send-Key %x", got)
	}
	if got := reveal(t, recv, request); !bytes.Equal(got, vector(t, rfcRecvKey)) {
		t.Errorf("MS-MPPE-Recv-Key %x", got)
	}
	if bytes.Equal(send[:2], recv[:2]) || send[0]&recv[0]&0x80 == 0 {
		t.Errorf("salts %x and %x", send[:2], recv[:2])
	}
}

// hiddenKey is an attribute of Microsoft's, as it is on the wire.
func hiddenKey(t *testing.T, p *codec.Packet, kind byte) []byte {
	t.Helper()
	for _, avp := range p.Attributes {
		if avp.Type == rfc2865.VendorSpecific_Type && avp.Attribute[4] == kind {
			return avp.Attribute[6:]
		}
	}
	t.Fatalf("the reply has no attribute %d of Microsoft's", kind)
	return nil
}

// reveal undoes RFC 2548 §2.4.2 as it is written there.
func reveal(t *testing.T, value, request []byte) []byte {
	t.Helper()
	if len(value) != 2+32 {
		t.Fatalf("a hidden key of %d octets", len(value))
	}
	var plain []byte
	before := append(bytes.Clone(request[4:20]), value[:2]...)
	for c := value[2:]; len(c) > 0; c = c[16:] {
		mask := md5.Sum(append([]byte(secret), before...))
		for i := range mask {
			plain = append(plain, c[i]^mask[i])
		}
		before = c[:16]
	}
	if plain[0] != 16 || !bytes.Equal(plain[17:], make([]byte, 15)) {
		t.Fatalf("not a key of 16 octets: %x", plain)
	}
	return plain[1:17]
}

func TestMSCHAPv2Refused(t *testing.T) {
	inBubble(t, func(h *harness) {
		b := newPacket(codec.CodeAccessRequest, 1, "a").user("hanako").msCHAPv2("hanako", wrongCode).signed(secret)
		reply := h.wantReply(vpn, b, codec.CodeAccessReject)
		p, err := codec.Parse(reply, []byte(secret))
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Attributes) != 2 {
			t.Errorf("the Reject carries more than its MS-CHAP-Error: %v", p.Attributes)
		}
		if got := microsoft.MSCHAPError_GetString(p); !regexp.MustCompile(`^\*E=691 R=0 C=[0-9A-F]{32} V=3$`).MatchString(got) {
			t.Errorf("MS-CHAP-Error %q", got)
		}
	})
}

// A response over another name, or to another challenge, isn't one for this
// code.
func TestMSCHAPv2IsBoundToItsExchange(t *testing.T) {
	inBubble(t, func(h *harness) {
		b := newPacket(codec.CodeAccessRequest, 1, "a").user("hanako").msCHAPv2("taro", rightCode).signed(secret)
		h.wantReply(vpn, b, codec.CodeAccessReject)
		p := newPacket(codec.CodeAccessRequest, 2, "b").user("hanako").msCHAPv2("hanako", rightCode)
		challenge := bytes.Index(p.b, vsa(msCHAPChallenge, make([]byte, 16)...)[:6]) + 6
		p.b[challenge] ^= 1
		h.wantReply(vpn, p.signed(secret), codec.CodeAccessReject)
		h.wantCalls(2)
	})
}

// A code isn't used up by a request that can't be answered.
func TestMSCHAPv2LeavesRoom(t *testing.T) {
	for _, test := range []struct {
		length int
		code   codec.Code
		calls  int
	}{
		{codec.MaxPacketLength - msCHAPv2SuccessLength, codec.CodeAccessAccept, 1},
		{codec.MaxPacketLength - msCHAPv2SuccessLength + 1, codec.CodeAccessReject, 0},
		{codec.MaxPacketLength, codec.CodeAccessReject, 0},
	} {
		t.Run(fmt.Sprint(test.length), func(t *testing.T) {
			inBubble(t, func(h *harness) {
				p := newPacket(codec.CodeAccessRequest, 1, "a").user("x").msCHAPv2("x", rightCode)
				for left := test.length - 18 - len(p.b); left > 0; left = test.length - 18 - len(p.b) {
					n := min(left, 255)
					if rest := left - n; rest == 1 {
						n--
					}
					p.add(rfc2865.ProxyState_Type, make([]byte, n-2))
				}
				b := p.signed(secret)
				if len(b) != test.length {
					t.Fatalf("a request of %d octets", len(b))
				}
				h.wantReply(vpn, b, test.code)
				h.wantCalls(test.calls)
			})
		})
	}
}

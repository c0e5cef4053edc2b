package radius

import (
	"strings"
	"testing"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
)

// vsa is the value of a Vendor-Specific attribute of Microsoft.
func vsa(kind byte, value ...byte) []byte {
	return append([]byte{0, 0, 311 >> 8, 311 & 0xff, kind, byte(len(value) + 2)}, value...)
}

func TestRejectedWithoutTheGate(t *testing.T) {
	request := func() *packet { return newPacket(codec.CodeAccessRequest, 1, "a") }
	hanako := func() *packet { return request().user("hanako") }
	for name, test := range map[string]struct {
		p   *packet
		why refusal
	}{
		"no User-Name":               {request().password(rightCode, secret), noUserName},
		"two User-Names":             {hanako().user("taro").password(rightCode, secret), noUserName},
		"empty User-Name":            {request().user("").password(rightCode, secret), userNameUnusable},
		"User-Name with NUL":         {request().user("hana\x00ko").password(rightCode, secret), userNameUnusable},
		"User-Name not UTF-8":        {request().user("hana\xffko").password(rightCode, secret), userNameUnusable},
		"no password":                {hanako(), noPassword},
		"empty password":             {hanako().password("", secret), emptyPassword},
		"User-Password, 0 octets":    {hanako().add(rfc2865.UserPassword_Type, nil), passwordMislengthed},
		"User-Password, 15 octets":   {hanako().add(rfc2865.UserPassword_Type, make([]byte, 15)), passwordMislengthed},
		"User-Password, 17 octets":   {hanako().add(rfc2865.UserPassword_Type, make([]byte, 17)), passwordMislengthed},
		"User-Password, 144":         {hanako().add(rfc2865.UserPassword_Type, make([]byte, 144)), passwordMislengthed},
		"two User-Passwords":         {hanako().password(rightCode, secret).password(rightCode, secret), ambiguousMethod},
		"CHAP, 0 octets":             {hanako().add(rfc2865.CHAPPassword_Type, nil), chapMislengthed},
		"CHAP, 16 octets":            {hanako().add(rfc2865.CHAPPassword_Type, make([]byte, 16)), chapMislengthed},
		"CHAP, 18 octets":            {hanako().add(rfc2865.CHAPPassword_Type, make([]byte, 18)), chapMislengthed},
		"CHAP, empty challenge":      {hanako().chap(rightCode, []byte{}), chapMislengthed},
		"CHAP, short challenge":      {hanako().chap(rightCode, []byte("1234")), chapMislengthed},
		"CHAP, two challenges":       {hanako().chap(rightCode, []byte("12345")).add(rfc2865.CHAPChallenge_Type, []byte("12345")), ambiguousMethod},
		"CHAP twice":                 {hanako().chap(rightCode, []byte("12345")).add(rfc2865.CHAPPassword_Type, make([]byte, 17)), ambiguousMethod},
		"CHAP-Challenge alone":       {hanako().add(rfc2865.CHAPChallenge_Type, make([]byte, 16)), noPassword},
		"CHAP and PAP":               {hanako().password(rightCode, secret).add(rfc2865.CHAPPassword_Type, make([]byte, 17)), ambiguousMethod},
		"CHAP and MS-CHAPv2":         {hanako().chap(rightCode, []byte("12345")).msCHAPv2("hanako", rightCode), ambiguousMethod},
		"EAP":                        {hanako().add(rfc2869.EAPMessage_Type, []byte{2, 1, 0, 4}), methodNotSupported},
		"EAP, two attributes":        {hanako().add(rfc2869.EAPMessage_Type, []byte{2, 1, 0, 4}).add(rfc2869.EAPMessage_Type, []byte{1}), methodNotSupported},
		"EAP and PAP":                {hanako().password(rightCode, secret).add(rfc2869.EAPMessage_Type, []byte{2, 1, 0, 4}), ambiguousMethod},
		"EAP and CHAP":               {hanako().chap(rightCode, []byte("12345")).add(rfc2869.EAPMessage_Type, []byte{2, 1, 0, 4}), ambiguousMethod},
		"MS-CHAP":                    {hanako().microsoft(msCHAPResponse, make([]byte, 50)), methodNotSupported},
		"MS-CHAPv2 and MS-CHAP":      {hanako().msCHAPv2("hanako", rightCode).microsoft(msCHAPResponse, make([]byte, 50)), ambiguousMethod},
		"MS-CHAPv2 and PAP":          {hanako().msCHAPv2("hanako", rightCode).password(rightCode, secret), ambiguousMethod},
		"MS-CHAPv2 twice":            {hanako().msCHAPv2("hanako", rightCode).microsoft(msCHAP2Response, make([]byte, 50)), ambiguousMethod},
		"MS-CHAPv2, two challenges":  {hanako().msCHAPv2("hanako", rightCode).microsoft(msCHAPChallenge, make([]byte, 16)), msCHAPChallengeMissing},
		"MS-CHAPv2, no challenge":    {hanako().microsoft(msCHAP2Response, make([]byte, 50)), msCHAPChallengeMissing},
		"MS-CHAPv2, challenge of 8":  {hanako().microsoft(msCHAPChallenge, make([]byte, 8)).microsoft(msCHAP2Response, make([]byte, 50)), msCHAPMislengthed},
		"MS-CHAPv2, challenge of 17": {hanako().microsoft(msCHAPChallenge, make([]byte, 17)).microsoft(msCHAP2Response, make([]byte, 50)), msCHAPMislengthed},
		"MS-CHAPv2, response of 0":   {hanako().microsoft(msCHAPChallenge, make([]byte, 16)).microsoft(msCHAP2Response, nil), msCHAPMislengthed},
		"MS-CHAPv2, response of 49":  {hanako().microsoft(msCHAPChallenge, make([]byte, 16)).microsoft(msCHAP2Response, make([]byte, 49)), msCHAPMislengthed},
		"MS-CHAPv2, response of 51":  {hanako().microsoft(msCHAPChallenge, make([]byte, 16)).microsoft(msCHAP2Response, make([]byte, 51)), msCHAPMislengthed},
		"Microsoft, but no method":   {hanako().add(rfc2865.VendorSpecific_Type, vsa(9, 0, 0, 1, 55)), noPassword},
		"vendor, cut":                {hanako().add(rfc2865.VendorSpecific_Type, []byte{0, 0, 1}), noPassword},
		"Microsoft, empty":           {hanako().add(rfc2865.VendorSpecific_Type, []byte{0, 0, 1, 55}), noPassword},
		"Microsoft, length 0":        {hanako().add(rfc2865.VendorSpecific_Type, []byte{0, 0, 1, 55, 25, 0}), noPassword},
		"Microsoft, leads out":       {hanako().add(rfc2865.VendorSpecific_Type, []byte{0, 0, 1, 55, 25, 9}), noPassword},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(h *harness) {
				reply := h.wantReply(vpn, test.p.signed(secret), codec.CodeAccessReject)
				h.wantCalls(0)
				if len(reply) != headerLength+18 {
					t.Errorf("the Reject tells more than No: %x", reply[headerLength:])
				}
				if !strings.Contains(h.logs.String(), "level=INFO") || !strings.Contains(h.logs.String(), string(test.why)) {
					t.Errorf("the log doesn't say %q:\n%s", test.why, h.logs)
				}
			})
		})
	}
}

func TestMicrosoftAttributesComeWithPAPToo(t *testing.T) {
	inBubble(t, func(h *harness) {
		b := newPacket(codec.CodeAccessRequest, 1, "a").user("hanako").password(rightCode, secret).
			add(rfc2865.VendorSpecific_Type, vsa(9, 0, 0, 1, 55)).signed(secret)
		h.wantReply(vpn, b, codec.CodeAccessAccept)
	})
}

func TestStation(t *testing.T) {
	for value, want := range map[string]string{
		"":                                  "",
		"203.0.113.7":                       "203.0.113.7",
		"203.0.113.7:4500":                  "203.0.113.7",
		"203.0.113.7[4500]":                 "203.0.113.7",
		"2001:db8::1":                       "2001:db8::1",
		"[2001:db8::1]:4500":                "2001:db8::1",
		"2001:db8::1[4500]":                 "2001:db8::1",
		"00-11-22-33-44-55":                 "00-11-22-33-44-55",
		"00-11-22-33-44-55:Guest [2]":       "00-11-22-33-44-55:Guest [2]",
		"03-1234-5678":                      "03-1234-5678",
		"203.0.113.7:":                      "203.0.113.7:",
		"203.0.113.7[":                      "203.0.113.7[",
		"line\nbreak":                       "",
		"\xff\xfe":                          "",
		strings.Repeat("x", maxStation):     strings.Repeat("x", maxStation),
		strings.Repeat("x", maxStation+1):   "",
		"203.0.113.7[4500]\x00":             "",
		"fe80::1%" + strings.Repeat("e", 9): "fe80::1%eeeeeeeee",
	} {
		if got := station([]byte(value)); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

package mschap

import (
	"bytes"
	"encoding/hex"
	"regexp"
	"strings"
	"testing"
)

// The exchange of RFC 2759 §9.2; its keys are in RFC 3079 §3.5.3.
const (
	rfcAuthenticator = "5B 5D 7C 7D 7B 3F 2F 3E 3C 2C 60 21 32 26 26 28"
	rfcPeer          = "21 40 23 24 25 5E 26 2A 28 29 5F 2B 3A 33 7C 7E"
	rfcNTResponse    = "82 30 9E CD 8D 70 8B 5E A0 8F AA 39 81 CD 83 54 42 33 11 4A 3D 85 D6 DF"
	rfcSuccess       = "S=407A5589115FD0D6209F510FE9C04566932CDA56"
	rfcSendKey       = "8B 7C DC 14 9B 99 3A 1B A1 18 CB 15 3F 56 DC CB"
	// RFC 3079 has no example of the server's receive key. This is what
	// rfc3079.MakeKey of layeh.com/radius gives.
	rfcRecvKey = "D5 F0 E9 52 1E 3E A9 58 96 45 E8 60 51 C8 22 26"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func rfcResponse(t *testing.T, name string) *Response {
	t.Helper()
	return NewResponse([ChallengeLength]byte(unhex(t, rfcAuthenticator)), [ChallengeLength]byte(unhex(t, rfcPeer)), name,
		[NTResponseLength]byte(unhex(t, rfcNTResponse)))
}

func TestExchangeOfRFC2759(t *testing.T) {
	for _, name := range []string{"User", `BIGCO\User`} { // RFC 2759 §4: the name without the domain
		r := rfcResponse(t, name)
		if r.Match("clientPasS") || r.Match("") || !r.Match("clientPass") {
			t.Fatalf("%s: the response isn't matched by its password, or by another", name)
		}
		r.Match("another") // leaves what matched
		if got := r.Success(); got != rfcSuccess {
			t.Errorf("%s: authenticator response %q", name, got)
		}
		send, recv := r.Keys()
		if !bytes.Equal(send[:], unhex(t, rfcSendKey)) || !bytes.Equal(recv[:], unhex(t, rfcRecvKey)) {
			t.Errorf("%s: keys %x to send, %x to receive", name, send, recv)
		}
	}
}

// A response by another name, or to another challenge, isn't one for this code.
func TestResponseIsBound(t *testing.T) {
	if rfcResponse(t, "user").Match("clientPass") {
		t.Error("another name's response is matched")
	}
	r := rfcResponse(t, "User")
	r.challenge[0] ^= 1
	if r.Match("clientPass") {
		t.Error("a response to another challenge is matched")
	}
}

// A right first block isn't a right response.
func TestMatchComparesAll(t *testing.T) {
	for i := range NTResponseLength {
		r := rfcResponse(t, "User")
		r.response[i] ^= 1
		if r.Match("clientPass") {
			t.Errorf("octet %d isn't compared", i)
		}
	}
}

// TestNTPasswordHash has the password of RFC 2759 §9.2, and names that aren't
// ASCII, held against OpenSSL: iconv -t utf-16le | openssl dgst -md4.
func TestNTPasswordHash(t *testing.T) {
	for password, want := range map[string]string{
		"clientPass": "44ebba8d5312b8d611474411f56989ae",
		"パスワード":      "62d6a9aa1ea010222c5e9fc49563d6a8",
		"a𠮷":         "53a521e3bc11d034966614de96e1a4ea",
	} {
		if got := ntPasswordHash(password); hex.EncodeToString(got[:]) != want {
			t.Errorf("%q: %x, want %s", password, got, want)
		}
	}
}

func TestFailure(t *testing.T) {
	first, second := Failure(), Failure()
	if !regexp.MustCompile(`^E=691 R=0 C=[0-9A-F]{32} V=3$`).MatchString(first) {
		t.Errorf("%q", first)
	}
	if first == second {
		t.Error("the challenge comes twice")
	}
}

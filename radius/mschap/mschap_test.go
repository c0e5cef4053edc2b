package mschap

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The exchange of RFC 2759 §9.2 and its keys, by their names in testdata.
const (
	rfcAuthenticator = "rfc2759 9.2 authenticator challenge"
	rfcPeer          = "rfc2759 9.2 peer challenge"
	rfcNTResponse    = "rfc2759 9.2 nt-response"
	rfcSuccess       = "rfc2759 9.2 authenticator response"
	rfcSendKey       = "rfc3079 3.5.3 send start key"
	rfcRecvKey       = "layeh.com/radius rfc3079.MakeKey receive key, of which rfc3079 has no example"
)

// vector is one of the RFCs' examples.
func vector(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("../testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors map[string]string
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	b, err := hex.DecodeString(strings.ReplaceAll(vectors[name], " ", ""))
	if err != nil || len(b) == 0 {
		t.Fatalf("the vector %q: %v", name, err)
	}
	return b
}

func rfcResponse(t *testing.T, name string) *Response {
	t.Helper()
	return NewResponse([ChallengeLength]byte(vector(t, rfcAuthenticator)), [ChallengeLength]byte(vector(t, rfcPeer)), name,
		[NTResponseLength]byte(vector(t, rfcNTResponse)))
}

func TestExchangeOfRFC2759(t *testing.T) {
	for _, name := range []string{"User", `BIGCO\User`} { // RFC 2759 §4: the name without the domain
		r := rfcResponse(t, name)
		if r.Match("clientPasS") || r.Match("") || !r.Match("clientPass") {
			t.Fatalf("%s: the response isn't matched by its password, or by another", name)
		}
		r.Match("another") // leaves what matched
		if got := r.Success(); got != string(vector(t, rfcSuccess)) {
			t.Errorf("%s: authenticator response %q", name, got)
		}
		send, recv := r.Keys()
		if !bytes.Equal(send[:], vector(t, rfcSendKey)) || !bytes.Equal(recv[:], vector(t, rfcRecvKey)) {
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

package main

import (
	"bytes"
	"context"
	"crypto/des"
	"crypto/rand"
	"crypto/sha1"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"otpgate/internal/admin"
	"otpgate/verifier"
)

// radclient sends one request with FreeRADIUS's client and returns the code of
// the answer, or "none".
func radclient(t *testing.T, address, secretFile, command string, attributes ...string) string {
	t.Helper()
	out := radclientOutput(t, address, secretFile, command, attributes...)
	for _, code := range []string{"Access-Accept", "Access-Reject"} {
		if strings.Contains(out, "Received "+code) {
			if !strings.Contains(out, "\tMessage-Authenticator = ") {
				t.Errorf("%s without a Message-Authenticator:\n%s", code, out)
			}
			return code
		}
	}
	if !strings.Contains(out, "No reply from server") {
		t.Errorf("radclient printed:\n%s", out)
	}
	return "none"
}

func radclientOutput(t *testing.T, address, secretFile, command string, attributes ...string) string {
	t.Helper()
	cmd := exec.Command(needPeer(t, "radclient", "freeradius-utils"), "-x", "-r", "1", "-t", "2", "-S", secretFile, address, command)
	cmd.Stdin = strings.NewReader(strings.Join(attributes, ",") + "\n")
	out, _ := cmd.CombinedOutput() // a Reject and no answer are both exit code 1
	return string(out)
}

// msCHAPv2 is what a peer that isn't ours answers to a challenge (RFC 2759
// §8.1): the MD4 is OpenSSL's.
func msCHAPv2(t *testing.T, user, code string) []string {
	t.Helper()
	challenges := make([]byte, 32) // the peer's and the gear's
	_, _ = rand.Read(challenges)
	hash := sha1.Sum(append(bytes.Clone(challenges), user...))

	cmd := exec.Command(needPeer(t, "openssl", "openssl"), "dgst", "-provider", "legacy", "-provider", "default", "-md4", "-binary")
	cmd.Stdin = strings.NewReader(strings.Join(strings.Split(code, ""), "\x00") + "\x00")
	key, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	key = append(key, 0, 0, 0, 0, 0)
	response := make([]byte, 24)
	for i := range 3 {
		var bits uint64
		for _, b := range key[7*i : 7*i+7] {
			bits = bits<<8 | uint64(b)
		}
		var k [8]byte
		for j := range k {
			k[j] = byte(bits>>(49-7*j)) << 1
		}
		c, err := des.NewCipher(k[:])
		if err != nil {
			t.Fatal(err)
		}
		c.Encrypt(response[8*i:], hash[:8])
	}
	return []string{
		fmt.Sprintf("MS-CHAP-Challenge=0x%x", challenges[16:]),
		fmt.Sprintf("MS-CHAP2-Response=0x0100%x%x%x", challenges[:16], make([]byte, 8), response),
	}
}

// signed is what makes radclient send a Message-Authenticator.
const signed = "Message-Authenticator=0x00"

func login(user, code string) []string {
	return []string{"User-Name=" + user, "User-Password=" + code, "NAS-IP-Address=192.0.2.1", signed}
}

// employee makes a user in realm staff with a token in service and returns its
// key.
func employee(t testing.TB, c *admin.Client, name string) []byte {
	t.Helper()
	key := make([]byte, 20)
	_, _ = rand.Read(key)
	if _, err := c.AddUser(context.Background(), admin.NewUser{Realm: "staff", Name: name}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateToken(context.Background(), admin.NewToken{Realm: "staff", User: name, Key: key, InService: true}); err != nil {
		t.Fatal(err)
	}
	return key
}

// wrongCode is a code that the token doesn't show around now.
func wrongCode(key []byte) string {
	for _, code := range []string{"000000", "111111", "222222", "333333", "444444", "555555"} {
		shown := false
		for offset := int64(-2); offset <= 2; offset++ {
			shown = shown || codeNow(key, 30, offset) == code
		}
		if !shown {
			return code
		}
	}
	panic("a token shows six repdigits within two minutes")
}

func TestRadclient(t *testing.T) {
	// A second machine on the loopback network, whose gear is old.
	legacy := "    - { name: legacy, address: 127.0.0.2/32, secret_file: legacy.secret, realm: staff, require_message_authenticator: false }\n" +
		"    - { name: lab, address: 127.0.0.0/8, secret_file: lab.secret, realm: retail }\n"
	s := newSite(t, legacy, "")
	legacySecret, labSecret := filepath.Join(s.dir, "legacy.secret"), filepath.Join(s.dir, "lab.secret")
	for file, secret := range map[string]string{legacySecret: "the-old-switch-secret", labSecret: "secret-of-the-laboratory"} {
		if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.serve(t)
	secret := filepath.Join(s.dir, "data", "vpn.secret")
	try := func(want, user, code string) {
		t.Helper()
		if got := radclient(t, s.radius, secret, "auth", login(user, code)...); got != want {
			t.Errorf("%s with %s: %s, want %s", user, code, got, want)
		}
	}

	t.Run("accept, reject, replay", func(t *testing.T) {
		key := employee(t, s.client(), "taro")
		code := codeNow(key, 30, 0)
		try("Access-Reject", "taro", wrongCode(key))
		try("Access-Accept", "taro", code)
		try("Access-Reject", "taro", code)
		try("Access-Reject", "nobody", code)
		try("Access-Accept", "taro", codeNow(key, 30, 1))
	})

	t.Run("ten wrong lock", func(t *testing.T) {
		key := employee(t, s.client(), "jiro")
		for range 10 {
			try("Access-Reject", "jiro", wrongCode(key))
		}
		try("Access-Reject", "jiro", codeNow(key, 30, 0))
		a, err := s.client().Account(t.Context(), "staff", "jiro")
		if err != nil || a.Service != verifier.ServiceLocked {
			t.Errorf("account %+v, %v", a, err)
		}
		if last := a.Tries[len(a.Tries)-1]; last.Outcome != string(verifier.Locked) || last.Client != "vpn" || last.Door != "radius" {
			t.Errorf("the log doesn't say why: %+v", last)
		}
	})

	t.Run("CHAP: accept, replay, lock", func(t *testing.T) {
		key := employee(t, s.client(), "nanao")
		chap := func(want, code string) {
			t.Helper()
			if got := radclient(t, s.radius, secret, "auth", "User-Name=nanao", "CHAP-Password="+code, signed); got != want {
				t.Errorf("CHAP with %s: %s, want %s", code, got, want)
			}
		}
		chap("Access-Reject", wrongCode(key))
		chap("Access-Accept", codeNow(key, 30, 0))
		chap("Access-Reject", codeNow(key, 30, 0))
		try("Access-Reject", "nanao", codeNow(key, 30, 0)) // used up, for the other method too
		for range 10 {
			chap("Access-Reject", wrongCode(key))
		}
		chap("Access-Reject", codeNow(key, 30, 1))
		if a, err := s.client().Account(t.Context(), "staff", "nanao"); err != nil || a.Service != verifier.ServiceLocked {
			t.Errorf("account %+v, %v", a, err)
		}
	})

	t.Run("MS-CHAPv2: accept with keys, replay, wrong", func(t *testing.T) {
		key := employee(t, s.client(), "yae")
		ms := func(code string) string {
			return radclientOutput(t, s.radius, secret, "auth", append(msCHAPv2(t, "yae", code), "User-Name=yae", signed)...)
		}
		if out := ms(wrongCode(key)); !strings.Contains(out, "Received Access-Reject") || !strings.Contains(out, "E=691 R=0") {
			t.Errorf("a wrong code:\n%s", out)
		}
		out := ms(codeNow(key, 30, 0))
		for _, want := range []string{"Received Access-Accept", "MS-CHAP2-Success = ", "MS-MPPE-Send-Key = ", "MS-MPPE-Recv-Key = "} {
			if !strings.Contains(out, want) {
				t.Errorf("the right code: no %q in\n%s", want, out)
			}
		}
		if out := ms(codeNow(key, 30, 0)); !strings.Contains(out, "Received Access-Reject") {
			t.Errorf("the code once more:\n%s", out)
		}
	})

	t.Run("a burst of methods counts once", func(t *testing.T) {
		key := employee(t, s.client(), "kuro")
		wrong := wrongCode(key)
		try("Access-Reject", "kuro", wrong)
		for _, proof := range [][]string{msCHAPv2(t, "kuro", wrong), {"CHAP-Password=" + wrong}} {
			// Of one place: login has no Calling-Station-Id either.
			if got := radclient(t, s.radius, secret, "auth", append(proof, "User-Name=kuro", signed)...); got != "Access-Reject" {
				t.Errorf("%s, want Access-Reject", got)
			}
		}
		a, err := s.client().Account(t.Context(), "staff", "kuro")
		if err != nil || a.Failures != 1 {
			t.Errorf("%d failures, %v; want 1", a.Failures, err)
		}
		try("Access-Accept", "kuro", codeNow(key, 30, 0))
	})

	t.Run("status", func(t *testing.T) {
		if got := radclient(t, s.radius, secret, "status", signed); got != "Access-Accept" {
			t.Errorf("Status-Server: %s", got)
		}
	})

	t.Run("without Message-Authenticator", func(t *testing.T) {
		key := employee(t, s.client(), "saburo")
		unsigned := []string{"User-Name=saburo", "User-Password=" + codeNow(key, 30, 0)}
		if got := radclient(t, s.radius, secret, "auth", unsigned...); got != "none" {
			t.Errorf("where it is required: %s, want no answer", got)
		}
		unsigned = append(unsigned, "Packet-Src-IP-Address=127.0.0.2")
		if got := radclient(t, s.radius, legacySecret, "auth", append(unsigned, "Proxy-State=0x01")...); got != "none" {
			t.Errorf("where it is not, but proxied: %s, want no answer", got)
		}
		if got := radclient(t, s.radius, legacySecret, "auth", unsigned...); got != "Access-Accept" {
			t.Errorf("where it is not: %s, want Access-Accept", got)
		}
	})

	t.Run("wrong secret", func(t *testing.T) {
		key := employee(t, s.client(), "shiro")
		if got := radclient(t, s.radius, labSecret, "auth", login("shiro", codeNow(key, 30, 0))...); got != "none" {
			t.Errorf("%s, want no answer", got)
		}
		if a, err := s.client().Account(t.Context(), "staff", "shiro"); err != nil || len(a.Tries) > 0 && a.Tries[len(a.Tries)-1].Event == "verify" {
			t.Errorf("a packet with a wrong secret came to the gate: %+v, %v", a.Tries, err)
		}
		try("Access-Accept", "shiro", codeNow(key, 30, 0))
	})

	t.Run("longest prefix", func(t *testing.T) {
		key := employee(t, s.client(), "goro")
		attributes := login("goro", codeNow(key, 30, 0))
		// 127.0.0.3 belongs to lab, whose realm has no goro.
		if got := radclient(t, s.radius, labSecret, "auth", append(attributes, "Packet-Src-IP-Address=127.0.0.3")...); got != "Access-Reject" {
			t.Errorf("from the laboratory: %s, want Access-Reject", got)
		}
		try("Access-Accept", "goro", codeNow(key, 30, 0))
	})

	t.Run("the same datagram twice", func(t *testing.T) {
		key := employee(t, s.client(), "rokuro")
		wire := newDoublingWire(t, s.radius)
		if got := radclient(t, wire.address, secret, "auth", login("rokuro", codeNow(key, 30, 0))...); got != "Access-Accept" {
			t.Errorf("%s, want Access-Accept", got)
		}
		first, second := wire.replies()
		if len(first) == 0 || !bytes.Equal(first, second) || first[0] != 2 { // 2: Access-Accept
			t.Errorf("two replies: % x and % x; want the same Accept twice", first, second)
		}
		a, err := s.client().Account(t.Context(), "staff", "rokuro")
		if err != nil || len(a.Tries) != 3 { // added, token created, one try
			t.Errorf("%d entries in the log, %v; want one try", len(a.Tries)-2, err)
		}
	})
}

// doublingWire is a path between NAS and gateway on which a request arrives,
// and then once more after it was answered.
type doublingWire struct {
	address string
	got     chan [2][]byte
}

func newDoublingWire(t *testing.T, gateway string) *doublingWire {
	t.Helper()
	nas, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	out, err := net.Dial("udp", gateway)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nas.Close(); out.Close() })
	w := &doublingWire{address: nas.LocalAddr().String(), got: make(chan [2][]byte, 1)}
	go func() {
		b := make([]byte, 4096)
		n, from, err := nas.ReadFrom(b)
		if err != nil {
			return
		}
		var replies [2][]byte
		for i := range replies {
			reply := make([]byte, 4096)
			_ = out.SetReadDeadline(time.Now().Add(2 * time.Second))
			if _, err := out.Write(b[:n]); err != nil {
				break
			}
			m, err := out.Read(reply)
			if err != nil {
				break
			}
			replies[i] = reply[:m]
		}
		_, _ = nas.WriteTo(replies[1], from)
		w.got <- replies
	}()
	return w
}

func (w *doublingWire) replies() (first, second []byte) {
	select {
	case r := <-w.got:
		return r[0], r[1]
	case <-time.After(10 * time.Second):
		return nil, nil
	}
}

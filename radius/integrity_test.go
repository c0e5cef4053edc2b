package radius

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
)

func TestClientWithoutMessageAuthenticator(t *testing.T) {
	request := func() *packet { return newPacket(codec.CodeAccessRequest, 1, "a").user("hanako") }
	t.Run("is answered, with one in the reply", func(t *testing.T) {
		inBubble(t, func(h *harness) {
			h.wantReply(legacy, request().password(rightCode, secret).b, codec.CodeAccessAccept)
		})
	})
	t.Run("a code typed in full width or with a space is no noise", func(t *testing.T) {
		inBubble(t, func(h *harness) {
			h.wantReply(legacy, request().password("123\u3000456", secret).b, codec.CodeAccessAccept)
			h.wantReply(legacy, newPacket(codec.CodeAccessRequest, 2, "b").user("hanako").password("１２３４５６", secret).b, codec.CodeAccessAccept)
		})
	})
	for name, test := range map[string]struct {
		b   []byte
		why reason
	}{
		"may not send Proxy-State":         {request().password(rightCode, secret).add(rfc2865.ProxyState_Type, []byte("x")).b, proxyStateUnprotected},
		"may not send a wrong one":         {request().password(rightCode, secret).signed("guess"), authenticatorWrong},
		"may not send EAP":                 {request().add(rfc2869.EAPMessage_Type, []byte{2, 1, 0, 4}).b, authenticatorMissing},
		"may not ask Status-Server":        {newPacket(codec.CodeStatusServer, 1, "a").b, authenticatorMissing},
		"has another secret":               {request().password(wrongCode, "guess").b, passwordGarbled},
		"has another secret, empty code":   {request().password("", "guess").b, passwordGarbled},
		"has another secret, long code":    {request().password(strings.Repeat("x", 128), "guess").b, passwordGarbled},
		"has to send a password":           {request().b, passwordUnusable},
		"may not send an empty attribute":  {request().add(rfc2865.UserPassword_Type, nil).b, passwordUnusable},
		"may not send 15 octets":           {request().add(rfc2865.UserPassword_Type, make([]byte, 15)).b, passwordUnusable},
		"may not send 144 octets":          {request().add(rfc2865.UserPassword_Type, make([]byte, 144)).b, passwordUnusable},
		"may not send two passwords":       {request().password(rightCode, secret).password(rightCode, secret).b, passwordUnusable},
		"sends a password that is no text": {request().password("123456\x00x", secret).b, passwordGarbled},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(h *harness) {
				h.wantDrop(legacy, test.b, "legacy", test.why)
				h.wantCalls(0)
			})
		})
	}
}

// What anybody can forge takes nothing from the client: neither its rate nor what
// is remembered of its packets.
func TestForgeriesUseNothingUp(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.Clients.lookup(legacy.Addr()).limit = newClientLimit(1)
		forged := func(i int) *packet { return newPacket(codec.CodeAccessRequest, byte(i), fmt.Sprint(i)).user("hanako") }
		for i := range 50 {
			h.wantDrop(legacy, forged(i).b, "legacy", passwordUnusable)
			h.wantDrop(legacy, forged(i).add(rfc2865.UserPassword_Type, make([]byte, 17)).b, "legacy", passwordUnusable)
		}
		if n, m := len(h.cache.entries), len(h.cache.evaluated.known); n != 0 || m != 0 {
			t.Errorf("%d entries in the cache and %d packets remembered, want none", n, m)
		}
		h.wantReply(legacy, newPacket(codec.CodeAccessRequest, 1, "real").user("hanako").password(rightCode, secret).b, codec.CodeAccessAccept)
	})
}

// With a right Message-Authenticator the secret is the same, and an odd
// password is what somebody typed.
func TestOddPasswordWithMessageAuthenticatorCounts(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.wantReply(vpn, login(1, "a", "\xff\xfe123456"), codec.CodeAccessReject)
		h.wantReply(vpn, login(2, "b", rightCode+"\x00x"), codec.CodeAccessReject)
		h.wantCalls(2)
	})
}

func TestWrongSecretIsSaidInWords(t *testing.T) {
	for name, send := range map[string]func(*harness){
		"Message-Authenticator": func(h *harness) {
			h.exchange(vpn, newPacket(codec.CodeAccessRequest, 1, "a").user("hanako").password(wrongCode, "guess").signed("guess"))
		},
		"password": func(h *harness) {
			h.exchange(legacy, newPacket(codec.CodeAccessRequest, 1, "a").user("hanako").password(wrongCode, "guess").b)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(h *harness) {
				lines := func() int {
					return strings.Count(h.logs.String(), "the shared secret here and at the client probably differ: put the same one")
				}
				for range 5 {
					send(h)
				}
				if n := lines(); n != 1 {
					t.Errorf("%d log lines, want 1:\n%s", n, h.logs)
				}
				time.Sleep(noticeInterval)
				send(h)
				if n := lines(); n != 2 || !strings.Contains(h.logs.String(), "suppressed=4") {
					t.Errorf("%d log lines, want 2, the second with suppressed=4:\n%s", n, h.logs)
				}
			})
		})
	}
}

// RFC 2865 §7.1: the request, its password and the Response Authenticator.
func TestRFC2865Example(t *testing.T) {
	raw := unhex(t, `01 00 00 38 0f 40 3f 94 73 97 80 57 bd 83 d5 cb 98 f4 22 7a
		01 06 6e 65 6d 6f 02 12 0d be 70 8d 93 d4 13 ce 31 96 e4 3f 78 2a 0a ee
		04 06 c0 a8 01 10 05 06 00 00 00 03`)
	d := &datagram{client: &client{Client: Client{Secret: Secret("xyzzy5461")}}, n: len(raw)}
	d.client.hashes.New = func() any { return newHashes(d.client.Secret) }
	copy(d.buf[:], raw)
	var req request
	if err := req.parse(d); err != nil {
		t.Fatal(err)
	}
	if who, err := (&Server{}).subject(&req); who.user != "nemo" || err != nil {
		t.Errorf("user %q, error %v, want nemo", who.user, err)
	}
	if password, err := req.userPassword(); string(password) != "arctangent" || err != nil {
		t.Errorf("password %q, error %v, want arctangent", password, err)
	}

	reply := unhex(t, `02 00 00 26 86 fe 22 0e 76 24 ba 2a 10 05 f6 bf 9b 55 e0 b2
		06 06 00 00 00 01 0f 06 00 00 00 00 0e 06 c0 a8 01 03`)
	if !codec.IsAuthenticResponse(reply, raw, d.client.Secret) {
		t.Error("the codec that the tests check replies with doesn't know the RFC's")
	}
}

func TestRevealUndoesHiding(t *testing.T) {
	h := newHashes(Secret(secret))
	authenticator := []byte("0123456789abcdef")
	for n := range maxPassword + 1 {
		plain := bytes.Repeat([]byte("x"), n)
		value, err := codec.NewUserPassword(plain, []byte(secret), authenticator)
		if err != nil {
			t.Fatal(err)
		}
		if got := h.reveal(nil, value, authenticator); !bytes.Equal(got, plain) {
			t.Errorf("%d octets: %q", n, got)
		}
	}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

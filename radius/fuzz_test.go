package radius

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"io"
	"log/slog"
	"testing"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
)

// FuzzDatagram sends any datagram, signed or not, to both kinds of client. It
// must not panic, and an Access-Request must not be accepted unless the gate
// accepted.
func FuzzDatagram(f *testing.F) {
	pap := newPacket(codec.CodeAccessRequest, 1, "a").user("hanako").password(rightCode, secret)
	f.Add(login(1, "a", rightCode), true, true)
	f.Add(login(1, "a", wrongCode), true, false)
	f.Add(bytes.Clone(pap.b), false, false)
	f.Add(newPacket(codec.CodeStatusServer, 1, "a").add(rfc2865.ProxyState_Type, []byte("x")).signed(secret), true, true)
	f.Add(pap.add(rfc2865.VendorSpecific_Type, vsa(25, 0)).add(rfc2869.EAPMessage_Type, nil).signed(secret), true, true)
	f.Add([]byte{1, 1, 0, 20}, false, true)
	hanako := func() *packet { return newPacket(codec.CodeAccessRequest, 1, "a").user("hanako") }
	f.Add(hanako().chap(rightCode, nil).signed(secret), true, true)
	f.Add(hanako().chap(wrongCode, []byte("12345")).signed(secret), true, true)
	f.Add(hanako().chap(rightCode, nil).b, false, false)
	f.Add(hanako().msCHAPv2("hanako", rightCode).signed(secret), true, true)
	f.Add(hanako().msCHAPv2("hanako", wrongCode).signed(secret), true, false)

	f.Fuzz(func(t *testing.T, b []byte, sign, required bool) {
		gate, conn := newFakeGate(), newMemConn()
		s := newServer(t, gate, &logBuffer{})
		s.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
		s.prepare()
		defer s.cancel()
		from := legacy
		if required {
			from = vpn
		}
		d := &datagram{via: &socket{conn}, from: from, client: s.Clients.lookup(from.Addr()), at: s.Now()}
		if sign {
			b = resign(b)
		}
		d.n = copy(d.buf[:], b)
		s.handle(new(request), d)

		if s.droppedFor(internalError) != 0 {
			t.Fatal("a panic")
		}
		replies := conn.take()
		accepted := gate.calls() == 1 && gate.attempts[0].Match(rightCode)
		switch {
		case len(replies) == 0 && gate.calls() == 0:
		case len(replies) != 1:
			t.Fatalf("%d replies, gate asked %d times", len(replies), gate.calls())
		case b[0] == byte(codec.CodeStatusServer):
			checkReply(t, replies[0].b, b, codec.CodeAccessAccept)
		case accepted:
			checkReply(t, replies[0].b, b, codec.CodeAccessAccept)
		default:
			checkReply(t, replies[0].b, b, codec.CodeAccessReject)
		}
	})
}

func (s *Server) droppedFor(why reason) (n float64) {
	for _, client := range []string{"vpn", "legacy"} {
		h := harness{Server: s}
		n += h.drops(client, why)
	}
	return n
}

// resign makes the first Message-Authenticator of 16 octets in b right.
func resign(b []byte) []byte {
	b = bytes.Clone(b)
	raw, err := cut(b)
	if err != nil {
		return b
	}
	for i := headerLength; i+18 <= len(raw) && raw[i+1] >= 2; i += int(raw[i+1]) {
		if raw[i] == byte(rfc2869.MessageAuthenticator_Type) && raw[i+1] == 18 {
			clear(raw[i+2 : i+18])
			mac := hmac.New(md5.New, []byte(secret))
			mac.Write(raw)
			copy(raw[i+2:], mac.Sum(nil))
			break
		}
	}
	return b
}

// FuzzParse holds parse against the codec's own.
func FuzzParse(f *testing.F) {
	f.Add(login(1, "a", rightCode))
	f.Add([]byte{1, 1, 0, 22, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		d := &datagram{client: &client{}}
		d.n = copy(d.buf[:], b)
		var req request
		err := req.parse(d)
		want, wantErr := codec.Parse(d.buf[:d.n], nil)
		if wantErr == nil && len(want.Attributes) > maxAttributes {
			wantErr = malformed
		}
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("parse: %v, the codec: %v", err, wantErr)
		}
		if err != nil {
			return
		}
		got := req.packet
		if got.Code != want.Code || got.Identifier != want.Identifier || got.Authenticator != want.Authenticator || len(got.Attributes) != len(want.Attributes) {
			t.Fatalf("parse: %v, the codec: %v", got, want)
		}
		for i, avp := range got.Attributes {
			if avp.Type != want.Attributes[i].Type || !bytes.Equal(avp.Attribute, want.Attributes[i].Attribute) {
				t.Errorf("attribute %d: %v, the codec: %v", i, avp, want.Attributes[i])
			}
		}
	})
}

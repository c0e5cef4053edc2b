package radius

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc6911"
)

type fakeAccounts struct {
	kept []Account
	fail error
}

func (f *fakeAccounts) Account(_ context.Context, a Account) error {
	if f.fail == nil {
		f.kept = append(f.kept, a)
	}
	return f.fail
}

// withAccounting is a bubble in which vpn has accounting.
func withAccounting(t *testing.T, f func(*harness, *fakeAccounts)) {
	t.Helper()
	inBubble(t, func(h *harness) {
		log := &fakeAccounts{}
		h.AccountLog = log
		h.Clients.lookup(vpn.Addr()).Accounting = true
		f(h, log)
	})
}

func (p *packet) number(t codec.Type, n uint32) *packet {
	return p.add(t, binary.BigEndian.AppendUint32(nil, n))
}

// accounting sets the Request Authenticator, by RFC 2866 §3.
func (p *packet) accounting(secret string) []byte {
	clear(p.b[4:20])
	sum := md5.Sum(append(bytes.Clone(p.b), secret...))
	copy(p.b[4:20], sum[:])
	return p.b
}

func session(id byte, status rfc2866.AcctStatusType) *packet {
	return newPacket(codec.CodeAccountingRequest, id, "").user("hanako").
		number(rfc2866.AcctStatusType_Type, uint32(status)).add(rfc2866.AcctSessionID_Type, []byte("0000001A"))
}

// wantAccounted sends b and checks the answer by the codec's own arithmetic.
func (h *harness) wantAccounted(from netip.AddrPort, b []byte) []byte {
	h.t.Helper()
	replies := h.exchange(from, b)
	if len(replies) != 1 || replies[0].b[0] != byte(codec.CodeAccountingResponse) || replies[0].b[1] != b[1] ||
		!codec.IsAuthenticResponse(replies[0].b, b, []byte(secret)) {
		h.t.Fatalf("%d replies, want one authentic Accounting-Response; log:\n%s", len(replies), h.logs)
	}
	return replies[0].b
}

func TestAccountingIsKeptThenAnswered(t *testing.T) {
	withAccounting(t, func(h *harness, log *fakeAccounts) {
		b := session(1, rfc2866.AcctStatusType_Value_Stop).number(rfc2866.AcctSessionTime_Type, 3600).
			number(rfc2866.AcctDelayTime_Type, 5).add(rfc2865.FramedIPAddress_Type, []byte{10, 0, 0, 7}).
			add(rfc6911.FramedIPv6Address_Type, netip.MustParseAddr("2001:db8::7").AsSlice()).
			number(rfc2866.AcctInputOctets_Type, 7).number(rfc2866.AcctOutputOctets_Type, 9).number(rfc2869.AcctOutputGigawords_Type, 1).
			add(rfc2865.CallingStationID_Type, []byte("203.0.113.7[4500]")).
			add(rfc2865.ProxyState_Type, []byte("one")).add(rfc2865.ProxyState_Type, []byte("two")).accounting(secret)
		reply := h.wantAccounted(vpn, b)
		if want := "\x21\x05one\x21\x05two"; string(reply[headerLength:]) != want {
			t.Errorf("attributes %x, want %x", reply[headerLength:], want)
		}
		if again := h.wantAccounted(vpn, b); !bytes.Equal(again, reply) {
			t.Error("a resend got another answer")
		}
		want := []Account{{
			Time: time.Now(), Status: "stop", Session: "0000001A", User: "hanako", Realm: "staff", Client: "vpn",
			Station: "203.0.113.7", Gear: vpn.Addr(), Seconds: 3600, Delay: 5,
			Address: netip.MustParseAddr("10.0.0.7"), Address6: netip.MustParseAddr("2001:db8::7"), Received: 7, Sent: 1<<32 + 9,
		}}
		if diff := cmp.Diff(want, log.kept, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Error(diff)
		}
		h.wantCalls(0)
		if n := h.Seen().Clients[1].Accounts; n != 2 {
			t.Errorf("%d accounts seen, want 2", n)
		}
		h.wantAccounted(vpn, newPacket(codec.CodeAccountingRequest, 2, "").
			number(rfc2866.AcctStatusType_Type, uint32(rfc2866.AcctStatusType_Value_AccountingOn)).accounting(secret))
		if last := log.kept[len(log.kept)-1]; last.Status != "on" || last.Session != "" {
			t.Errorf("kept %+v", last)
		}
	})
}

// Much accounting keeps nobody from logging in, nor the other way round.
func TestAccountingHasARateOfItsOwn(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.AccountLog = &fakeAccounts{}
		clients, err := NewClients([]Client{{
			Name: "vpn", Prefix: netip.PrefixFrom(vpn.Addr(), 32), Secret: Secret(secret), Realm: "staff", Rate: 1, Accounting: true,
		}})
		if err != nil {
			t.Fatal(err)
		}
		h.Clients = clients
		id := byte(0)
		account := func() []byte {
			id++
			return session(id, rfc2866.AcctStatusType_Value_InterimUpdate).accounting(secret)
		}
		for range accountingPerLogin {
			h.wantAccounted(vpn, account())
		}
		h.wantDrop(vpn, account(), "vpn", clientTooFast)
		h.wantReply(vpn, login(1, "a", rightCode), codec.CodeAccessAccept)
		h.wantDrop(vpn, login(2, "b", rightCode), "vpn", clientTooFast)
		time.Sleep(time.Second)
		h.wantAccounted(vpn, account())
	})
}

func TestAccountingIsNotAnsweredUnlessKept(t *testing.T) {
	withAccounting(t, func(h *harness, log *fakeAccounts) {
		b := session(1, rfc2866.AcctStatusType_Value_Start).accounting(secret)
		log.fail = errors.New("the disk is full")
		h.wantDrop(vpn, b, "vpn", notKept)
		log.fail = nil
		h.wantAccounted(vpn, b) // the gear asks again
		if len(log.kept) != 1 {
			t.Errorf("%d kept, want 1", len(log.kept))
		}
	})
}

func TestAccountingIsDropped(t *testing.T) {
	start := rfc2866.AcctStatusType_Value_Start
	long := strings.Repeat("x", maxSessionID+1)
	for name, test := range map[string]struct {
		from netip.AddrPort
		b    []byte
		why  reason
	}{
		"where it isn't wanted": {legacy, session(1, start).accounting(secret), accountingOff},
		"of another secret":     {vpn, session(1, start).accounting("guess"), accountingWrong},
		"altered":               {vpn, append(session(1, start).accounting(secret)[:20], session(2, start).b[20:]...), ""},
		"without status":        {vpn, newPacket(codec.CodeAccountingRequest, 1, "").add(rfc2866.AcctSessionID_Type, []byte("1")).accounting(secret), accountingMalformed},
		"with a short status":   {vpn, newPacket(codec.CodeAccountingRequest, 1, "").add(rfc2866.AcctStatusType_Type, []byte{1}).add(rfc2866.AcctSessionID_Type, []byte("1")).accounting(secret), accountingMalformed},
		"with two statuses":     {vpn, session(1, start).number(rfc2866.AcctStatusType_Type, 2).accounting(secret), accountingMalformed},
		"without session":       {vpn, newPacket(codec.CodeAccountingRequest, 1, "").number(rfc2866.AcctStatusType_Type, 1).accounting(secret), accountingMalformed},
		"with a long session":   {vpn, newPacket(codec.CodeAccountingRequest, 1, "").number(rfc2866.AcctStatusType_Type, 1).add(rfc2866.AcctSessionID_Type, []byte(long)).accounting(secret), accountingMalformed},
		"with a line in it":     {vpn, newPacket(codec.CodeAccountingRequest, 1, "").number(rfc2866.AcctStatusType_Type, 1).add(rfc2866.AcctSessionID_Type, []byte("1\n2")).accounting(secret), accountingMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			withAccounting(t, func(h *harness, log *fakeAccounts) {
				if test.why == "" { // one octet of the signed text
					test.b[len(test.b)-1] ^= 1
					test.why = accountingWrong
				}
				client := "vpn"
				if test.from == legacy {
					client = "legacy"
				}
				h.wantDrop(test.from, test.b, client, test.why)
				if len(log.kept) != 0 {
					t.Errorf("kept %+v", log.kept)
				}
			})
		})
	}
}

// FuzzAccounting sends any attributes, rightly signed. What is kept is bounded
// and can be printed; what isn't kept isn't answered.
func FuzzAccounting(f *testing.F) {
	f.Add(session(1, rfc2866.AcctStatusType_Value_Start).b[headerLength:])
	f.Add(session(1, 99).number(rfc2866.AcctSessionTime_Type, 1).add(rfc2865.ProxyState_Type, []byte{0}).b[headerLength:])
	f.Add([]byte{40, 3, 1, 44, 2})
	f.Fuzz(func(t *testing.T, attributes []byte) {
		if len(attributes) > codec.MaxPacketLength-headerLength {
			return
		}
		conn, log := newMemConn(), &fakeAccounts{}
		s := newServer(t, &fakeGate{}, &logBuffer{})
		s.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
		s.AccountLog = log
		s.prepare()
		defer s.cancel()
		c := s.Clients.lookup(vpn.Addr())
		c.Accounting = true
		p := newPacket(codec.CodeAccountingRequest, 1, "")
		p.b = append(p.b, attributes...)
		binary.BigEndian.PutUint16(p.b[2:], uint16(len(p.b)))
		d := &datagram{via: &socket{conn}, from: vpn, client: c, at: s.Now()}
		d.n = copy(d.buf[:], p.accounting(secret))
		s.handle(new(request), d)
		if s.droppedFor(internalError) != 0 {
			t.Fatal("a panic")
		}
		if replies := conn.take(); len(replies) != len(log.kept) {
			t.Fatalf("%d replies, %d kept", len(replies), len(log.kept))
		}
		for _, a := range log.kept {
			if len(a.Session) > maxSessionID || len(a.User) > 253 || len(a.Station) > maxStation || !isText([]byte(a.Session+a.User+a.Station+a.Status)) {
				t.Fatalf("kept %+v", a)
			}
		}
	})
}

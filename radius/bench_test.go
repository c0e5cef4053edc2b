package radius

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"testing"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"otpgate/radius/mschap"
	"otpgate/verifier"
)

// nullConn is a socket that swallows replies.
type nullConn struct{ memConn }

func (*nullConn) WriteToUDPAddrPort(b []byte, _ netip.AddrPort) (int, error) { return len(b), nil }

// BenchmarkHandle is a worker's share of one log-in, as a VPN asks for it: all
// but the socket and the gate's disk.
func BenchmarkHandle(b *testing.B) {
	for name, show := range map[string]func(p *packet, user string) *packet{
		"PAP":       func(p *packet, _ string) *packet { return p.password(rightCode, secret) },
		"CHAP":      func(p *packet, _ string) *packet { return p.chap(rightCode, make([]byte, 16)) },
		"MS-CHAPv2": func(p *packet, user string) *packet { return p.msCHAPv2(user, rightCode) },
	} {
		b.Run(name, func(b *testing.B) { benchmarkHandle(b, show) })
	}
}

func benchmarkHandle(b *testing.B, show func(p *packet, user string) *packet) {
	s := newServer(b, acceptingGate{}, &logBuffer{})
	s.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	s.prepare()
	defer s.cancel()
	packets := make([][]byte, 4096)
	for i := range packets {
		user := fmt.Sprint("user", i)
		packets[i] = show(newPacket(codec.CodeAccessRequest, 1, user).user(user), user).
			add(rfc2865.NASIPAddress_Type, []byte{192, 0, 2, 10}).
			add(rfc2865.NASPort_Type, []byte{0, 0, 0, 1}).
			add(rfc2865.NASIdentifier_Type, []byte("vpn.example.com")).
			add(rfc2865.CallingStationID_Type, []byte("203.0.113.7")).
			signed(secret)
	}
	d := &datagram{via: &socket{&nullConn{}}, client: s.Clients.lookup(vpn.Addr())}
	var req request
	var ip [4]byte
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%len(packets) == 0 {
			s.cache.evaluated = newMemory()                      // or they would be replays
			s.users = newUserLimits(s.Now, userBurst, userEvery) // or too many
		}
		binary.BigEndian.PutUint32(ip[:], uint32(i)) // another exchange each time
		d.from, d.at, d.n = netip.AddrPortFrom(netip.AddrFrom4(ip), 50000), s.Now(), copy(d.buf[:], packets[i%len(packets)])
		s.handle(&req, d)
	}
	if n := s.droppedFor(replayed) + s.droppedFor(userTooFast) + s.droppedFor(internalError); n != 0 {
		b.Errorf("%v were dropped", n)
	}
}

// BenchmarkMatch is what one candidate code costs the gate, by method. A wrong
// code for a token that was never used has some 750 of them.
func BenchmarkMatch(b *testing.B) {
	pap := verifier.Typed(wrongCode)
	response := mschap.NewResponse([mschap.ChallengeLength]byte{}, [mschap.ChallengeLength]byte{}, "", [mschap.NTResponseLength]byte{})
	for name, match := range map[string]verifier.Match{"PAP": pap, "CHAP": (&chap{challenge: make([]byte, 16)}).match, "MS-CHAPv2": response.Match} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				match(rightCode)
			}
		})
	}
}

// acceptingGate compares, and keeps nothing.
type acceptingGate struct{ Gate }

func (acceptingGate) Verify(_ context.Context, a verifier.Attempt) (verifier.Result, error) {
	if a.Match(rightCode) {
		return verifier.Result{Outcome: verifier.Accepted}, nil
	}
	return verifier.Result{Outcome: verifier.Wrong}, nil
}

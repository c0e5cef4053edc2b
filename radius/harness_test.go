package radius

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	codec "layeh.com/radius"
	"layeh.com/radius/rfc2759"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"

	"otpgate/verifier"
)

const (
	rightCode = "123456"
	wrongCode = "654321"
	farCode   = "777777" // of a clock that is far off
	secret    = "correct horse battery"
)

var (
	vpn    = netip.MustParseAddrPort("192.0.2.10:50000")     // Message-Authenticator required
	legacy = netip.MustParseAddrPort("198.51.100.20:50000")  // not required
	nobody = netip.MustParseAddrPort("203.0.113.99:50000")   // no client
	vpnV6  = netip.MustParseAddrPort("[2001:db8::10]:50000") // the same rules as vpn
)

func testClients(t testing.TB) *Clients {
	t.Helper()
	clients, err := NewClients([]Client{
		{Name: "vpn", Prefix: netip.MustParsePrefix("192.0.2.0/24"), Secret: Secret(secret), Realm: "staff", RequireMessageAuthenticator: true},
		{Name: "vpn6", Prefix: netip.MustParsePrefix("2001:db8::/32"), Secret: Secret(secret), Realm: "staff", RequireMessageAuthenticator: true},
		{Name: "legacy", Prefix: netip.MustParsePrefix("198.51.100.0/24"), Secret: Secret(secret), Realm: "staff"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return clients
}

// fakeGate accepts rightCode, unless verify says otherwise.
type fakeGate struct {
	verify func(context.Context, verifier.Attempt) (verifier.Result, error)
	// What it knows of everybody.
	moved  bool // the user has had a token in service: nobody vouches any more
	digits int
	pin    string // "": yet to be chosen

	mu       sync.Mutex
	attempts []verifier.Attempt
	noted    []verifier.Attempt
	noteErr  error
	checked  []string // PINs
	chosen   []string // PINs
}

func (g *fakeGate) MayBeVouchedFor(context.Context, string, string) (bool, error) {
	return !g.moved, nil
}

func (g *fakeGate) NoteFirstFactor(_ context.Context, a verifier.Attempt) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.noted = append(g.noted, a)
	return g.noteErr
}

func (g *fakeGate) CodeDigits(context.Context, string, string) (int, error) { return g.digits, nil }

func (g *fakeGate) CheckPIN(_ context.Context, _, _, pin string) (verifier.FirstFactor, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.checked = append(g.checked, pin)
	given := verifier.FirstFactor{Kind: verifier.FactorPIN, Verdict: verifier.FactorWrong}
	switch g.pin {
	case "":
		given.Verdict = verifier.FactorUnset
	case pin:
		given.Verdict, given.PIN = verifier.FactorRight, rightMark
	}
	return given, nil
}

func (g *fakeGate) ChoosePIN(_ context.Context, _ verifier.Attempt, ticket verifier.PINTicket, pin string) (verifier.Result, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.chosen = append(g.chosen, pin)
	if err := verifier.AllowedPIN(pin); err != nil {
		return verifier.Result{}, err
	}
	if ticket != rightTicket || g.pin != "" {
		return verifier.Result{Outcome: verifier.WrongFirstFactor}, nil
	}
	g.pin = pin
	return verifier.Result{Outcome: verifier.Accepted}, nil
}

func (g *fakeGate) Verify(ctx context.Context, a verifier.Attempt) (verifier.Result, error) {
	g.mu.Lock()
	g.attempts = append(g.attempts, a)
	g.mu.Unlock()
	if g.verify != nil {
		return g.verify(ctx, a)
	}
	switch f := a.FirstFactor; {
	case f.Kind != "" && f.Verdict == verifier.FactorWrong:
		return verifier.Result{Outcome: verifier.WrongFirstFactor}, nil
	case f.Vouches && g.moved:
		return verifier.Result{Outcome: verifier.WrongFirstFactor}, nil
	case f.Verdict == verifier.FactorUnset && a.Match(rightCode):
		return verifier.Result{Outcome: verifier.Accepted, PINWanted: true, PINTicket: rightTicket}, nil
	case f.Vouches, a.Match(rightCode):
		return verifier.Result{Outcome: verifier.Accepted}, nil
	case a.Match(farCode):
		return verifier.Result{Outcome: verifier.NextCode}, nil
	}
	return verifier.Result{Outcome: verifier.Wrong}, nil
}

func (g *fakeGate) calls() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.attempts)
}

func newFakeGate() *fakeGate {
	return &fakeGate{moved: true, digits: len(rightCode), pin: rightPIN}
}

const (
	rightPIN      = "471108159263"
	rightPassword = "Käse大吟醸2026" // digits at its end, and more octets than letters
)

var rightMark = verifier.PINMark{4, 5, 6}

var rightTicket = verifier.PINTicket{1, 2, 3}

// sealer is an AES-GCM under a key of its own.
type sealer struct{ aead cipher.AEAD }

func newSealer(key string) sealer {
	sum := sha256.Sum256([]byte(key))
	block, err := aes.NewCipher(sum[:])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return sealer{aead}
}

func (s sealer) Seal(plaintext []byte) []byte       { return s.aead.Seal(nil, nil, plaintext, nil) }
func (s sealer) Open(sealed []byte) ([]byte, error) { return s.aead.Open(nil, nil, sealed, nil) }

// sent is a datagram on the in-memory network.
type sent struct {
	addr netip.AddrPort
	b    []byte
}

// memConn is an in-memory socket.
type memConn struct {
	in          chan sent
	interrupted chan struct{}
	readErr     error // if set, every read fails
	writeErr    error

	mu     sync.Mutex
	out    []sent
	closed bool
}

func newMemConn() *memConn {
	return &memConn{in: make(chan sent, workers+queueLength+100), interrupted: make(chan struct{})}
}

func (c *memConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	if c.readErr != nil {
		return 0, netip.AddrPort{}, c.readErr
	}
	select {
	case <-c.interrupted:
		return 0, netip.AddrPort{}, os.ErrDeadlineExceeded
	case p := <-c.in:
		return copy(b, p.b), p.addr, nil
	}
}

func (c *memConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	if c.writeErr != nil {
		return 0, c.writeErr
	}
	c.out = append(c.out, sent{to, bytes.Clone(b)})
	return len(b), nil
}

func (c *memConn) SetReadDeadline(time.Time) error { close(c.interrupted); return nil }
func (c *memConn) LocalAddr() net.Addr             { return &net.UDPAddr{Port: 1812} }

func (c *memConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.closed = true
	return nil
}

// take returns what was sent since the last call.
func (c *memConn) take() []sent {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.out
	c.out = nil
	return out
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// harness is a running server on an in-memory socket, in a synctest bubble.
type harness struct {
	*Server
	t    *testing.T
	conn *memConn
	gate *fakeGate
	logs *logBuffer
	sent int // requests, by burstOf
}

// newServer returns a server that doesn't run yet.
func newServer(t testing.TB, gate Gate, logs *logBuffer) *Server {
	return &Server{
		Clients: testClients(t),
		Gate:    gate,
		States:  newSealer("of all nodes"),
		Log:     slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics: NewMetrics(prometheus.NewRegistry()),
		Now:     time.Now,
	}
}

// inBubble runs f on a server, shuts it down, and checks the books: each
// request of a known client was replied to or dropped, and no secret is in the
// log.
func inBubble(t *testing.T, f func(*harness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &harness{t: t, conn: newMemConn(), gate: newFakeGate(), logs: &logBuffer{}}
		h.Server = newServer(t, h.gate, h.logs)
		served := make(chan error, 1)
		go func() { served <- h.Serve(h.conn) }()
		synctest.Wait()
		defer func() { // after a t.Fatal of f too, or all tests would end with the bubble
			if err := h.Shutdown(t.Context()); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			if err := <-served; err != nil {
				t.Errorf("Serve: %v", err)
			}
			h.checkBooks()
		}()
		f(h)
	})
}

func (h *harness) checkBooks() {
	h.t.Helper()
	for _, name := range []string{"vpn", "vpn6", "legacy"} {
		in := sum(h.t, h.Metrics.requests, name)
		if out := sum(h.t, h.Metrics.replies, name) + sum(h.t, h.Metrics.dropped, name); in != out {
			h.t.Errorf("client %s: %v requests, but %v replies and drops", name, in, out)
		}
	}
	for _, s := range []string{secret, rightCode, wrongCode, rightPassword, rightPIN} {
		if strings.Contains(h.logs.String(), s) {
			h.t.Errorf("the log has %q in it", s)
		}
	}
}

// sum adds up the counters of one client.
func sum(t testing.TB, c prometheus.Collector, client string) (total float64) {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.Metric {
			for _, l := range m.Label {
				if l.GetName() == "client" && l.GetValue() == client {
					total += m.Counter.GetValue()
				}
			}
		}
	}
	return total
}

// exchange sends b and returns the replies that come without time passing.
func (h *harness) exchange(from netip.AddrPort, b []byte) []sent {
	h.t.Helper()
	h.conn.in <- sent{from, b}
	synctest.Wait()
	return h.conn.take()
}

// wantReply sends b and returns the one reply, checked by its authenticators.
func (h *harness) wantReply(from netip.AddrPort, b []byte, code codec.Code) []byte {
	h.t.Helper()
	replies := h.exchange(from, b)
	if len(replies) != 1 {
		h.t.Fatalf("%d replies, want one %s; log:\n%s", len(replies), code, h.logs)
	}
	if replies[0].addr != from {
		h.t.Errorf("the reply went to %s, want %s", replies[0].addr, from)
	}
	checkReply(h.t, replies[0].b, b, code)
	return replies[0].b
}

// wantDrop sends b and checks that nothing comes back and why.
func (h *harness) wantDrop(from netip.AddrPort, b []byte, client string, why reason) {
	h.t.Helper()
	before := h.drops(client, why)
	if replies := h.exchange(from, b); len(replies) != 0 {
		h.t.Errorf("a reply with code %d, want none", replies[0].b[0])
	}
	if n := h.drops(client, why) - before; n != 1 {
		h.t.Errorf("dropped for %s: %v, want 1; log:\n%s", why, n, h.logs)
	}
}

func (h *harness) drops(client string, why reason) float64 {
	return testutil.ToFloat64(h.Metrics.dropped.WithLabelValues(client, string(why)))
}

func (h *harness) wantCalls(n int) {
	h.t.Helper()
	if got := h.gate.calls(); got != n {
		h.t.Errorf("the gate was asked %d times, want %d", got, n)
	}
}

// checkReply computes both authenticators of a reply by itself.
func checkReply(t testing.TB, reply, request []byte, code codec.Code) {
	t.Helper()
	switch {
	case len(reply) < 38 || int(binary.BigEndian.Uint16(reply[2:])) != len(reply):
		t.Fatalf("a reply with wrong lengths: %x", reply)
	case codec.Code(reply[0]) != code:
		t.Fatalf("reply is %s, want %s", codec.Code(reply[0]), code)
	case reply[1] != request[1]:
		t.Errorf("reply has identifier %d, want %d", reply[1], request[1])
	case reply[20] != byte(rfc2869.MessageAuthenticator_Type) || reply[21] != 18:
		t.Fatalf("the first attribute isn't a Message-Authenticator: %x", reply[20:])
	}
	if !codec.IsAuthenticResponse(reply, request, []byte(secret)) {
		t.Error("the Response Authenticator is wrong")
	}
	b := bytes.Clone(reply)
	copy(b[4:20], request[4:20])
	clear(b[22:38])
	mac := hmac.New(md5.New, []byte(secret))
	mac.Write(b)
	if !bytes.Equal(mac.Sum(nil), reply[22:38]) {
		t.Error("the Message-Authenticator of the reply is wrong")
	}
}

// packet builds a request, octet by octet.
type packet struct{ b []byte }

// newPacket has an authenticator made from seed.
func newPacket(code codec.Code, id byte, seed string) *packet {
	auth := md5.Sum([]byte(seed))
	return &packet{append([]byte{byte(code), id, 0, headerLength}, auth[:]...)}
}

func (p *packet) add(t codec.Type, value []byte) *packet {
	p.b = append(p.b, byte(t), byte(len(value)+2))
	p.b = append(p.b, value...)
	binary.BigEndian.PutUint16(p.b[2:], uint16(len(p.b)))
	return p
}

func (p *packet) user(name string) *packet { return p.add(rfc2865.UserName_Type, []byte(name)) }

func (p *packet) password(plain, secret string) *packet {
	value, err := codec.NewUserPassword([]byte(plain), []byte(secret), p.b[4:20])
	if err != nil {
		panic(err)
	}
	return p.add(rfc2865.UserPassword_Type, value)
}

// chap adds a response by CHAP, to the challenge if there is one, else to the
// authenticator.
func (p *packet) chap(code string, challenge []byte) *packet {
	const identifier = 7
	to := challenge
	if to == nil {
		to = p.b[4:20]
	} else {
		p.add(rfc2865.CHAPChallenge_Type, challenge)
	}
	response := md5.Sum(append(append([]byte{identifier}, code...), to...))
	return p.add(rfc2865.CHAPPassword_Type, append([]byte{identifier}, response[:]...))
}

// microsoft adds an attribute of Microsoft's.
func (p *packet) microsoft(kind byte, value []byte) *packet {
	return p.add(rfc2865.VendorSpecific_Type, vsa(kind, value...))
}

// msCHAPv2 adds a response by MS-CHAPv2, with challenges made from the
// authenticator.
func (p *packet) msCHAPv2(name, code string) *packet {
	authenticator, peer := md5.Sum(p.b[4:20]), md5.Sum(p.b[5:20])
	return p.msCHAPv2To(authenticator[:], peer[:], name, code)
}

func (p *packet) msCHAPv2To(authenticator, peer []byte, name, code string) *packet {
	nt, err := rfc2759.GenerateNTResponse(authenticator, peer, []byte(name), []byte(code))
	if err != nil {
		panic(err)
	}
	value := append([]byte{msCHAPIdentifier, 0}, peer...)
	value = append(append(value, make([]byte, 8)...), nt...)
	return p.microsoft(msCHAPChallenge, authenticator).microsoft(msCHAP2Response, value)
}

const msCHAPIdentifier = 42

// signed adds the Message-Authenticator, last.
func (p *packet) signed(secret string) []byte {
	p.add(rfc2869.MessageAuthenticator_Type, make([]byte, 16))
	mac := hmac.New(md5.New, []byte(secret))
	mac.Write(p.b)
	copy(p.b[len(p.b)-16:], mac.Sum(nil))
	return p.b
}

// login is a well-formed request as from a NAS with Message-Authenticator.
func login(id byte, seed, code string) []byte {
	return newPacket(codec.CodeAccessRequest, id, seed).user("hanako").password(code, secret).signed(secret)
}

var errGate = errors.New("the disk is gone")

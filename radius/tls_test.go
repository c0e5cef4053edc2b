package radius

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/rfc2869"

	"otpgate/radius/mschap"
	"otpgate/verifier"
)

// authority signs certificates.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, next: 2}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotAfter: a.expiry(),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.key = a.newKey()
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// expiry is later than any clock of a test, and in a synctest bubble too.
func (a *authority) expiry() time.Time { return time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC) }

func (a *authority) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	return key
}

func (a *authority) issue(cn string, names ...string) tls.Certificate {
	a.t.Helper()
	key := a.newKey()
	a.next++
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(a.next), Subject: pkix.Name{CommonName: cn}, DNSNames: names, NotAfter: a.expiry(),
	}, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// memListener hands out in-memory connections.
type memListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newMemListener() *memListener {
	return &memListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error {
	select {
	case <-l.closed:
		return net.ErrClosed
	default:
		close(l.closed)
		return nil
	}
}
func (l *memListener) Addr() net.Addr { return &net.TCPAddr{Port: 2083} }

// fromConn is a connection that comes from an address.
type fromConn struct {
	net.Conn
	from netip.AddrPort
}

func (c fromConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.from) }

// tlsHarness is a running server on an in-memory listener, in a bubble.
type tlsHarness struct {
	*harness
	*memListener
	ca *authority
}

var (
	proxy = netip.MustParseAddrPort("192.0.2.200:40000")
	other = netip.MustParseAddrPort("192.0.2.201:40000")
)

// overTLSInBubble runs f on a server whose TLS client is "proxy", known by the
// CN proxy.example; "named" is known by a DNS name, from the same network.
func overTLSInBubble(t *testing.T, f func(*tlsHarness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t)
		h := &tlsHarness{&harness{t: t, gate: newFakeGate(), logs: &logBuffer{}}, newMemListener(), ca}
		h.Server = newServer(t, h.gate, h.logs)
		clients, err := NewClients([]Client{
			{Name: "vpn", Prefix: netip.MustParsePrefix("192.0.2.0/24"), Secret: Secret(secret), Realm: "staff"},
			{Name: "proxy", Prefix: netip.PrefixFrom(proxy.Addr(), 32), Certificate: &Certificate{SubjectCN: "proxy.example"}, Realm: "staff", RequireMessageAuthenticator: true, Accounting: true},
			{Name: "named", Prefix: netip.MustParsePrefix("192.0.2.0/24"), Certificate: &Certificate{DNSName: "named.example"}, Realm: "staff", RequireMessageAuthenticator: true},
		})
		if err != nil {
			t.Fatal(err)
		}
		h.Clients = clients
		served := make(chan error, 1)
		go func() { served <- h.ServeTLS(h.memListener, ca.issue("server", "radius.example"), ca.roots()) }()
		synctest.Wait()
		defer h.end(served)
		f(h)
	})
}

// end shuts the server down, after a t.Fatal too, or all tests would end with the
// bubble; and checks that nothing is left.
func (h *tlsHarness) end(served <-chan error) {
	if err := h.Shutdown(h.t.Context()); err != nil {
		h.t.Errorf("Shutdown: %v", err)
	}
	if err := <-served; err != nil {
		h.t.Errorf("ServeTLS: %v", err)
	}
	synctest.Wait()
	for _, name := range []string{"proxy", "named"} {
		in := sum(h.t, h.Metrics.requests, name)
		if out := sum(h.t, h.Metrics.replies, name) + sum(h.t, h.Metrics.dropped, name); in != out {
			h.t.Errorf("client %s: %v requests, but %v replies and drops", name, in, out)
		}
		if n := testutil.ToFloat64(h.Metrics.connections.WithLabelValues(name)); n != 0 {
			h.t.Errorf("client %s: %v connections after Shutdown", name, n)
		}
	}
	if n := h.Server.conns.total; n != 0 {
		h.t.Errorf("%d connections counted after Shutdown", n)
	}
}

// connect returns the raw end of a connection.
func (h *tlsHarness) connect(from netip.AddrPort) net.Conn {
	mine, theirs := net.Pipe()
	h.conns <- fromConn{theirs, from}
	return mine
}

// dial connects as a TLS client does; config has at least its certificate.
func (h *tlsHarness) dial(from netip.AddrPort, config *tls.Config) (*tls.Conn, error) {
	config.RootCAs, config.ServerName = h.ca.roots(), "radius.example"
	conn := tls.Client(h.connect(from), config)
	if err := conn.HandshakeContext(context.Background()); err != nil {
		return nil, err
	}
	h.t.Cleanup(func() { _ = conn.NetConn().Close() })
	synctest.Wait() // in TLS 1.3 a client is done before the server
	return conn, nil
}

func (h *tlsHarness) mustDial(from netip.AddrPort, config *tls.Config) *tls.Conn {
	h.t.Helper()
	conn, err := h.dial(from, config)
	if err != nil {
		h.t.Fatalf("%v; log:\n%s", err, h.logs)
	}
	return conn
}

func (h *tlsHarness) as(cn string, names ...string) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{h.ca.issue(cn, names...)}}
}

func send(t testing.TB, conn net.Conn, b []byte) {
	t.Helper()
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
}

// receive reads one packet.
func receive(t testing.TB, conn net.Conn) []byte {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(4 * time.Second))
	b := make([]byte, codec.MaxPacketLength)
	n, err := readPacket(conn, b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// wantClosed checks that the server closes the connection, and writes nothing.
func wantClosed(t testing.TB, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(4 * time.Second))
	n, err := conn.Read(make([]byte, 1))
	if n != 0 || err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%d octets and %v, want a closed connection", n, err)
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("the connection is still open")
	}
}

// radsec is a request with the secret that all have over TLS.
func radsec(id byte, seed, code string) *packet {
	return newPacket(codec.CodeAccessRequest, id, seed).user("user-"+seed).password(code, "radsec")
}

func TestOverTLS(t *testing.T) {
	for name, config := range map[string]*tls.Config{
		"TLS 1.3":                    {},
		"TLS 1.2":                    {MaxVersion: tls.VersionTLS12},
		"TLS 1.2, RADIUS/1.1 wanted": {MaxVersion: tls.VersionTLS12, NextProtos: []string{"radius/1.1", "radius/1.0"}},
		"radius/1.0":                 {NextProtos: []string{"radius/1.0"}},
	} {
		t.Run(name, func(t *testing.T) {
			overTLSInBubble(t, func(h *tlsHarness) {
				config.Certificates = h.as("proxy.example").Certificates
				conn := h.mustDial(proxy, config)
				for id, try := range map[byte]struct {
					request []byte
					want    codec.Code
				}{
					1: {radsec(1, "a", rightCode).signed("radsec"), codec.CodeAccessAccept},
					2: {radsec(2, "b", wrongCode).signed("radsec"), codec.CodeAccessReject},
					// TLS vouches for what a Message-Authenticator would, Proxy-State or not.
					3: {radsec(3, "c", rightCode).add(rfc2865.ProxyState_Type, []byte("p")).b, codec.CodeAccessAccept},
					4: {newPacket(codec.CodeAccessRequest, 4, "d").user("taro").chap(rightCode, nil).b, codec.CodeAccessAccept},
					5: {newPacket(codec.CodeStatusServer, 5, "e").signed("radsec"), codec.CodeAccessAccept},
				} {
					send(t, conn, try.request)
					reply := receive(t, conn)
					if codec.Code(reply[0]) != try.want || reply[1] != id || !codec.IsAuthenticResponse(reply, try.request, []byte("radsec")) {
						t.Errorf("request %d: % x, want %s", id, reply, try.want)
					}
				}
				h.wantCalls(4)
				if got := h.gate.attempts[0]; got.Client != "proxy" || got.Realm != "staff" {
					t.Errorf("the gate was asked for %+v", got)
				}
			})
		})
	}
}

// A slow decision doesn't hold up the ones behind it, and every answer finds
// its request.
func TestManyInFlightOnOneConnection(t *testing.T) {
	overTLSInBubble(t, func(h *tlsHarness) {
		release := make(chan struct{})
		h.gate.verify = func(_ context.Context, a verifier.Attempt) (verifier.Result, error) {
			if a.User == "slow" {
				<-release
			}
			return verifier.Result{Outcome: verifier.Accepted}, nil
		}
		conn := h.mustDial(proxy, h.as("proxy.example"))
		slow := newPacket(codec.CodeAccessRequest, 0, "slow").user("slow").password(rightCode, "radsec").b
		send(t, conn, slow)
		send(t, conn, slow) // a resend while it is under way: no answer of its own
		for id := 1; id <= 100; id++ {
			send(t, conn, newPacket(codec.CodeAccessRequest, byte(id), fmt.Sprint(id)).user(fmt.Sprint("user", id)).password(rightCode, "radsec").b)
		}
		seen := map[byte]bool{}
		for range 100 {
			seen[receive(t, conn)[1]] = true
		}
		if len(seen) != 100 || seen[0] {
			t.Errorf("%d answers to 100 requests; the slow one among them: %v", len(seen), seen[0])
		}
		close(release)
		first := receive(t, conn)
		send(t, conn, slow)
		if again := receive(t, conn); first[1] != 0 || !bytes.Equal(first, again) {
			t.Errorf("% x, and for the same request % x", first, again)
		}
		h.wantCalls(101)
	})
}

// A client that sends and doesn't read is held back; the others aren't.
func TestClientThatDoesNotRead(t *testing.T) {
	overTLSInBubble(t, func(h *tlsHarness) {
		deaf := h.mustDial(proxy, h.as("proxy.example"))
		go func() {
			for i := range 10 * maxInFlight {
				if _, err := deaf.Write(radsec(byte(i), fmt.Sprint("deaf", i), wrongCode).b); err != nil {
					return
				}
			}
		}()
		synctest.Wait()
		if n := h.gate.calls(); n > maxInFlight+1 {
			t.Errorf("%d requests were taken from it, want at most %d", n, maxInFlight)
		}
		good := h.mustDial(other, h.as("x", "named.example"))
		send(t, good, radsec(1, "a", rightCode).b)
		if reply := receive(t, good); codec.Code(reply[0]) != codec.CodeAccessAccept {
			t.Errorf("the other client: % x", reply)
		}
		time.Sleep(writeLimit + time.Second)
		if n := testutil.ToFloat64(h.Metrics.connections.WithLabelValues("proxy")); n != 0 {
			t.Errorf("it still has %v connections", n)
		}
	})
}

func TestBadPacketClosesTheConnection(t *testing.T) {
	for name, try := range map[string]struct {
		b   []byte
		why reason
	}{
		"length below 20":             {[]byte{1, 1, 0, 19}, malformed},
		"length above 4096":           {[]byte{1, 1, 0x10, 1}, malformed},
		"attribute leads out":         {newPacket(codec.CodeAccessRequest, 1, "a").add(1, nil).b[:22:22], malformed},
		"wrong Message-Authenticator": {radsec(1, "a", rightCode).signed("another secret"), authenticatorWrong},
		"wrong Request Authenticator": {session(1, rfc2866.AcctStatusType_Value_Start).accounting("another secret"), accountingWrong},
	} {
		t.Run(name, func(t *testing.T) {
			overTLSInBubble(t, func(h *tlsHarness) {
				if name == "attribute leads out" {
					try.b[21] = 7
				}
				conn := h.mustDial(proxy, h.as("proxy.example"))
				send(t, conn, try.b)
				wantClosed(t, conn)
				h.wantCalls(0)
				if n := h.drops("proxy", try.why); n != 1 {
					t.Errorf("dropped for %s: %v", try.why, n)
				}
			})
		})
	}
}

// What one person can have put into a packet doesn't end the connection that a
// proxy uses for all of them.
func TestTooManyAttributesCostOnePacket(t *testing.T) {
	overTLSInBubble(t, func(h *tlsHarness) {
		conn := h.mustDial(proxy, h.as("proxy.example"))
		many := radsec(1, "a", rightCode)
		for range maxAttributes {
			many.add(rfc2865.ReplyMessage_Type, []byte("x"))
		}
		send(t, conn, many.b)
		send(t, conn, radsec(2, "b", rightCode).b)
		if reply := receive(t, conn); reply[1] != 2 {
			t.Errorf("an answer to request %d", reply[1])
		}
		synctest.Wait()
		if n := h.drops("proxy", tooManyAttributes); n != 1 {
			t.Errorf("dropped for too many attributes: %v, want 1", n)
		}
	})
}

func TestPasswordOfAnotherSecretIsNotAWrongCode(t *testing.T) {
	overTLSInBubble(t, func(h *tlsHarness) {
		conn := h.mustDial(proxy, h.as("proxy.example"))
		send(t, conn, newPacket(codec.CodeAccessRequest, 1, "a").user("hanako").password(rightCode, secret).b)
		send(t, conn, newPacket(codec.CodeStatusServer, 2, "b").signed("radsec"))
		if reply := receive(t, conn); reply[1] != 2 {
			t.Errorf("it was answered: % x", reply)
		}
		h.wantCalls(0)
	})
}

func TestTimeLimitsOfConnections(t *testing.T) {
	overTLSInBubble(t, func(h *tlsHarness) {
		mute := h.connect(proxy) // never begins its handshake
		time.Sleep(handshakeLimit + time.Second)
		wantClosed(t, mute)

		slow := h.mustDial(proxy, h.as("proxy.example"))
		send(t, slow, radsec(1, "a", rightCode).b[:10])
		idle := h.mustDial(proxy, h.as("proxy.example"))
		time.Sleep(packetLimit + time.Second)
		wantClosed(t, slow)
		send(t, idle, radsec(1, "a", rightCode).b)
		if reply := receive(t, idle); codec.Code(reply[0]) != codec.CodeAccessAccept {
			t.Errorf("% x", reply)
		}
		time.Sleep(idleLimit + time.Second)
		wantClosed(t, idle)
	})
}

func TestLimitsOfConnections(t *testing.T) {
	overTLSInBubble(t, func(h *tlsHarness) {
		for range maxHandshakesFrom {
			h.connect(proxy)
		}
		wantClosed(t, h.connect(proxy))
		conn := h.mustDial(other, h.as("x", "named.example")) // from elsewhere one can
		for range maxConnectionsOf - 1 {
			h.mustDial(other, h.as("x", "named.example"))
		}
		wantClosed(t, h.mustDial(other, h.as("x", "named.example")))
		send(t, conn, radsec(1, "a", rightCode).b) // those that are open go on
		if reply := receive(t, conn); codec.Code(reply[0]) != codec.CodeAccessAccept {
			t.Errorf("% x", reply)
		}
		for _, why := range []rejection{tooManyHandshakes, tooManyConnections} {
			if n := testutil.ToFloat64(h.Metrics.refused.WithLabelValues(string(why))); n != 1 {
				t.Errorf("refused for %s: %v, want 1", why, n)
			}
		}
	})
}

func TestWhoMayConnect(t *testing.T) {
	stranger := newAuthority(t)
	for name, try := range map[string]struct {
		from   netip.AddrPort
		config func(h *tlsHarness) *tls.Config
		why    rejection // "" if it may
		logged string
	}{
		"by CN":                    {proxy, func(h *tlsHarness) *tls.Config { return h.as("proxy.example") }, "", ""},
		"by DNS name, in any case": {other, func(h *tlsHarness) *tls.Config { return h.as("x", "y.example", "Named.Example") }, "", ""},
		"a DNS name is no CN":      {other, func(h *tlsHarness) *tls.Config { return h.as("named.example") }, certificateUnknown, "subject_cn=named.example"},
		"a CN is no DNS name":      {proxy, func(h *tlsHarness) *tls.Config { return h.as("x", "proxy.example") }, certificateUnknown, "san_dns=[proxy.example]"},
		"unknown certificate":      {proxy, func(h *tlsHarness) *tls.Config { return h.as("evil.example") }, certificateUnknown, "evil.example"},
		"no name at all":           {proxy, func(h *tlsHarness) *tls.Config { return h.as("") }, certificateUnknown, "sha256="},
		"from another address":     {other, func(h *tlsHarness) *tls.Config { return h.as("proxy.example") }, certificateElsewhere, "client proxy"},
		"address of no client":     {nobody, func(h *tlsHarness) *tls.Config { return h.as("proxy.example") }, addressUnknown, "203.0.113.99"},
		"address of a UDP client":  {legacy, func(h *tlsHarness) *tls.Config { return h.as("proxy.example") }, addressUnknown, ""},
		"no certificate":           {proxy, func(*tlsHarness) *tls.Config { return &tls.Config{} }, handshakeFailed, "certificate"},
		"TLS 1.1": {proxy, func(h *tlsHarness) *tls.Config {
			c := h.as("proxy.example")
			c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
			return c
		}, handshakeFailed, ""},
		"another protocol": {proxy, func(h *tlsHarness) *tls.Config { c := h.as("proxy.example"); c.NextProtos = []string{"h2"}; return c }, handshakeFailed, ""},
		"RADIUS/1.1 over TLS 1.2": {proxy, func(h *tlsHarness) *tls.Config {
			c := h.as("proxy.example")
			c.MaxVersion, c.NextProtos = tls.VersionTLS12, []string{"radius/1.1"}
			return c
		}, handshakeFailed, ""},
		"from another authority": {proxy, func(*tlsHarness) *tls.Config {
			return &tls.Config{Certificates: []tls.Certificate{stranger.issue("proxy.example")}}
		}, certificateInvalid, "subject_cn=proxy.example"},
	} {
		t.Run(name, func(t *testing.T) {
			overTLSInBubble(t, func(h *tlsHarness) {
				conn, err := h.dial(try.from, try.config(h))
				if try.why == "" {
					if err != nil {
						t.Fatal(err)
					}
					send(t, conn, radsec(1, "a", rightCode).b)
					receive(t, conn)
					return
				}
				if err == nil { // TLS 1.3: the client is done before the server has seen its certificate
					wantClosedOrAlert(t, conn)
				}
				synctest.Wait()
				if n := testutil.ToFloat64(h.Metrics.refused.WithLabelValues(string(try.why))); n != 1 || !strings.Contains(h.logs.String(), try.logged) {
					t.Errorf("refused for %s: %v, want 1 and a line with %q; log:\n%s", try.why, n, try.logged, h.logs)
				}
				want := []SeenRefused{{Reason: string(try.why), Connections: 1, From: try.from.Addr(), Last: h.Now()}}
				if got := h.Seen().Refused; !slices.Equal(got, want) {
					t.Errorf("the operator sees %+v, want %+v", got, want)
				}
				h.wantCalls(0)
			})
		})
	}
}

func wantClosedOrAlert(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want a refusal", err)
	}
}

func TestShutdownAnswersWhatCameOverTLS(t *testing.T) {
	overTLSInBubble(t, func(h *tlsHarness) {
		release := make(chan struct{})
		h.gate.verify = func(context.Context, verifier.Attempt) (verifier.Result, error) {
			<-release
			return verifier.Result{Outcome: verifier.Accepted}, nil
		}
		conn := h.mustDial(proxy, h.as("proxy.example"))
		h.connect(proxy) // in its handshake
		send(t, conn, radsec(1, "a", rightCode).b)
		synctest.Wait()
		stopped := make(chan error, 1)
		go func() { stopped <- h.Shutdown(h.t.Context()) }()
		synctest.Wait()
		close(release)
		if reply := receive(t, conn); codec.Code(reply[0]) != codec.CodeAccessAccept {
			t.Errorf("% x", reply)
		}
		wantClosed(t, conn)
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
}

func TestShutdownOutOfTimeEndsConnections(t *testing.T) {
	overTLSInBubble(t, func(h *tlsHarness) {
		h.gate.verify = func(ctx context.Context, _ verifier.Attempt) (verifier.Result, error) {
			<-ctx.Done()
			return verifier.Result{}, ctx.Err()
		}
		conn := h.mustDial(proxy, h.as("proxy.example"))
		send(t, conn, radsec(1, "a", rightCode).b)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(h.t.Context(), time.Second)
		defer cancel()
		if err := h.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want that time is up", err)
		}
		wantClosedOrAlert(t, conn)
	})
}

// v11 is a RADIUS/1.1 request, written from RFC 9765 §4.1.
func v11(code codec.Code, token uint32) *packet {
	b := make([]byte, 20)
	b[0] = byte(code)
	b[3] = 20
	binary.BigEndian.PutUint32(b[4:], token)
	return &packet{b}
}

func (h *tlsHarness) dial11() *tls.Conn {
	config := h.as("proxy.example")
	config.NextProtos = []string{"radius/1.1", "radius/1.0"}
	conn := h.mustDial(proxy, config)
	if p := conn.ConnectionState().NegotiatedProtocol; p != "radius/1.1" {
		h.t.Fatalf("negotiated %q", p)
	}
	return conn
}

// ask11 returns the attributes of the reply.
func ask11(t *testing.T, conn net.Conn, request *packet, want codec.Code) codec.Attributes {
	t.Helper()
	send(t, conn, request.b)
	reply := receive(t, conn)
	if codec.Code(reply[0]) != want || reply[1] != 0 || !bytes.Equal(reply[4:8], request.b[4:8]) || !bytes.Equal(reply[8:20], make([]byte, 12)) {
		t.Fatalf("reply % x, want %s with the request's Token", reply, want)
	}
	attributes, err := codec.ParseAttributes(reply[20:])
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := attributes.Lookup(rfc2869.MessageAuthenticator_Type); ok {
		t.Error("a Message-Authenticator, which RADIUS/1.1 doesn't have")
	}
	return attributes
}

func TestRADIUS11(t *testing.T) {
	overTLSInBubble(t, func(h *tlsHarness) {
		h.AccountLog = keepsAll{}
		conn := h.dial11()
		ask := func(token uint32, code string) *packet {
			return v11(codec.CodeAccessRequest, token).user("hanako").add(rfc2865.UserPassword_Type, []byte(code))
		}
		ask11(t, conn, v11(codec.CodeStatusServer, 0), codec.CodeAccessAccept)
		got := ask11(t, conn, ask(0x01020304, rightCode).add(rfc2865.ProxyState_Type, []byte("ps")), codec.CodeAccessAccept)
		if string(got.Get(rfc2865.ProxyState_Type)) != "ps" {
			t.Errorf("attributes %v, want the Proxy-State", got)
		}
		ask11(t, conn, ask(0x01020305, wrongCode), codec.CodeAccessReject)
		// What has no meaning is ignored: Reserved-1, Reserved-2, a Message-Authenticator.
		odd := ask(7, rightCode).add(rfc2869.MessageAuthenticator_Type, make([]byte, 16))
		odd.b[1], odd.b[15] = 9, 9
		ask11(t, conn, odd, codec.CodeAccessAccept)
		h.wantCalls(3)

		// CHAP needs its challenge; MS-CHAPv2's keys are as they are.
		challenge := md5.Sum([]byte("c"))
		ask11(t, conn, v11(codec.CodeAccessRequest, 10).user("taro").chap(rightCode, challenge[:]), codec.CodeAccessAccept)
		ask11(t, conn, v11(codec.CodeAccessRequest, 11).user("taro").chap(rightCode, nil), codec.CodeAccessReject)
		h.wantCalls(4)
		ms := ask11(t, conn, v11(codec.CodeAccessRequest, 12).user("jiro").msCHAPv2To(challenge[:], challenge[:], "jiro", rightCode), codec.CodeAccessAccept)
		keys := 0
		for _, avp := range ms {
			if avp.Type == rfc2865.VendorSpecific_Type && (avp.Attribute[4] == msMPPESendKey || avp.Attribute[4] == msMPPERecvKey) {
				if avp.Attribute[5] != 2+mschap.KeyLength {
					t.Errorf("a key of %d octets", avp.Attribute[5]-2)
				}
				keys++
			}
		}
		if keys != 2 {
			t.Errorf("%d keys, want 2", keys)
		}

		ask11(t, conn, v11(codec.CodeAccountingRequest, 13).add(rfc2866.AcctStatusType_Type, []byte{0, 0, 0, 1}).
			add(rfc2866.AcctSessionID_Type, []byte("s1")), codec.CodeAccountingResponse)
	})
}

type keepsAll struct{}

func (keepsAll) Account(context.Context, Account) error { return nil }

// The Token, within the connection, is all that tells requests apart.
func TestTokensTellRequestsApart(t *testing.T) {
	overTLSInBubble(t, func(h *tlsHarness) {
		ask := func(conn net.Conn, token uint32, code string, want codec.Code, calls int) {
			t.Helper()
			ask11(t, conn, v11(codec.CodeAccessRequest, token).user("hanako").add(rfc2865.UserPassword_Type, []byte(code)), want)
			h.wantCalls(calls)
		}
		one, two := h.dial11(), h.dial11()
		ask(one, 1, wrongCode, codec.CodeAccessReject, 1)
		ask(one, 1, wrongCode, codec.CodeAccessReject, 1)     // a duplicate
		ask(one, 0x101, wrongCode, codec.CodeAccessReject, 2) // all four octets count
		ask(two, 1, wrongCode, codec.CodeAccessReject, 3)     // another connection, another request
		ask(one, 1, rightCode, codec.CodeAccessAccept, 4)     // the Token, used again
		time.Sleep(replyHold)
		ask(one, 1, wrongCode, codec.CodeAccessReject, 5) // long after: no replay
	})
}

// RFC 6613 §2.6.1: what had no answer may come over a new connection. The answer
// was lost with the old one, and the code is used up.
func TestSamePacketOverANewConnection(t *testing.T) {
	overTLSInBubble(t, func(h *tlsHarness) {
		connect := func() net.Conn { return h.mustDial(proxy, h.as("proxy.example")) }
		request := radsec(1, "a", rightCode).b
		first := connect()
		send(t, first, request)
		reply := receive(t, first)
		_ = first.(*tls.Conn).NetConn().Close()
		second := connect()
		send(t, second, request)
		if again := receive(t, second); !bytes.Equal(again, reply) || codec.Code(reply[0]) != codec.CodeAccessAccept {
			t.Errorf("% x, and then % x, want the same Accept", reply, again)
		}
		h.wantCalls(1)

		// Another client has no part in it, though its secret is the same.
		named := h.mustDial(other, h.as("x", "named.example"))
		send(t, named, request)
		receive(t, named)
		h.wantCalls(2)

		// The Identifier, used again on the new connection, doesn't hide it.
		send(t, second, radsec(1, "b", wrongCode).b)
		receive(t, second)
		send(t, second, request)
		if again := receive(t, second); !bytes.Equal(again, reply) {
			t.Errorf("% x, want % x", again, reply)
		}
		h.wantCalls(3)

		time.Sleep(replyHold)
		send(t, second, request) // a replay by now
		synctest.Wait()
		h.wantCalls(3)
		if n := h.drops("proxy", replayed); n != 1 {
			t.Errorf("%v were dropped as replays, want 1", n)
		}
	})
}

func TestSamePacketOverANewConnectionWhileUnderWay(t *testing.T) {
	overTLSInBubble(t, func(h *tlsHarness) {
		release := make(chan struct{})
		h.gate.verify = func(context.Context, verifier.Attempt) (verifier.Result, error) {
			<-release
			return verifier.Result{Outcome: verifier.Accepted}, nil
		}
		request := radsec(1, "a", rightCode).b
		first := h.mustDial(proxy, h.as("proxy.example"))
		send(t, first, request)
		synctest.Wait()
		_ = first.NetConn().Close()
		second := h.mustDial(proxy, h.as("proxy.example"))
		send(t, second, request)
		synctest.Wait()
		if n := h.drops("proxy", duplicate); n != 1 {
			t.Errorf("dropped as a duplicate: %v, want 1", n)
		}
		close(release)
		synctest.Wait()
		send(t, second, request)
		if reply := receive(t, second); codec.Code(reply[0]) != codec.CodeAccessAccept {
			t.Errorf("% x", reply)
		}
		h.wantCalls(1)
	})
}

// RFC 9765 §4.2.2: whoever uses the Token of an outstanding request for another
// one can't be talked with.
func TestTokenOfAnOutstandingRequest(t *testing.T) {
	overTLSInBubble(t, func(h *tlsHarness) {
		release := make(chan struct{})
		h.gate.verify = func(context.Context, verifier.Attempt) (verifier.Result, error) {
			<-release
			return verifier.Result{Outcome: verifier.Accepted}, nil
		}
		conn := h.dial11()
		for _, user := range []string{"hanako", "hanako", "taro"} { // the second is a duplicate
			send(t, conn, v11(codec.CodeAccessRequest, 7).user(user).add(rfc2865.UserPassword_Type, []byte(rightCode)).b)
			synctest.Wait() // or the workers take them in any order
		}
		if n, m := h.drops("proxy", duplicate), h.drops("proxy", tokenReused); n != 1 || m != 1 {
			t.Errorf("%v duplicates and %v reused Tokens, want one each", n, m)
		}
		close(release)
		receive(t, conn) // what was decided is told still
		wantClosed(t, conn)
		h.wantCalls(1)
	})
}

// A request over UDP is none of a TLS client's.
func TestCertifiedClientIsNoUDPClient(t *testing.T) {
	clients, err := NewClients([]Client{{Name: "a", Prefix: netip.MustParsePrefix("0.0.0.0/0"), Certificate: &Certificate{SubjectCN: "a"}}})
	if err != nil {
		t.Fatal(err)
	}
	if c := clients.lookup(vpn.Addr()); c != nil {
		t.Errorf("a packet from %s, signed with \"radsec\", would be taken as that of %q", vpn, c.Name)
	}
}

func TestCertificatesOfClients(t *testing.T) {
	ca := newAuthority(t)
	cert, err := x509.ParseCertificate(ca.issue("a", "b.example").Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	sha := sha256.Sum256(cert.Raw)
	sum := hex.EncodeToString(sha[:])
	all := netip.MustParsePrefix("0.0.0.0/0")
	client := func(name string, c Certificate) Client { return Client{Name: name, Prefix: all, Certificate: &c} }
	list := []Client{
		client("cn", Certificate{SubjectCN: "a"}), client("dns", Certificate{DNSName: "b.example"}), client("sha", Certificate{SHA256: sum}),
	}
	for i, want := range []string{"cn", "dns", "sha"} { // each more to the point than the one before
		clients, err := NewClients(list[:i+1])
		if err != nil {
			t.Fatal(err)
		}
		if c, err := clients.presenting(cert, vpn.Addr()); err != nil || c.Name != want {
			t.Errorf("%+v, %v; want %s", c, err, want)
		}
	}
	for name, bad := range map[string][]Client{
		"nothing":     {client("a", Certificate{})},
		"two things":  {client("a", Certificate{SubjectCN: "a", DNSName: "a"})},
		"upper case":  {client("a", Certificate{DNSName: "A.example"})},
		"short":       {client("a", Certificate{SHA256: "ab"})},
		"not hex":     {client("a", Certificate{SHA256: strings.Repeat("x", 64)})},
		"taken":       {client("a", Certificate{SubjectCN: "a"}), client("b", Certificate{SubjectCN: "a"})},
		"secret, too": {{Name: "a", Prefix: all, Secret: Secret("s"), Certificate: &Certificate{SubjectCN: "a"}}},
	} {
		if _, err := NewClients(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// FuzzReadPacket: whatever comes, the packets are cut where the length fields
// say, however the octets arrive, and nothing is read past a bad one.
func FuzzReadPacket(f *testing.F) {
	two := append(radsec(1, "a", rightCode).b, radsec(2, "b", wrongCode).signed("radsec")...)
	f.Add(two, 1)
	f.Add(two[:30], 7)
	f.Add([]byte{1, 1, 0, 19, 1, 2}, 3)
	f.Add([]byte{1, 1, 0x10, 1}, 4)
	f.Add(append([]byte{1, 1, 0x10, 0}, make([]byte, 4092)...), 1000)
	f.Fuzz(func(t *testing.T, in []byte, chunk int) {
		r := &chunks{rest: in, most: max(1, chunk)}
		b := make([]byte, codec.MaxPacketLength)
		for at := 0; ; {
			n, err := readPacket(r, b)
			if errors.Is(err, malformed) {
				if n != 4 || !bytes.Equal(b[:4], in[at:at+4]) || len(in)-len(r.rest) != at+4 {
					t.Fatalf("%d octets, and read up to %d", n, len(in)-len(r.rest))
				}
				return
			}
			if err != nil {
				if len(r.rest) != 0 || !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Fatalf("%v with %d octets left", err, len(r.rest))
				}
				return
			}
			if got, err := cut(in[at:]); err != nil || !bytes.Equal(got, b[:n]) {
				t.Fatalf("% x, want % x (%v)", b[:n], got, err)
			}
			at += n
		}
	})
}

// chunks is a reader that gives at most so many octets at a time.
type chunks struct {
	rest []byte
	most int
}

func (c *chunks) Read(b []byte) (int, error) {
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), c.most)], c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

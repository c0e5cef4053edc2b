package radius

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	codec "layeh.com/radius"
)

func (h *tlsHarness) refusedFor(why connectionRefusal) float64 {
	return testutil.ToFloat64(h.Metrics.tlsRefused.WithLabelValues(string(why)))
}

// counted is how many connections are counted, how many of them are in their
// handshake, and from how many hosts those come.
func (h *tlsHarness) counted() (total, handshakes, hosts int) {
	c := h.Server.conns
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total, c.handshakes, len(c.from)
}

// Half-open connections from one client's whole network leave room for another's.
func TestOneNetworkKeepsNobodyOut(t *testing.T) {
	overTLSInBubble(t, func(h *tlsHarness) {
		for i := range 2 * maxHandshakes { // "named" has 192.0.2.0/24
			h.connect(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 150)}), uint16(1024+i)))
		}
		synctest.Wait()
		if n := h.refusedFor(tooManyHandshakes); n != 2*maxHandshakes-maxHandshakesOf {
			t.Errorf("%v were refused, want all but %d", n, maxHandshakesOf)
		}
		conn := h.mustDial(proxy, h.as("proxy.example")) // whose network is itself
		send(t, conn, radsec(1, "a", rightCode).b)
		if reply := receive(t, conn); codec.Code(reply[0]) != codec.CodeAccessAccept {
			t.Errorf("% x", reply)
		}
		time.Sleep(handshakeLimit + time.Second)
		synctest.Wait()
		if _, handshakes, hosts := h.counted(); handshakes != 0 || hosts != 0 {
			t.Errorf("%d handshakes of %d hosts go on after the time for them", handshakes, hosts)
		}
	})
}

// Whoever has one address of an IPv6 subnet has all of them.
func TestSubnetIsOneHost(t *testing.T) {
	c := newConnections()
	network := netip.MustParsePrefix("2001:db8::/32")
	begin := func(addr string) error { return c.begin(origin{network, hostOf(netip.MustParseAddr(addr))}) }
	for i := range maxHandshakesFrom {
		if err := begin(fmt.Sprintf("2001:db8:0:1::%x", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := begin("2001:db8:0:1:ffff:ffff:ffff:ffff"); !errors.Is(err, tooManyHandshakes) {
		t.Errorf("the same subnet: %v", err)
	}
	if err := begin("2001:db8:0:2::1"); err != nil {
		t.Errorf("another subnet: %v", err)
	}
	for addr, want := range map[string]string{"192.0.2.1": "192.0.2.1/32", "::ffff:192.0.2.1": "192.0.2.1/32", "2001:db8::1": "2001:db8::/64"} {
		if got := hostOf(netip.MustParseAddr(addr)).String(); got != want {
			t.Errorf("%s counts as %s, want %s", addr, got, want)
		}
	}
}

// faultyConn panics when it is told to, as a fault of ours would.
type faultyConn struct {
	net.Conn
	read, write *atomic.Bool
}

func (c faultyConn) Read(b []byte) (int, error) {
	if c.read.Load() {
		panic("boom while reading")
	}
	return c.Conn.Read(b)
}

func (c faultyConn) Write(b []byte) (int, error) {
	if c.write.Load() {
		panic("boom while writing")
	}
	return c.Conn.Write(b)
}

func TestPanicCostsOneConnection(t *testing.T) {
	for name, try := range map[string]struct {
		at, in string // of the connection's life; Read or Write
	}{
		"reading in the handshake":          {"handshake", "read"},
		"writing in the handshake":          {"handshake", "write"},
		"reading the next request":          {"open", "read"},
		"writing an answer":                 {"open", "write"},
		"writing one, and others under way": {"several", "write"},
	} {
		t.Run(name, func(t *testing.T) {
			overTLSInBubble(t, func(h *tlsHarness) {
				var read, write atomic.Bool
				fault := func() { read.Store(try.in == "read"); write.Store(try.in == "write") }
				mine, theirs := net.Pipe()
				h.conns <- fromConn{faultyConn{theirs, &read, &write}, proxy}
				config := h.as("proxy.example")
				config.RootCAs, config.ServerName = h.ca.roots(), "radius.example"
				conn := tls.Client(mine, config)
				if try.at == "handshake" {
					fault()
				}
				if err := conn.HandshakeContext(h.t.Context()); (err != nil) != (try.at == "handshake") {
					t.Fatal(err)
				}
				synctest.Wait()
				if try.at != "handshake" {
					send(t, conn, radsec(1, "a", rightCode).b)
					receive(t, conn)
					synctest.Wait()
					fault()
					go func() { // until nobody reads
						for i := 2; i == 2 || try.at == "several" && i < 10; i++ {
							if _, err := conn.Write(radsec(byte(i), fmt.Sprint("b", i), wrongCode).b); err != nil {
								return
							}
						}
					}()
				}
				synctest.Wait()
				_ = mine.SetReadDeadline(time.Now().Add(time.Second))
				if _, err := io.Copy(io.Discard, mine); err != nil { // what comes before the end is TLS's
					t.Errorf("%v, want a closed connection", err)
				}
				synctest.Wait()
				if try.in == "read" || try.at == "handshake" {
					if n := h.refusedFor(connectionFault); n != 1 {
						t.Errorf("%v faults are counted, want 1; log:\n%s", n, h.logs)
					}
				}
				if !strings.Contains(h.logs.String(), "panic: boom while ") || !strings.Contains(h.logs.String(), "tlslimits_test.go") {
					t.Errorf("the log doesn't say where:\n%s", h.logs)
				}
				if total, handshakes, _ := h.counted(); total != 0 || handshakes != 0 {
					t.Errorf("%d connections, %d of them in their handshake, are still counted", total, handshakes)
				}
				good := h.mustDial(proxy, h.as("proxy.example"))
				send(t, good, radsec(9, "z", rightCode).b)
				if reply := receive(t, good); codec.Code(reply[0]) != codec.CodeAccessAccept {
					t.Errorf("another connection: % x", reply)
				}
			})
		})
	}
}

// A certificate with the names of two clients is that of the one which may come
// from the address; if both may, nobody can say whose it is.
func TestCertificateOfTwoClients(t *testing.T) {
	overTLSInBubble(t, func(h *tlsHarness) {
		clients, err := NewClients([]Client{
			{Name: "a", Prefix: netip.MustParsePrefix("192.0.2.0/24"), Certificate: &Certificate{DNSName: "a.example"}, Realm: "staff"},
			{Name: "b", Prefix: netip.MustParsePrefix("192.0.2.0/25"), Certificate: &Certificate{DNSName: "b.example"}, Realm: "staff"},
		})
		if err != nil {
			t.Fatal(err)
		}
		h.Clients = clients
		for range 2 { // in whatever order
			for _, names := range [][]string{{"a.example", "b.example"}, {"b.example", "a.example"}} {
				conn := h.mustDial(proxy, h.as("x", names...)) // in 192.0.2.128/25
				send(t, conn, radsec(1, "a", rightCode).b)
				receive(t, conn)
				if got := h.gate.attempts[len(h.gate.attempts)-1].Client; got != "a" {
					t.Errorf("%q: the client %s, want a", names, got)
				}
				before := h.refusedFor(certificateAmbiguous)
				if conn, err := h.dial(netip.MustParseAddrPort("192.0.2.7:1"), h.as("x", names...)); err == nil {
					wantClosedOrAlert(t, conn)
				}
				synctest.Wait()
				if n := h.refusedFor(certificateAmbiguous) - before; n != 1 {
					t.Errorf("%q: refused as ambiguous %v times, want 1; log:\n%s", names, n, h.logs)
				}
			}
		}
		// A name twice is one name.
		h.mustDial(proxy, h.as("x", "a.example", "A.example"))
	})
}

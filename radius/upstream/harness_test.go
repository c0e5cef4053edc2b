package upstream

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
)

const (
	secret  = "a secret of two servers"
	timeout = 2500 * time.Millisecond
)

// received is one datagram that a server got.
type received struct {
	server string
	at     time.Duration // since the network was made
	b      []byte
}

// network carries datagrams in memory, for synctest. A server is a function that
// is called with each, and that may reply whenever it likes.
type network struct {
	start   time.Time
	servers map[string]func(request []byte, reply func([]byte))

	serving sync.WaitGroup
	mu      sync.Mutex
	got     []received
	open    int // connections
}

func newNetwork(t testing.TB) *network {
	n := &network{start: time.Now(), servers: map[string]func([]byte, func([]byte)){}}
	t.Cleanup(func() {
		n.serving.Wait()
		if n.open != 0 {
			t.Errorf("%d sockets are left open", n.open)
		}
	})
	return n
}

func (n *network) dial(_ context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open++
	return &memConn{network: n, server: address, in: make(chan []byte, 512), closed: make(chan struct{})}, nil
}

func (n *network) take() []received {
	n.mu.Lock()
	defer n.mu.Unlock()
	got := n.got
	n.got = nil
	return got
}

// memConn is a connected datagram socket. A server that isn't there refuses, as
// ICMP tells a socket of the kernel's.
type memConn struct {
	net.Conn
	network  *network
	server   string
	in       chan []byte
	deadline time.Time
	once     sync.Once
	closed   chan struct{}
}

func (c *memConn) Write(b []byte) (int, error) {
	b = bytes.Clone(b)
	c.network.mu.Lock()
	c.network.got = append(c.network.got, received{c.server, time.Since(c.network.start), b})
	serve := c.network.servers[c.server]
	c.network.mu.Unlock()
	if serve == nil {
		return 0, syscall.ECONNREFUSED
	}
	c.network.serving.Go(func() { serve(b, func(reply []byte) { c.in <- reply }) })
	return len(b), nil
}

func (c *memConn) Read(b []byte) (int, error) {
	expired := time.NewTimer(time.Until(c.deadline))
	defer expired.Stop()
	select {
	case d := <-c.in:
		return copy(b, d), nil
	case <-expired.C:
		return 0, os.ErrDeadlineExceeded
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

func (c *memConn) SetReadDeadline(t time.Time) error {
	c.deadline = t
	return nil
}

func (c *memConn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		c.network.mu.Lock()
		c.network.open--
		c.network.mu.Unlock()
	})
	return nil
}

var (
	first  = netip.MustParseAddrPort("192.0.2.1:1812")
	second = netip.MustParseAddrPort("192.0.2.2:1812")
	third  = netip.MustParseAddrPort("[2001:db8::3]:1812")
)

func newClient(t testing.TB, n *network, servers ...netip.AddrPort) *Client {
	t.Helper()
	c, err := New(Config{
		Name: "old", Servers: servers, Secret: Secret(secret), Timeout: timeout, RequireMessageAuthenticator: true,
		Dial: n.dial, Now: time.Now, Metrics: NewMetrics(prometheus.NewRegistry()),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *Client) drops(why reason) int {
	return int(testutil.ToFloat64(c.Metrics.dropped.WithLabelValues(c.Name, string(why))))
}

// attribute is one of a packet.
type attribute struct {
	kind  codec.Type
	value string
}

func message(s string) attribute { return attribute{rfc2865.ReplyMessage_Type, s} }
func state(s string) attribute   { return attribute{rfc2865.State_Type, s} }

var unsigned = attribute{rfc2869.MessageAuthenticator_Type, string(make([]byte, 16))}

// respond makes a reply to the request, octet by octet, with its Response
// Authenticator, and signs the first Message-Authenticator that is among the
// attributes.
func respond(code codec.Code, request []byte, secret string, attributes ...attribute) []byte {
	b := append([]byte{byte(code), request[1], 0, 0}, request[4:20]...)
	at := 0
	for _, a := range attributes {
		if a == unsigned && at == 0 {
			at = len(b) + 2
		}
		b = append(append(b, byte(a.kind), byte(len(a.value)+2)), a.value...)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	if at > 0 {
		mac := hmac.New(md5.New, []byte(secret))
		mac.Write(b)
		copy(b[at:], mac.Sum(nil))
	}
	sum := md5.Sum(append(bytes.Clone(b), secret...))
	copy(b[4:20], sum[:])
	return b
}

// signed is a reply as a server sends it.
func signed(code codec.Code, request []byte, attributes ...attribute) []byte {
	return respond(code, request, secret, slices.Insert(attributes, 0, unsigned)...)
}

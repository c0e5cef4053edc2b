package directory

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// What a server may send, in octets. The library reads whatever a length field
// announces, so the wire is cut off instead.
const (
	// maxGreeting is for StartTLS and the handshake, while nobody knows who it
	// is: room for any chain of certificates.
	maxGreeting = 64 << 10
	// maxAnswer is for one request: a thousand groups of 500 octets.
	maxAnswer = 512 << 10
)

var (
	errTooMuch = errors.New("the server sent more than an answer may have")
	errAnswer  = errors.New("the server answered something else than StartTLS")
)

// connection is an LDAP connection inside TLS. One request at a time.
type connection struct {
	*ldap.Conn
	wire *meteredConn
	end  func()
}

// close closes c, whatever is under way. More than once is fine.
func (c *connection) close() { c.end() }

// dial returns a connection to s over which a password may be sent: inside TLS,
// to the server that the configuration names (RFC 4513 §3.1.3).
func (s *server) dial(ctx context.Context) (*connection, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", s.hostPort)
	if err != nil {
		return nil, err
	}
	wire := &meteredConn{Conn: raw}
	wire.allow(maxGreeting)
	stop := context.AfterFunc(ctx, func() { _ = wire.Close() })
	defer stop()

	if s.startTLS {
		if err := startTLS(wire); err != nil {
			_ = wire.Close()
			return nil, err
		}
	}
	encrypted := tls.Client(wire, s.tls)
	if err := encrypted.HandshakeContext(ctx); err != nil {
		_ = wire.Close()
		return nil, fmt.Errorf("no TLS with it; its certificate must be for the configured name and by those who are trusted, and its TLS 1.2 or later: %w", err)
	}
	conn := ldap.NewConn(encrypted, true)
	conn.Start()
	open := s.cfg.Metrics.connections.WithLabelValues(s.cfg.Name, s.address)
	open.Inc()
	return &connection{Conn: conn, wire: wire, end: sync.OnceFunc(func() {
		_ = wire.Close() // first: it ends whatever conn waits for
		_ = conn.Close()
		open.Dec()
	})}, nil
}

// startTLSRequest is an ExtendedRequest with the messageID 1 (RFC 4511 §4.14.1).
const startTLSRequest = "\x30\x1d\x02\x01\x01\x77\x18\x80\x16" + "1.3.6.1.4.1.1466.20037"

// startTLS has the server at the other end of wire speak TLS from now on. It
// reads the answer and nothing behind it: what somebody else put there meets the
// handshake, and not whoever waits for the answer to a bind.
func startTLS(wire io.ReadWriter) error {
	if _, err := io.WriteString(wire, startTLSRequest); err != nil {
		return err
	}
	answer, err := ber.ReadPacket(wire)
	if err != nil {
		return fmt.Errorf("no answer to StartTLS: %w", err)
	}
	if len(answer.Children) < 2 || answer.Children[0].Value != int64(1) || answer.Children[1].Tag != ldap.ApplicationExtendedResponse {
		return errAnswer
	}
	err = ldap.GetLDAPError(answer)
	if answered(err) {
		return fmt.Errorf("%w: it doesn't do StartTLS; give it a certificate, or ask it by ldaps://: %w", errSetup, explained(err))
	}
	return err
}

// meteredConn stops reading when more came than was allowed.
type meteredConn struct {
	net.Conn
	allowed atomic.Int64 // octets
}

// allow lets n more octets in, from now.
func (c *meteredConn) allow(n int64) { c.allowed.Store(n) }

func (c *meteredConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.allowed.Add(-int64(n)) < 0 {
		return 0, errTooMuch
	}
	return n, err
}

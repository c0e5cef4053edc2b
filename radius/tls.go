package radius

import (
	"bufio"
	"crypto/fips140"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	codec "layeh.com/radius"
)

const (
	// handshakeLimit is how long a connection may take until its client is known.
	handshakeLimit = 10 * time.Second
	// maxHandshakes bounds those that aren't yet, and maxHandshakesFrom those
	// of one address: they cost memory and signatures before anybody is known.
	// A proxy that starts opens a few.
	maxHandshakes     = 128
	maxHandshakesFrom = 16
	// maxConnections bounds all, at some 50 KiB each to 50 MiB, and
	// maxConnectionsOf those of one client, so that none keeps the others out.
	maxConnections   = 1024
	maxConnectionsOf = 64
)

// The protocols of RFC 9765 §3, by preference. A client that names none speaks
// RADIUS as ever.
const (
	alpn11 = "radius/1.1"
	alpn10 = "radius/1.0"
)

// rejection is why a connection was refused: the label in
// otpgate_radius_tls_refused_total. As an error it says so in a sentence.
type rejection string

const (
	addressUnknown       rejection = "unknown_address"
	tooManyHandshakes    rejection = "too_many_handshakes"
	tooManyConnections   rejection = "too_many_connections"
	handshakeFailed      rejection = "handshake_failed"
	certificateInvalid   rejection = "certificate_invalid"
	certificateUnknown   rejection = "certificate_unknown"
	certificateElsewhere rejection = "certificate_elsewhere"
	acceptFailed         rejection = "accept_failed"
)

func (r rejection) Error() string {
	switch r {
	case addressUnknown:
		return "no client with a certificate in gateway.yaml has this address"
	case tooManyHandshakes:
		return "too many connections haven't shown who they are yet"
	case tooManyConnections:
		return "too many connections are open, in all or by this client"
	case handshakeFailed:
		return "the TLS handshake failed"
	case certificateInvalid:
		return "its certificate isn't one that radius.tls.ca_file vouches for"
	case certificateUnknown:
		return "no client in gateway.yaml has its certificate: put one of the things it presented under certificate in the client's entry, if it is yours"
	case certificateElsewhere:
		return "its certificate is that of a client with another address"
	case acceptFailed:
		return "it could not be accepted"
	}
	return string(r)
}

// ServeTLS answers what arrives over TLS (RFC 6614) on connections to l, until
// Shutdown; then it returns nil. The server shows certificate, and each client
// must show one that roots vouch for and that a Client names. l is the server's
// from now on. TLS 1.3 or 1.2; RADIUS/1.1 over 1.3 only (RFC 9765 §3.6), which is
// taken if the client offers it.
func (s *Server) ServeTLS(l net.Listener, certificate tls.Certificate, roots *x509.CertPool) error {
	door := listener{l}
	if !s.open(door) {
		return door.close()
	}
	defer s.readers.Done()
	err := s.accept(l, &tls.Config{
		Certificates: []tls.Certificate{certificate},
		ClientCAs:    roots,
		ClientAuth:   tls.RequireAndVerifyClientCert,
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{alpn11, alpn10},
		// Each connection shows its certificate, and negotiates its protocol,
		// anew (RFC 9765 §3.7).
		SessionTicketsDisabled: true,
	})
	if err != nil {
		return errors.Join(fmt.Errorf("radius: accepting at %s: %w", l.Addr(), err), door.close())
	}
	return nil
}

// listener is an endpoint: it is closed at once, what it has accepted isn't.
type listener struct{ net.Listener }

func (l listener) interrupt() { _ = l.Close() } // accept sees it

func (l listener) close() error {
	if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("radius: closing %s: %w", l.Addr(), err)
	}
	return nil
}

// accept takes connections until Shutdown (nil) or until l is closed by others.
func (s *Server) accept(l net.Listener, config *tls.Config) error {
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			s.take(conn, config)
		case s.isClosing():
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		default: // no more files, or the peer is gone already: both pass
			s.refuse(netip.AddrPort{}, fmt.Errorf("%w: %w", acceptFailed, err))
			time.Sleep(readPause)
		}
	}
}

// take begins a connection, within the limits.
func (s *Server) take(conn net.Conn, config *tls.Config) {
	from := addrPort(conn)
	if !s.Clients.mayConnect(from.Addr()) {
		s.unknown.seen(from.Addr(), s.Now())
		s.refuse(from, addressUnknown)
		_ = conn.Close() // nothing was sent on it
		return
	}
	if err := s.conns.begin(from.Addr()); err != nil {
		s.refuse(from, err)
		_ = conn.Close()
		return
	}
	t := &stream{from: from, out: newOutbox()}
	t.conn = tls.Server(conn, s.configFor(t, config))
	t.in = bufio.NewReaderSize(t.conn, codec.MaxPacketLength)
	_ = conn.SetDeadline(s.Now().Add(handshakeLimit)) // before it can be interrupted
	if !s.open(t) {
		s.conns.endHandshake(from.Addr())
		_ = conn.Close()
		return
	}
	go func() {
		defer s.readers.Done()
		defer s.forget(t)
		s.serveStream(t)
		_ = t.conn.Close() // with close_notify, if the other side still takes it
	}()
}

// configFor is config for one connection, whose client it finds.
func (s *Server) configFor(t *stream, config *tls.Config) *tls.Config {
	config = config.Clone()
	config.VerifyConnection = func(state tls.ConnectionState) (err error) {
		if state.NegotiatedProtocol != alpn11 && fips140.Enforced() {
			return fmt.Errorf("%w: GODEBUG=fips140=only forbids MD5, and the client doesn't speak RADIUS/1.1", handshakeFailed)
		}
		t.client, err = s.Clients.presenting(state.PeerCertificates[0], t.from.Addr())
		return err
	}
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(hello.SupportedVersions, tls.VersionTLS13) {
			return nil, nil //nolint:nilnil // as the callback has it: go on with this one
		}
		old := config.Clone()
		old.NextProtos = []string{alpn10}
		return old, nil
	}
	return config
}

// serveStream finds out who it is and answers until the connection ends.
func (s *Server) serveStream(t *stream) {
	err := t.conn.HandshakeContext(s.ctx)
	s.conns.endHandshake(t.from.Addr())
	if err == nil {
		err = s.conns.enter(t.client.Name)
	}
	if err != nil {
		s.refuse(t.from, err, s.presentedOn(t, err)...)
		return
	}
	defer s.conns.leave(t.client.Name)
	connections := s.Metrics.connections.WithLabelValues(t.client.Name)
	connections.Inc()
	defer connections.Dec()

	state := t.conn.ConnectionState()
	t.format = overTLS
	if state.NegotiatedProtocol == alpn11 {
		t.format = version11
	}
	s.Log.LogAttrs(s.ctx, slog.LevelDebug, "RADIUS: TLS connection", slog.String("client", t.client.Name), slog.Any("from", t.from),
		slog.String("tls", tls.VersionName(state.Version)), slog.String("alpn", state.NegotiatedProtocol))
	s.converse(t)
}

// presentedOn is what the log says about the certificate that err is about.
func (s *Server) presentedOn(t *stream, err error) []slog.Attr {
	var invalid *tls.CertificateVerificationError
	if errors.As(err, &invalid) && len(invalid.UnverifiedCertificates) > 0 {
		return presented(invalid.UnverifiedCertificates[0])
	}
	if certs := t.conn.ConnectionState().PeerCertificates; len(certs) > 0 {
		return presented(certs[0])
	}
	return nil
}

// refuse counts a connection that was refused, and says why, rate-limited.
func (s *Server) refuse(from netip.AddrPort, err error, more ...slog.Attr) {
	var why rejection
	var invalid *tls.CertificateVerificationError
	switch {
	case errors.As(err, &why):
	case errors.As(err, &invalid):
		why, err = certificateInvalid, fmt.Errorf("%w: %w", certificateInvalid, invalid.Err)
	default:
		why, err = handshakeFailed, fmt.Errorf("%w: %w", handshakeFailed, err)
	}
	s.Metrics.refused.WithLabelValues(string(why)).Inc()
	if suppressed, ok := s.notices.allow("", string(why)); ok {
		s.Log.LogAttrs(s.ctx, slog.LevelWarn, "RADIUS: TLS connection refused: "+err.Error(),
			append([]slog.Attr{slog.Any("from", from), slog.Int("suppressed", suppressed)}, more...)...)
	}
}

// noteBroken says, rate-limited, that replies to a client couldn't be written.
func (s *Server) noteBroken(t *stream, err error) {
	if suppressed, ok := s.notices.allow(t.client.Name, "connection_broken"); ok {
		s.Log.LogAttrs(s.ctx, slog.LevelWarn, "RADIUS: TLS connection broken: replies on it are lost: "+err.Error(),
			slog.String("client", t.client.Name), slog.Any("from", t.from), slog.Int("suppressed", suppressed))
	}
}

// forget lets Shutdown not wait for a connection that has ended.
func (s *Server) forget(t *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.endpoints, t)
}

// addrPort is where conn comes from; the zero value if it isn't TCP.
func addrPort(conn net.Conn) netip.AddrPort {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort()
	}
	return netip.AddrPort{}
}

// connections counts those that are open.
type connections struct {
	mu         sync.Mutex // guards the rest
	total      int        // whose client is known or not
	handshakes int
	from       map[netip.Addr]int // handshakes, by address
	of         map[string]int     // by client
}

func newConnections() *connections {
	return &connections{from: make(map[netip.Addr]int), of: make(map[string]int)}
}

// begin lets a handshake begin, or says why not. endHandshake ends it.
func (c *connections) begin(from netip.Addr) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.handshakes >= maxHandshakes, c.from[from] >= maxHandshakesFrom:
		return tooManyHandshakes
	case c.total >= maxConnections:
		return tooManyConnections
	}
	c.total++
	c.handshakes++
	c.from[from]++
	return nil
}

func (c *connections) endHandshake(from netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	c.handshakes--
	if c.from[from]--; c.from[from] == 0 {
		delete(c.from, from)
	}
}

// enter counts a connection of the client, or says why it is one too many. leave
// ends it.
func (c *connections) enter(client string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total >= maxConnections || c.of[client] >= maxConnectionsOf {
		return tooManyConnections
	}
	c.total++
	c.of[client]++
	return nil
}

func (c *connections) leave(client string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	c.of[client]--
}

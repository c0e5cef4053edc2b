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
	"runtime/debug"
	"slices"
	"sync"
	"time"

	codec "layeh.com/radius"
)

const (
	// handshakeLimit is how long a connection may take until its client is known.
	handshakeLimit = 10 * time.Second
	// maxHandshakes bounds those that aren't yet: they cost memory and signatures
	// before anybody is known. maxHandshakesOf bounds those of one of the clients'
	// networks, so that whoever is in one keeps none of the others out, and
	// maxHandshakesFrom those of one host there. A proxy that starts opens a few.
	maxHandshakes     = 128
	maxHandshakesOf   = 32
	maxHandshakesFrom = 16
	// hostBits6 is what counts as one host in IPv6: whoever has an address of a
	// subnet (RFC 4291 §2.5.4) has all of them.
	hostBits6 = 64
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
	certificateAmbiguous rejection = "certificate_ambiguous"
	acceptFailed         rejection = "accept_failed"
	connectionFault      rejection = "internal_error"
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
	case certificateAmbiguous:
		return "its certificate has the DNS names of two clients: give each of them a certificate of its own, or name them by sha256"
	case connectionFault:
		return "a fault in otpgate: please report it with this line"
	case acceptFailed:
		return "it could not be accepted"
	}
	return string(r)
}

// ServeTLS answers what arrives over TLS (RFC 6614) on connections to l, until
// Shutdown; then it returns nil. The server shows certificate, and each client
// must show one that roots vouch for and that a Client names. l is the server's
// from now on. TLS 1.3 or 1.2; RADIUS/1.1 over 1.3 only (RFC 9765 §3.4), which is
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
		// anew (RFC 9765 §3.5).
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
	network, ok := s.Clients.networkOf(from.Addr())
	if !ok {
		s.unknown.seen(from.Addr(), s.Now())
		s.refuse(from, addressUnknown)
		_ = conn.Close() // nothing was sent on it
		return
	}
	origin := origin{network, hostOf(from.Addr())}
	if err := s.conns.begin(origin); err != nil {
		s.refuse(from, err)
		_ = conn.Close()
		return
	}
	t := &stream{from: from, origin: origin, out: newOutbox()}
	t.conn = tls.Server(conn, s.configFor(t, config))
	t.in = bufio.NewReaderSize(t.conn, codec.MaxPacketLength)
	_ = conn.SetDeadline(s.Now().Add(handshakeLimit)) // before it can be interrupted
	if !s.open(t) {
		s.conns.endHandshake(origin)
		_ = conn.Close()
		return
	}
	go func() {
		defer s.readers.Done()
		defer s.forget(t)
		s.serveSafely(t)
	}()
}

// serveSafely is serveStream, in which a panic costs the one connection.
func (s *Server) serveSafely(t *stream) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		_ = t.conn.NetConn().Close() // what TLS knows of it can't be relied on
		s.refuse(t.from, fmt.Errorf("%w: panic: %v\n%s", connectionFault, v, debug.Stack()))
	}()
	s.serveStream(t)
	_ = t.conn.Close() // with close_notify, if the other side still takes it
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
	err := s.handshake(t)
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

// handshake ends the connection's time among those that aren't known yet.
func (s *Server) handshake(t *stream) error {
	defer s.conns.endHandshake(t.origin)
	return t.conn.HandshakeContext(s.ctx)
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

// refuse counts a connection that was refused, or that ended by a fault, and says
// why, rate-limited.
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
	s.turnedAway.seen(why, from.Addr(), s.Now())
	level, what := slog.LevelWarn, "refused"
	if why == connectionFault {
		level, what = slog.LevelError, "ended"
	}
	if suppressed, ok := s.notices.allow("", string(why)); ok {
		s.Log.LogAttrs(s.ctx, level, "RADIUS: TLS connection "+what+": "+err.Error(),
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

// origin is where a handshake comes from, as its limits count it.
type origin struct {
	network netip.Prefix // of the clients that may come from there
	host    netip.Prefix
}

// hostOf is the host of an address: itself, or its subnet in IPv6.
func hostOf(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap()
	host, _ := addr.Prefix(min(addr.BitLen(), hostBits6)) // fails for no address alone
	return host
}

// connections counts those that are open.
type connections struct {
	mu         sync.Mutex // guards the rest
	total      int        // whose client is known or not
	handshakes int
	from       map[netip.Prefix]int // handshakes, by host
	in         map[netip.Prefix]int // handshakes, by network
	of         map[string]int       // by client
}

func newConnections() *connections {
	return &connections{from: make(map[netip.Prefix]int), in: make(map[netip.Prefix]int), of: make(map[string]int)}
}

// begin lets a handshake begin, or says why not. endHandshake ends it.
func (c *connections) begin(o origin) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.handshakes >= maxHandshakes, c.in[o.network] >= maxHandshakesOf, c.from[o.host] >= maxHandshakesFrom:
		return tooManyHandshakes
	case c.total >= maxConnections:
		return tooManyConnections
	}
	c.total++
	c.handshakes++
	c.in[o.network]++
	c.from[o.host]++
	return nil
}

func (c *connections) endHandshake(o origin) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	c.handshakes--
	c.in[o.network]-- // the networks are ours: there are no more than in gateway.yaml
	if c.from[o.host]--; c.from[o.host] == 0 {
		delete(c.from, o.host)
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

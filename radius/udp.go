package radius

import (
	"crypto/fips140"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

const (
	// readFailures in a row, readPause apart, are taken for a socket that will
	// not recover: one second.
	readFailures = 20
	readPause    = 50 * time.Millisecond
)

// PacketConn is what the server uses of a *net.UDPConn.
type PacketConn interface {
	ReadFromUDPAddrPort(b []byte) (n int, from netip.AddrPort, err error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	SetReadDeadline(t time.Time) error
	LocalAddr() net.Addr
	Close() error
}

var errFIPS = errors.New("radius: RADIUS over UDP needs MD5, which GODEBUG=fips140=only forbids; run with fips140=on, or ask by RADIUS/1.1 alone (radius.tls)")

// Serve answers what arrives on conn, until Shutdown; then it returns nil. It
// may be called for any number of sockets, each in its own goroutine. conn is
// the server's from now on: Shutdown closes it, and so does Serve when it
// returns an error, which means that conn can't be read any more.
func (s *Server) Serve(conn PacketConn) error {
	if fips140.Enforced() {
		return errors.Join(errFIPS, conn.Close())
	}
	sock := &socket{conn: conn}
	if !s.open(sock) {
		return sock.close()
	}
	defer s.readers.Done()
	if err := s.read(sock); err != nil {
		return errors.Join(fmt.Errorf("radius: reading from %s: %w", conn.LocalAddr(), err), sock.close())
	}
	return nil
}

// socket is one way in.
type socket struct{ conn PacketConn }

func (k *socket) send(b []byte, to netip.AddrPort) error {
	_, err := k.conn.WriteToUDPAddrPort(b, to)
	return err
}

func (k *socket) dropped(reason) {} // the client asks again

// interrupt ends a Read that waits, and every later one. Writing goes on. It
// can fail only on a socket that is closed, whose reader has ended.
func (k *socket) interrupt() { _ = k.conn.SetReadDeadline(time.Unix(1, 0)) }

// close closes the socket; one that is closed already is no error.
func (k *socket) close() error {
	if err := k.conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("radius: closing %s: %w", k.conn.LocalAddr(), err)
	}
	return nil
}

// read queues datagrams until Shutdown (nil) or until the socket has failed for
// good.
func (s *Server) read(sock *socket) error {
	failures := 0
	for {
		d := s.datagrams.Get().(*datagram)
		// What doesn't fit is cut off by the kernel; a length field that asks
		// for more than a packet may have is refused by cut.
		n, from, err := sock.conn.ReadFromUDPAddrPort(d.buf[:])
		if err != nil {
			s.datagrams.Put(d)
			if s.isClosing() {
				return nil
			}
			if failures++; failures == readFailures || errors.Is(err, net.ErrClosed) {
				return err
			}
			time.Sleep(readPause)
			continue
		}
		failures = 0
		d.via, d.from, d.format, d.at, d.user, d.n = sock, from, overUDP, s.Now(), "", n
		if err := s.receive(d); err != nil {
			s.drop(d, err)
			s.datagrams.Put(d)
		}
	}
}

// receive finds the client and hands the datagram to the workers.
func (s *Server) receive(d *datagram) error {
	d.client = s.Clients.lookup(d.from.Addr())
	if d.client == nil {
		return unknownClient
	}
	s.received(d)
	return s.enqueue(d)
}

package radius

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	codec "layeh.com/radius"
)

const (
	// maxInFlight is how many requests of one connection may be under way;
	// until one is answered or dropped no more are read. RADIUS over TLS without
	// RADIUS/1.1 can't tell more than 256 apart.
	maxInFlight = 256
	// idleLimit is how long a connection may be without a packet. Proxies that
	// want to keep one ask for the status much more often (radsecproxy: 25 s);
	// the others connect again when they need to.
	idleLimit = 10 * time.Minute
	// packetLimit is how long a packet may take once its first octet is here,
	// and writeLimit how long one to the other side: longer than any gear waits.
	packetLimit = 10 * time.Second
	writeLimit  = 5 * time.Second
)

// stream is one TLS connection whose client is known. One goroutine reads, one
// writes: many requests are under way, and each is answered when it is decided.
type stream struct {
	conn   *tls.Conn
	from   netip.AddrPort
	origin origin
	client *client
	format format
	in     *bufio.Reader
	out    *outbox
}

// outbox is what a connection has to write. It is apart from the stream since
// the reply cache holds on to it, and must not hold on to the connection.
type outbox struct {
	slots     chan struct{} // one for each request under way
	replies   chan []byte   // has room for as many
	broken    atomic.Bool   // nothing can be written any more
	condemned atomic.Bool   // nothing more is to be read
	wake      chan struct{} // tells the writer of condemned
}

func newOutbox() *outbox {
	return &outbox{slots: make(chan struct{}, maxInFlight), replies: make(chan []byte, maxInFlight), wake: make(chan struct{}, 1)}
}

// send gives the reply to the writer, and with it the request's slot. It never
// blocks: a client that doesn't read must not hold up the workers.
func (o *outbox) send(b []byte, _ netip.AddrPort) error {
	if o.broken.Load() {
		return net.ErrClosed
	}
	o.replies <- b
	return nil
}

// dropped frees the request's slot. After a packet that shows the other side to
// be out of step, or without the secret, the connection is to be closed (RFC
// 6613 §2.6.4, RFC 9765 §4.2.2). What a third party can have put into a packet
// that a proxy passes on isn't among the reasons: it would end everybody's.
func (o *outbox) dropped(why reason) {
	<-o.slots
	if slices.Contains([]reason{malformed, authenticatorMalformed, authenticatorWrong, accountingWrong, tokenReused}, why) {
		o.condemned.Store(true)
		select {
		case o.wake <- struct{}{}:
		default:
		}
	}
}

// converse reads requests until the other side, a limit, a bad packet or
// Shutdown ends it, and returns when all of them are answered or dropped.
func (s *Server) converse(t *stream) {
	written := make(chan struct{})
	go func() {
		s.write(t)
		close(written)
	}()
	defer func() { // after a panic too
		for range cap(t.out.slots) { // each is free once its request is
			t.out.slots <- struct{}{}
		}
		close(t.out.replies)
		<-written
	}()
	for s.readStream(t) {
	}
}

// readStream queues the next packet, which has a slot from then on. It reports
// false if there will be no other.
func (s *Server) readStream(t *stream) (more bool) {
	t.out.slots <- struct{}{}
	queued := false
	defer func() {
		if !queued {
			<-t.out.slots
		}
	}()
	d := s.datagrams.Get().(*datagram)
	n, err := s.nextPacket(t, d.buf[:])
	var why reason
	if err != nil && !errors.As(err, &why) { // the end, or no more in time: nothing to answer
		s.datagrams.Put(d)
		return false
	}
	d.via, d.from, d.client, d.format, d.at, d.user, d.n = t.out, t.from, t.client, t.format, s.Now(), "", n
	s.received(d)
	queued = true // or dropped, which frees the slot as well
	if err == nil {
		err = s.enqueue(d)
	}
	if err != nil {
		s.drop(d, err)
		s.datagrams.Put(d)
	}
	return why == "" // else where the next packet begins can't be known
}

// nextPacket waits for a packet, unless reading is over. Deadlines are set
// first, so that an interrupt in between isn't lost.
func (s *Server) nextPacket(t *stream, b []byte) (int, error) {
	_ = t.conn.SetReadDeadline(s.Now().Add(idleLimit)) // fails only on a closed one, and so does Peek
	if s.isClosing() || t.out.condemned.Load() {
		return 0, net.ErrClosed
	}
	if _, err := t.in.Peek(1); err != nil {
		return 0, err
	}
	_ = t.conn.SetReadDeadline(s.Now().Add(packetLimit))
	if s.isClosing() || t.out.condemned.Load() {
		return 0, net.ErrClosed
	}
	return readPacket(t.in, b)
}

// readPacket reads one packet into b, as long as its length field says (RFC
// 6613 §2.6.4). A length that no packet has is malformed; then b has the four
// octets up to there.
func readPacket(r io.Reader, b []byte) (int, error) {
	const prefix = 4 // code, identifier, length
	if _, err := io.ReadFull(r, b[:prefix]); err != nil {
		return 0, err
	}
	length := int(binary.BigEndian.Uint16(b[2:prefix]))
	if length < headerLength || length > codec.MaxPacketLength {
		return prefix, fmt.Errorf("%w: its length field says %d", malformed, length)
	}
	_, err := io.ReadFull(r, b[prefix:length])
	return length, err
}

// write sends the replies as they come. When that fails it ends the reading, and
// goes on to free the slots.
func (s *Server) write(t *stream) {
	for {
		select {
		case <-t.out.wake:
			t.interrupt()
		case b, more := <-t.out.replies:
			if !more {
				return
			}
			if !t.out.broken.Load() {
				if err := t.writeSafely(b, s.Now().Add(writeLimit)); err != nil {
					t.out.broken.Store(true)
					t.out.condemned.Store(true)
					t.interrupt()
					s.noteBroken(t, err)
				}
			}
			<-t.out.slots
		}
	}
}

// writeSafely writes a reply. A panic in it is an error, as the slots must go on
// being freed.
func (t *stream) writeSafely(b []byte, deadline time.Time) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: panic: %v\n%s", internalError, v, debug.Stack())
		}
	}()
	_ = t.conn.SetWriteDeadline(deadline) // fails only on a closed one, and so does Write
	_, err = t.conn.Write(b)
	return err
}

// interrupt ends a read, or a handshake, that waits.
func (t *stream) interrupt() { _ = t.conn.SetReadDeadline(time.Unix(1, 0)) }

// close doesn't wait for the other side to take what is being written.
func (t *stream) close() error {
	if err := t.conn.NetConn().Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("radius: closing the connection of %s: %w", t.from, err)
	}
	return nil
}

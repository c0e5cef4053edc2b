package radius

import (
	"net/netip"
	"time"

	codec "layeh.com/radius"
)

// way is where a packet came in and its reply goes out: a UDP socket (udp.go)
// or what a TLS connection has to write (stream.go). It is part of an exchange's
// key. For each datagram send is called until it succeeds or there is nothing to
// send; then dropped is.
type way interface {
	send(b []byte, to netip.AddrPort) error
	dropped(why reason)
}

// format is what a packet looks like, and what vouches for it.
type format int

const (
	overUDP   format = iota // RFC 2865: the client's own secret
	overTLS                 // RFC 6614: the same packets, but TLS vouches for them
	version11               // RFC 9765: only TLS vouches; a Token, and nothing hidden
)

// datagram is what was received, on its way through the queue.
type datagram struct {
	via    way
	from   netip.AddrPort
	client *client
	format format
	at     time.Time // of arrival
	user   string    // NAME@REALM, for the log; empty: not read yet, or nobody's
	n      int       // octets in buf
	buf    [codec.MaxPacketLength]byte
}

// endpoint is what Shutdown ends: first the reading, then all of it.
type endpoint interface {
	interrupt()
	close() error
}

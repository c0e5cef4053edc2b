package main

import (
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

// boundedListener bounds the connections that an http.Server has open, so that
// a flood takes neither the process's files nor its memory. Above the limit
// they wait in the kernel's queue.
//
// One address gets half of them: whoever floods from one leaves the other half
// to everybody else. Not less, because a portal, or all customers behind one
// reverse proxy or a carrier's NAT, have one address too.
//
// A connection is handed on as it is and not wrapped, since net/http and the
// admin door look for its concrete type; the server's ConnState hook tells when
// it is closed.
type boundedListener struct {
	net.Listener
	gauge   prometheus.Gauge
	refused prometheus.Counter
	notices *notices

	slots   chan struct{} // full: the limit is reached
	closing chan struct{}
	once    sync.Once // closes closing

	mu        sync.Mutex // guards perSource
	perSource map[netip.Prefix]int
}

func newBoundedListener(l net.Listener, limit int, gauge prometheus.Gauge, refused prometheus.Counter, notices *notices) *boundedListener {
	return &boundedListener{
		Listener: l, gauge: gauge, refused: refused, notices: notices,
		slots: make(chan struct{}, limit), closing: make(chan struct{}), perSource: make(map[netip.Prefix]int),
	}
}

// Accept waits for a free slot, then for a connection.
func (l *boundedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	default:
		l.notices.warn("all connections are taken: the next ones wait")
		select {
		case l.slots <- struct{}{}:
		case <-l.closing:
			return nil, net.ErrClosed
		}
	}
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			<-l.slots
			return nil, err
		}
		if l.enter(conn) {
			return conn, nil
		}
		l.refused.Inc()
		l.notices.warn("one address has half of all connections: more from there are closed")
		_ = conn.Close() // nothing was sent on it
	}
}

// Close also ends an Accept that waits for a slot.
func (l *boundedListener) Close() error {
	l.once.Do(func() { close(l.closing) })
	return l.Listener.Close()
}

// connState is the server's hook: it frees the slot of a closed connection.
func (l *boundedListener) connState(conn net.Conn, state http.ConnState) {
	if state != http.StateClosed && state != http.StateHijacked {
		return
	}
	source := sourceOf(conn)
	l.mu.Lock()
	if l.perSource[source]--; l.perSource[source] == 0 {
		delete(l.perSource, source)
	}
	l.mu.Unlock()
	l.gauge.Dec()
	<-l.slots
}

// enter reports whether conn's source may have one more.
func (l *boundedListener) enter(conn net.Conn) bool {
	source := sourceOf(conn)
	l.mu.Lock()
	defer l.mu.Unlock()
	if source.IsValid() && l.perSource[source] >= cap(l.slots)/2 {
		return false
	}
	l.perSource[source]++
	l.gauge.Inc()
	return true
}

// count returns how many connections are open.
func (l *boundedListener) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, of := range l.perSource {
		n += of
	}
	return n
}

// sourceOf is the address that conn comes from: of IPv6 the /64 that one
// machine chooses from. Invalid for a unix socket, whose peers are one.
func sourceOf(conn net.Conn) netip.Prefix {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	address, bits := tcp.AddrPort().Addr().Unmap(), 64
	if address.Is4() {
		bits = 32
	}
	source, _ := address.Prefix(bits) // fails only for other sizes
	return source
}

// connectionLimits are the limits of the public server and of each inside one:
// maxPublic and maxInside, or less if the process may not have as many files
// open. Whatever they take, a quarter of the files is left for the data. (The
// Go runtime has raised the soft limit to the hard one.)
func connectionLimits() (public, inside int) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		return maxPublic, maxInside
	}
	return int(max(2, min(maxPublic, files.Cur/2))), int(max(2, min(maxInside, files.Cur/8)))
}

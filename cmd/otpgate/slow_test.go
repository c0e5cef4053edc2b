package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// memoryListener accepts the far ends of net.Pipe, whose time is a bubble's.
type memoryListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error   { close(l.closed); return nil }
func (l *memoryListener) Addr() net.Addr { return memoryAddress{} }

type memoryAddress struct{}

func (memoryAddress) Network() string { return "pipe" }
func (memoryAddress) String() string  { return "memory" }

// dialTLS connects to the server, with the protocol that is asked for.
func (l *memoryListener) dialTLS(t *testing.T, protocol string) *tls.Conn {
	t.Helper()
	mine, theirs := net.Pipe()
	l.conns <- theirs
	conn := tls.Client(mine, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != protocol {
		t.Fatalf("the server speaks %q, want %q", got, protocol)
	}
	return conn
}

// inMemory runs h in the public server's way, in a bubble of test's.
func inMemory(t *testing.T, h http.Handler, test func(t *testing.T, l *memoryListener)) {
	t.Helper()
	cert, key, err := selfSigned(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		metrics := prometheus.NewRegistry()
		g := &gateway{log: slog.New(slog.DiscardHandler), metrics: metrics, http: newHTTPMetrics(metrics)}
		srv := httpServer(h)
		srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
		l := &memoryListener{conns: make(chan net.Conn), closed: make(chan struct{})}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.serveHTTP(ctx, "test", srv, l, 10) }()
		test(t, l)
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// endOf reads until the server closes the connection, and says when that was.
func endOf(conn net.Conn) (read string, after time.Duration) {
	begun := time.Now()
	b, _ := io.ReadAll(conn) // an error is an end as well
	return string(b), time.Since(begun)
}

// Whoever sends a byte at a time holds a connection no longer than one who is done.
func TestSlowPeersAreCutOff(t *testing.T) {
	const longest = 30 * time.Second // to read one, idle, and say so
	reached := false
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			http.Error(w, "late", http.StatusBadRequest)
			return
		}
		reached = true
	})
	for name, slow := range map[string]struct{ protocol, at, drip string }{
		"a header without end":           {"http/1.1", "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", "a"},
		"nothing at all":                 {"http/1.1", "", ""},
		"a body without end":             {"http/1.1", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000\r\n\r\n", "a"},
		"HTTP/2: nothing at all":         {"h2", "", ""},
		"HTTP/2: settings, then nothing": {"h2", preface, ""},
		"HTTP/2: a header without end":   {"h2", preface + headersFrame(0, 1, getRoot), continuationFrame("")},
		"HTTP/2: a body without end":     {"h2", preface + headersFrame(endHeaders, 1, postRoot), dataFrame("a")},
	} {
		t.Run(name, func(t *testing.T) {
			reached = false
			inMemory(t, handler, func(t *testing.T, l *memoryListener) {
				conn := l.dialTLS(t, slow.protocol)
				dripped := make(chan struct{})
				go func() {
					defer close(dripped)
					for text := slow.at; ; text = slow.drip {
						if _, err := io.WriteString(conn, text); err != nil || slow.drip == "" {
							return
						}
						time.Sleep(time.Second)
					}
				}()
				if _, after := endOf(conn); after > longest {
					t.Errorf("closed after %v, want within %v", after, longest)
				}
				conn.Close()
				<-dripped
				if reached {
					t.Error("half a request was answered")
				}
			})
		})
	}
}

// A peer that asks for a long answer and takes nothing of it.
func TestPeersThatDoNotReadAreCutOff(t *testing.T) {
	const longestAnswer = 20 * time.Second
	for name, ask := range map[string]struct{ protocol, request string }{
		"HTTP/1.1": {"http/1.1", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"},
		"HTTP/2":   {"h2", preface + headersFrame(endHeaders|endStream, 1, getRoot)},
	} {
		t.Run(name, func(t *testing.T) {
			var ended chan error
			handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				var err error
				for err == nil && r.Context().Err() == nil {
					_, err = w.Write(make([]byte, 64<<10))
				}
				ended <- err
			})
			inMemory(t, handler, func(t *testing.T, l *memoryListener) {
				conn := l.dialTLS(t, ask.protocol)
				ended = make(chan error, 1) // of the bubble
				begun := time.Now()
				go func() { _, _ = io.WriteString(conn, ask.request) }()
				if _, err := conn.Read(make([]byte, 1)); err != nil { // and no more
					t.Fatal(err)
				}
				err := <-ended
				if after := time.Since(begun); err == nil || after > longestAnswer {
					t.Errorf("it was written to for %v: %v", after, err)
				}
				conn.Close()
			})
		})
	}
}

func TestOversizeHeadersAreRefused(t *testing.T) {
	const most = 32 << 10 // MaxHeaderBytes, and what net/http allows beside it
	reached := false
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true })
	inMemory(t, handler, func(t *testing.T, l *memoryListener) {
		for name, request := range map[string]string{
			"one header":   "GET / HTTP/1.1\r\nHost: localhost\r\nCookie: " + strings.Repeat("a", most) + "\r\n\r\n",
			"many headers": "GET / HTTP/1.1\r\nHost: localhost\r\n" + strings.Repeat("X-A: aaaaaaaa\r\n", most/12) + "\r\n",
			"address":      "GET /" + strings.Repeat("a", most) + " HTTP/1.1\r\nHost: localhost\r\n\r\n",
		} {
			conn := l.dialTLS(t, "http/1.1")
			go func() { _, _ = io.WriteString(conn, request) }() // the server stops reading it
			status, err := bufio.NewReader(conn).ReadString('\n')
			if err != nil || !strings.HasPrefix(status, "HTTP/1.1 431 ") {
				t.Errorf("%s: %q, %v", name, status, err)
			}
			conn.Close()
		}
		// Over HTTP/2 with frames of the greatest size, one after the other.
		conn := l.dialTLS(t, "h2")
		go func() {
			literal := "\x00\x01a\x7f\x81\x7f" + strings.Repeat("a", 256) // RFC 7541 §6.2.2: a name of one byte, a value of 256
			_, err := io.WriteString(conn, preface+headersFrame(0, 1, getRoot))
			for err == nil {
				_, err = io.WriteString(conn, continuationFrame(strings.Repeat(literal, 60)))
			}
		}()
		if _, after := endOf(conn); after > time.Minute {
			t.Errorf("HTTP/2: headers are taken for %v", after)
		}
		conn.Close()
		if reached {
			t.Error("a request with oversize headers was answered")
		}
	})
}

// HTTP/2 by hand (RFC 9113 §4.1, §6.1, §6.2, §6.10; RFC 7541 appendix A): what no
// client library would send.
const (
	preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" // with empty SETTINGS

	endStream, endHeaders = 0x1, 0x4

	getRoot  = "\x82\x87\x84\x01\x09localhost" // :method GET, :scheme https, :path /, :authority localhost
	postRoot = "\x83\x87\x84\x01\x09localhost"
)

func frame(kind, flags, stream byte, payload string) string {
	n := len(payload)
	head := []byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags, 0, 0, 0, stream}
	return string(head) + payload
}

func headersFrame(flags, stream byte, block string) string {
	return frame(0x1, flags, stream, block)
}
func continuationFrame(block string) string { return frame(0x9, 0, 1, block) }
func dataFrame(data string) string          { return frame(0x0, 0, 1, data) }

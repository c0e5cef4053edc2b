package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// serverOf runs h as one of a gateway's HTTP servers, and returns its address,
// the log, the metrics, and what stops it.
func serverOf(t *testing.T, h http.Handler, maxOpen int) (address string, log *syncBuffer, metrics *prometheus.Registry, stop func() error) {
	t.Helper()
	log, metrics = &syncBuffer{}, prometheus.NewRegistry()
	g := &gateway{log: slog.New(slog.NewJSONHandler(log, nil)), metrics: metrics, http: newHTTPMetrics(metrics)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.serveHTTP(ctx, "test", httpServer(h), l, maxOpen) }()
	stop = func() error { cancel(); err := <-done; done <- err; return err }
	t.Cleanup(func() { _ = stop() })
	return l.Addr().String(), log, metrics, stop
}

// scrape returns what GET /metrics shows.
func scrape(t *testing.T, metrics *prometheus.Registry) string {
	t.Helper()
	var w recorder
	promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}).ServeHTTP(&w, mustRequest(t, "/metrics"))
	return w.body.String()
}

// recorder keeps an answer.
type recorder struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header {
	if r.header == nil {
		r.header = http.Header{}
	}
	return r.header
}
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

func mustRequest(t *testing.T, path string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A panic is a fault of ours: its stack must be where somebody looks.
func TestPanicIsLoggedWithItsStack(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/otp/{id}", func(http.ResponseWriter, *http.Request) { panic("the ledger is gone") })
	mux.HandleFunc("/cut", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	address, log, metrics, _ := serverOf(t, mux, 10)
	for _, path := range []string{"/cut", "/otp/transaction-of-a-customer"} {
		if res, err := http.Get("http://" + address + path); err == nil {
			res.Body.Close()
			t.Errorf("%s: %s; want a broken connection", path, res.Status)
		}
	}
	text := log.String()
	for _, want := range []string{`"level":"ERROR"`, "the ledger is gone", "TestPanicIsLoggedWithItsStack", `"pattern":"/otp/{id}"`, `"server":"test"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the log lacks %s:\n%s", want, text)
		}
	}
	if strings.Count(text, "\n") != 1 || strings.Contains(text, "transaction-of-a-customer") {
		t.Errorf("want one line, without the path:\n%s", text)
	}
	if got := scrape(t, metrics); !strings.Contains(got, `otpgate_http_panics_total{server="test"} 1`+"\n") {
		t.Errorf("not counted once:\n%s", got)
	}
}

// What peers cause in net/http is a line every ten seconds, and what they all
// do is none.
func TestServerLogIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		n := &notices{log: slog.New(slog.NewTextHandler(&log, nil))}
		n.pace.Interval = noticeInterval
		say := func(line string) {
			t.Helper()
			if _, err := io.WriteString(n, line+"\n"); err != nil {
				t.Fatal(err)
			}
		}
		say("http: TLS handshake error from 192.0.2.1:1234: EOF")
		if log.Len() != 0 {
			t.Errorf("a broken handshake was logged: %s", &log)
		}
		for range 100 {
			say("http: Accept error: accept4: too many open files; retrying in 5ms")
		}
		if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=WARN") || !strings.Contains(got, "too many open files") {
			t.Errorf("a hundred failed accepts were logged as\n%s", got)
		}
		time.Sleep(noticeInterval)
		log.Reset()
		say("http: Accept error: again")
		if got := log.String(); !strings.Contains(got, "again") || !strings.Contains(got, "withheld=99") {
			t.Errorf("ten seconds later: %q, want a line that says how many were withheld", got)
		}
	})
}

// dialFrom opens a connection from a loopback address; the server's answer to
// nothing is a wait.
func dialFrom(t *testing.T, from, to string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 3 * time.Second}).DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// getFrom sends one request from a loopback address.
func getFrom(t *testing.T, from, address string) (net.Conn, error) {
	t.Helper()
	conn := dialFrom(t, from, address)
	_ = conn.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return conn, err
	}
	b := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(conn, b); err != nil {
		return conn, err
	}
	if string(b) != "HTTP/1.1 200" {
		return conn, fmt.Errorf("the answer begins with %q", b)
	}
	return conn, nil
}

func TestOneAddressGetsHalfOfTheConnections(t *testing.T) {
	address, log, metrics, _ := serverOf(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), 6)
	var held []net.Conn
	for range 3 {
		conn, err := getFrom(t, "127.0.0.1", address)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, conn)
	}
	if _, err := getFrom(t, "127.0.0.1", address); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a fourth of six from one address: %v; want it closed", err)
	}
	if got := scrape(t, metrics); !strings.Contains(got, `otpgate_http_connections{server="test"} 3`) ||
		!strings.Contains(got, `otpgate_http_connections_refused_total{server="test"} 1`) {
		t.Errorf("the metrics are\n%s", got)
	}
	if !strings.Contains(log.String(), "one address has half of all connections") {
		t.Errorf("the log is\n%s", log)
	}
	if _, err := getFrom(t, "127.0.0.2", address); err != nil {
		t.Errorf("from another address: %v", err)
	}

	// What is closed is free again, for the same address too.
	held[0].Close()
	for deadline := time.Now().Add(3 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := getFrom(t, "127.0.0.1", address); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("after one was closed: %v", err)
		}
	}
}

func TestAboveTheLimitConnectionsWait(t *testing.T) {
	address, log, _, stop := serverOf(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), 2)
	first, err := getFrom(t, "127.0.0.1", address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := getFrom(t, "127.0.0.2", address); err != nil {
		t.Fatal(err)
	}
	third := dialFrom(t, "127.0.0.3", address)
	if _, err := fmt.Fprintf(third, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	_ = third.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := third.Read(make([]byte, 1)); n != 0 || !isTimeout(err) {
		t.Errorf("a third of two: %d bytes, %v; want it to wait", n, err)
	}
	first.Close()
	_ = third.SetReadDeadline(time.Now().Add(3 * time.Second))
	if _, err := third.Read(make([]byte, 1)); err != nil {
		t.Errorf("after another was closed: %v", err)
	}
	if !strings.Contains(log.String(), "all connections are taken") {
		t.Errorf("the log is\n%s", log)
	}

	begun := time.Now()
	if err := stop(); err != nil || time.Since(begun) > time.Second {
		t.Errorf("a full server stopped after %v with %v", time.Since(begun), err)
	}
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout()
}

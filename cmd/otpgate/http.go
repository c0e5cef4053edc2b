package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log" //nolint:depguard // what http.Server.ErrorLog is made of
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
)

const (
	// maxPublic bounds the connections of portals and customers. An idle one
	// costs some 45 kB with TLS, so this is 180 MB; a customer holds one for
	// seconds, so it is also some hundred log-ins a second.
	maxPublic = 4096
	// maxInside bounds the connections of each server that only machines and
	// operators of our own talk to.
	maxInside = 64
	// maxStreams bounds what one HTTP/2 connection has under way: as many as
	// RFC 9113 §6.5.2 recommends, for a portal that sends all its log-ins over one.
	maxStreams = 100
	// stalled is how long a peer may take nothing of an answer over HTTP/2, of
	// which one connection carries many.
	stalled = 15 * time.Second
	// noticeInterval is the pause between two log lines of a kind that peers
	// can cause.
	noticeInterval = 10 * time.Second
)

// httpMetrics counts what all HTTP servers have in common, by server.
type httpMetrics struct {
	open    *prometheus.GaugeVec
	refused *prometheus.CounterVec
	panics  *prometheus.CounterVec
}

func newHTTPMetrics(reg prometheus.Registerer) *httpMetrics {
	m := &httpMetrics{
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "otpgate_http_connections",
			Help: "Open connections, by server.",
		}, []string{"server"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "otpgate_http_connections_refused_total",
			Help: "Connections closed at once because their address had half of all, by server.",
		}, []string{"server"}),
		panics: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "otpgate_http_panics_total",
			Help: "Requests that ended in a panic, which is a fault of otpgate; the log has the stack. By server.",
		}, []string{"server"}),
	}
	reg.MustRegister(m.open, m.refused, m.panics)
	return m
}

// httpServer has a bound on everything that a peer may take its time with.
func httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      15 * time.Second,
		IdleTimeout:       15 * time.Second, // a person at the code page types longer than any that is sensible
		MaxHeaderBytes:    16 << 10,         // the longest: a URL with a request_uri and a jar of transaction cookies
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams, WriteByteTimeout: stalled},
	}
}

// serveHTTP runs srv on l, with TLS if it has a TLSConfig, until ctx ends. Then
// it finishes what is under way within grace, and cuts off what isn't finished
// by then: a peer that stalls must not keep us from stopping. All HTTP of the
// gateway goes through here; name is the server's in logs and metrics.
func (g *gateway) serveHTTP(ctx context.Context, name string, srv *http.Server, l net.Listener, maxOpen int) error {
	notices := &notices{log: g.log.With("server", name), pace: rate.Sometimes{Interval: noticeInterval}}
	bounded := newBoundedListener(l, maxOpen, g.http.open.WithLabelValues(name), g.http.refused.WithLabelValues(name), notices)
	srv.ConnState = bounded.connState
	srv.ErrorLog = log.New(notices, "", 0)
	srv.Handler = logPanics(srv.Handler, notices.log, g.http.panics.WithLabelValues(name))
	done := make(chan error, 1)
	go func() {
		if srv.TLSConfig != nil {
			done <- srv.ServeTLS(bounded, "", "")
		} else {
			done <- srv.Serve(bounded)
		}
	}()
	select {
	case err := <-done:
		return fmt.Errorf("%s server: %w", name, err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err := srv.Shutdown(end)
	if errors.Is(err, context.DeadlineExceeded) {
		notices.log.Warn("time is up: connections that were still busy are cut off", "connections", bounded.count(), "after", grace)
		return srv.Close()
	}
	return err
}

// logPanics logs a panic of h with its stack, counts it, and breaks the
// connection off: what h had answered until then is worth nothing.
func logPanics(h http.Handler, log *slog.Logger, panics prometheus.Counter) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v != http.ErrAbortHandler { //nolint:errorlint // the value itself, by its contract
				panics.Inc()
				// The pattern, not the path: that holds a customer's transaction.
				log.Error("a request ended in a panic", "method", r.Method, "pattern", r.Pattern, "panic", v, "stack", string(debug.Stack()))
			}
			panic(http.ErrAbortHandler)
		}()
		h.ServeHTTP(w, r)
	})
}

// notices is a log for what peers and the machine cause in a server, a line in
// noticeInterval at most. It is also the writer of an http.Server's ErrorLog.
type notices struct {
	log      *slog.Logger
	pace     rate.Sometimes
	withheld atomic.Int64
}

// warn logs message, or counts it for the next line.
func (n *notices) warn(message string) {
	n.withheld.Add(1)
	n.pace.Do(func() { n.log.Warn(message, "withheld", n.withheld.Swap(0)-1) })
}

// Write takes a line of net/http: a failed Accept, misuse by a handler, or a
// handshake that a peer broke off, which scanners and browsers do all day.
func (n *notices) Write(line []byte) (int, error) {
	text := string(bytes.TrimSpace(line))
	if bytes.HasPrefix(line, []byte("http: TLS handshake error")) {
		n.log.Debug(text)
	} else {
		n.warn(text)
	}
	return len(line), nil
}

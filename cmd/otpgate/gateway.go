package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"otpgate/config"
	"otpgate/internal/admin"
	"otpgate/internal/store/seal"
	"otpgate/oidc"
	"otpgate/radius"
	"otpgate/verifier"
)

// grace is how long what is under way may take once the gateway is told to
// stop. Service managers are promised 5 s.
const grace = 4 * time.Second

// mtlsShare is the part of the public connections, one in so many, that the
// portals with a certificate have: they are few, and keep theirs.
const mtlsShare = 4

// gateway is one running gateway: its sockets, its data and its doors.
//
// The order of opening keeps a fault harmless: first the network sockets (a
// taken port changes nothing on disk), then the data, whose file lock keeps a
// second gateway out, then the admin socket, whose stale file only the holder
// of that lock may remove. Closing goes the other way.
type gateway struct {
	cfg     *config.Config
	log     *slog.Logger
	metrics *prometheus.Registry
	http    *httpMetrics

	sockets sockets
	data    *data
	admin   *adminSocket

	gate   *verifier.Verifier
	radius *radius.Server
	radsec struct { // if there are sockets for it
		certificate tls.Certificate
		roots       *x509.CertPool
	}
	factors  firstFactors
	operator *admin.Server
	provider *oidc.Provider
	rotation *seal.Rotation
	public   http.Handler // OIDC and pages
	mtls     http.Handler // OIDC for portals with a certificate, if there is a socket for it
}

// openGateway makes a gateway that is ready to run. Whatever keeps it from
// that is a *usageError, or context.Canceled if ctx ended first, and everything
// opened is closed again.
func openGateway(ctx context.Context, cfg *config.Config, log *slog.Logger) (*gateway, error) {
	g := &gateway{cfg: cfg, log: log, metrics: prometheus.NewRegistry()}
	g.http = newHTTPMetrics(g.metrics)
	g.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := g.open(ctx); err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

func (g *gateway) open(ctx context.Context) (err error) {
	if g.sockets, err = listen(g.cfg); err != nil {
		return err
	}
	if g.data, err = openData(ctx, g.cfg, g.log); err != nil {
		return err
	}
	if g.admin, err = listenAdmin(g.cfg.Listen.AdminSocket); err != nil {
		return err
	}
	return g.wire(ctx)
}

// run serves until ctx ends or a part fails, then stops: no new work, what is
// under way is finished within grace, the data is closed.
func (g *gateway) run(ctx context.Context) error {
	parts, stop := errgroup.WithContext(ctx)
	strict := g.cfg.Listen.TLS != nil
	public := httpServer(hardened(g.public, strict))
	public.TLSConfig = g.data.tls
	forPublic, forInside := connectionLimits()
	if g.sockets.mtls != nil {
		forPortals := forPublic / mtlsShare
		forPublic -= forPortals
		portals := httpServer(hardened(g.mtls, strict))
		portals.TLSConfig = mutualTLS(g.data.tls)
		parts.Go(func() error { return g.serveHTTP(stop, "https_mtls", portals, g.sockets.mtls, forPortals) })
	}
	parts.Go(func() error { return g.serveHTTP(stop, "https", public, g.sockets.https, forPublic) })
	parts.Go(func() error {
		return g.serveHTTP(stop, "metrics", httpServer(g.health()), g.sockets.metrics, forInside)
	})
	parts.Go(func() error { return g.serveHTTP(stop, "admin", g.operator.HTTP(stop), g.admin, forInside) })
	parts.Go(func() error {
		g.rotation.Run(stop)
		return nil
	})
	parts.Go(func() error {
		g.factors.watch(stop, g.log)
		return nil
	})
	parts.Go(func() error {
		g.provider.TendKeys(stop)
		return nil
	})
	for _, conn := range g.sockets.udp {
		parts.Go(func() error { return g.radius.Serve(conn) })
	}
	for _, l := range g.sockets.radsec {
		parts.Go(func() error { return g.radius.ServeTLS(l, g.radsec.certificate, g.radsec.roots) })
	}
	parts.Go(func() error {
		<-stop.Done()
		return g.stopRadius(context.WithoutCancel(stop))
	})
	err := parts.Wait()
	g.factors.close()
	return errors.Join(err, g.data.close())
}

// stopRadius answers what was received, within grace.
func (g *gateway) stopRadius(ctx context.Context) error {
	end, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	err := g.radius.Shutdown(end)
	if errors.Is(err, context.DeadlineExceeded) { // the gear asks again, or turns to its next server
		g.log.Warn("time is up: RADIUS requests are left unanswered", "after", grace, "err", err)
		return nil
	}
	return err
}

// close closes what open has opened, for a gateway that never ran.
func (g *gateway) close() error {
	g.factors.close()
	var errs []error
	if g.admin != nil {
		errs = append(errs, g.admin.Close())
	}
	if g.data != nil {
		errs = append(errs, g.data.close())
	}
	return errors.Join(append(errs, g.sockets.close())...)
}

// health serves what machines ask about the daemon: is it alive, may it be sent
// work, what has it counted. Why it isn't ready stands in the log alone.
func (g *gateway) health() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(g.metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := errors.Join(g.data.err(), g.gate.Ready(r.Context())); err != nil {
			g.log.Error("not ready", "err", err)
			http.Error(w, "not ready: nothing can be accepted, see the log", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

// sockets are the addresses that the gateway listens on.
type sockets struct {
	https, metrics net.Listener
	mtls           net.Listener // nil: there is none
	udp            []*net.UDPConn
	radsec         []net.Listener
}

// listen opens every network socket. After an error the caller closes those
// that it returns.
func listen(cfg *config.Config) (s sockets, err error) {
	if s.https, err = net.Listen("tcp", cfg.Listen.HTTPS); err != nil {
		return s, listenError("listen.https", cfg.Listen.HTTPS, err)
	}
	if cfg.Listen.HTTPSMTLS != "" {
		if s.mtls, err = net.Listen("tcp", cfg.Listen.HTTPSMTLS); err != nil {
			return s, listenError("listen.https_mtls", cfg.Listen.HTTPSMTLS, err)
		}
	}
	if s.metrics, err = net.Listen("tcp", cfg.Listen.Metrics); err != nil {
		return s, listenError("listen.metrics", cfg.Listen.Metrics, err)
	}
	for i, address := range cfg.Radius.UDP {
		key := fmt.Sprintf("radius.udp[%d]", i)
		at, err := net.ResolveUDPAddr("udp", address)
		if err != nil {
			return s, listenError(key, address, err)
		}
		conn, err := net.ListenUDP("udp", at)
		if err != nil {
			return s, listenError(key, address, err)
		}
		s.udp = append(s.udp, conn)
		// A burst waits here while the readers are busy; the kernel caps what
		// it grants, so this can't fail in a way that matters.
		_ = conn.SetReadBuffer(4 << 20)
	}
	if cfg.Radius.TLS == nil {
		return s, nil
	}
	for i, address := range cfg.Radius.TLS.Listen {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return s, listenError(fmt.Sprintf("radius.tls.listen[%d]", i), address, err)
		}
		s.radsec = append(s.radsec, l)
	}
	return s, nil
}

func (s sockets) close() error {
	var errs []error
	for _, l := range []net.Listener{s.https, s.mtls, s.metrics} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	for _, conn := range s.udp {
		errs = append(errs, conn.Close())
	}
	for _, l := range s.radsec {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

func listenError(key, address string, err error) error {
	problem := fmt.Sprintf("can't listen on %s (%s)", address, key)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return &usageError{problem, "another program has that port; stop it, or choose another port in gateway.yaml"}
	case errors.Is(err, syscall.EACCES):
		return &usageError{problem, "ports below 1024 need the CAP_NET_BIND_SERVICE capability; or choose a higher one"}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return &usageError{problem, "this machine doesn't have that address"}
	}
	return &usageError{problem, err.Error()}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"otpgate/config"
	"otpgate/internal/admin"
	"otpgate/radius"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
)

// grace is how long what is under way may take once the gateway is told to
// stop. Service managers are promised 5 s.
const grace = 4 * time.Second

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

	sockets sockets
	data    *data
	admin   net.Listener

	radius   *radius.Server
	operator *admin.Server
	public   http.Handler // OIDC and pages
}

// openGateway makes a gateway that is ready to run. Whatever keeps it from
// that is a *startError, and everything opened is closed again.
func openGateway(ctx context.Context, cfg *config.Config, log *slog.Logger) (*gateway, error) {
	g := &gateway{cfg: cfg, log: log, metrics: prometheus.NewRegistry()}
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
	if g.data, err = openData(ctx, g.cfg); err != nil {
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
	parts.Go(func() error { return g.operator.Serve(stop, g.admin, grace) })
	parts.Go(func() error { return serveHTTP(stop, g.httpServer(g.public), g.sockets.https, true) })
	parts.Go(func() error { return serveHTTP(stop, g.httpServer(g.health()), g.sockets.metrics, false) })
	for _, conn := range g.sockets.udp {
		parts.Go(func() error { return g.radius.Serve(conn) })
	}
	parts.Go(func() error {
		<-stop.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(stop), grace)
		defer cancel()
		return g.radius.Shutdown(end)
	})
	return errors.Join(parts.Wait(), g.data.close())
}

// close closes what open has opened, for a gateway that never ran.
func (g *gateway) close() error {
	var errs []error
	if g.admin != nil {
		errs = append(errs, g.admin.Close())
	}
	if g.data != nil {
		errs = append(errs, g.data.close())
	}
	return errors.Join(append(errs, g.sockets.close())...)
}

// httpServer has a bound on everything that a peer may take its time with.
func (g *gateway) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		TLSConfig:         g.data.tls,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      15 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,                                            // the longest: a URL with a request_uri and a jar of transaction cookies
		ErrorLog:          slog.NewLogLogger(g.log.Handler(), slog.LevelDebug), // handshakes that peers break off
	}
}

func serveHTTP(ctx context.Context, srv *http.Server, l net.Listener, withTLS bool) error {
	done := make(chan error, 1)
	go func() {
		if withTLS {
			done <- srv.ServeTLS(l, "", "")
		} else {
			done <- srv.Serve(l)
		}
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := srv.Shutdown(end); err != nil {
		return errors.Join(err, srv.Close())
	}
	return nil
}

// health serves what machines ask about the daemon: is it alive, may it be sent
// work, what has it counted.
func (g *gateway) health() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(g.metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := g.data.err(); err != nil {
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
	udp            []*net.UDPConn
}

// listen opens every network socket, or none.
func listen(cfg *config.Config) (s sockets, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.https, err = net.Listen("tcp", cfg.Listen.HTTPS); err != nil {
		return s, listenError("listen.https", cfg.Listen.HTTPS, err)
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
	return s, nil
}

func (s sockets) close() error {
	var errs []error
	for _, l := range []net.Listener{s.https, s.metrics} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	for _, conn := range s.udp {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}

func listenError(key, address string, err error) error {
	problem := fmt.Sprintf("can't listen on %s (%s)", address, key)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return &startError{problem, "another program has that port; stop it, or choose another port in gateway.yaml"}
	case errors.Is(err, syscall.EACCES):
		return &startError{problem, "ports below 1024 need the CAP_NET_BIND_SERVICE capability; or choose a higher one"}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return &startError{problem, "this machine doesn't have that address"}
	}
	return &startError{problem, err.Error()}
}

// listenAdmin opens the admin socket for its owner alone. It is called with the
// database locked, so a socket that is there already is a dead gateway's.
func listenAdmin(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == os.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, &startError{"can't replace the admin socket " + path, err.Error()}
		}
	}
	// The mode must be right from the first moment, not after a chmod.
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, &startError{"can't make the admin socket " + path + " (listen.admin_socket)", err.Error()}
	}
	return l, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"golang.org/x/sys/unix"

	"otpgate/config"
	"otpgate/verifier"
)

type serveCmd struct{ configFlag }

// Run runs the gateway until the process is told to stop.
func (c serveCmd) Run(ctx context.Context, term terminal) error {
	cfg, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	log := newLogger(term.err)
	if err := noCore(); err != nil {
		return &usageError{"can't keep this process from dumping core", err.Error()}
	}
	g, err := openGateway(ctx, cfg, log)
	if errors.Is(err, context.Canceled) { // told to stop before it ran
		log.Info("stopped")
		return nil
	}
	if err != nil {
		return err
	}
	if isTerminal(term.out) {
		g.introduce(ctx, term.out)
	}
	if !isTerminal(term.out) || !isTerminal(term.err) { // else it would stand there twice
		g.logStart()
	}
	err = g.run(ctx)
	log.Info("stopped")
	return err
}

// noCore keeps the keys in this process's memory out of core files, and out of
// the reach of other processes of the same user.
func noCore() error {
	return errors.Join(
		unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}),
		unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0),
	)
}

// newLogger logs for a person on a terminal, for machines otherwise.
func newLogger(w io.Writer) *slog.Logger {
	if isTerminal(w) {
		return slog.New(slog.NewTextHandler(w, nil))
	}
	return slog.New(slog.NewJSONHandler(w, nil))
}

type address struct{ what, address string }

func (g *gateway) addresses() []address {
	list := []address{
		{"portals and customers (HTTPS)", g.sockets.https.Addr().String()},
		{"metrics and health (HTTP)", g.sockets.metrics.Addr().String()},
		{"operators (unix socket)", g.admin.Addr().String()},
	}
	if g.sockets.mtls != nil {
		list = append(list, address{"portals with a certificate", g.sockets.mtls.Addr().String()})
	}
	for _, conn := range g.sockets.udp {
		list = append(list, address{"network gear (RADIUS, UDP)", conn.LocalAddr().String()})
	}
	for _, l := range g.sockets.radsec {
		list = append(list, address{"network gear (RADIUS, TLS)", l.Addr().String()})
	}
	return list
}

// logStart is introduce for machines.
func (g *gateway) logStart() {
	for _, at := range g.addresses() {
		g.log.Info("listening", "for", at.what, "address", at.address)
	}
	g.log.Info("running", "data_dir", absolute(g.cfg.DataDir), "master_key_file", absolute(g.cfg.MasterKeyFile))
}

// absolute is path for a reader who doesn't know our working directory.
func absolute(path string) string {
	if full, err := filepath.Abs(path); err == nil {
		return full
	}
	return path
}

// introduce says in a few lines what runs, where its data is and, as long as
// there is nobody in it, what to do next.
func (g *gateway) introduce(ctx context.Context, w io.Writer) {
	fmt.Fprintln(w, "otpgate is running. It listens for")
	for _, at := range g.addresses() {
		fmt.Fprintf(w, "  %-32s %s\n", at.what, at.address)
	}
	fmt.Fprintf(w, "Its data is in %s; back that up, and %s apart from it.\n", absolute(g.cfg.DataDir), absolute(g.cfg.MasterKeyFile))
	somebody := errors.New("there is somebody")
	if err := g.gate.Users(ctx, "", func(verifier.User) error { return somebody }); err == nil {
		user := "taro@" + g.cfg.Realms[0].ID
		fmt.Fprintf(w, "Next, in another terminal:\n  otpgate user add %s\n  otpgate token create %[1]s --in-service\n", user)
	}
	fmt.Fprint(w, "Ctrl-C stops it.\n\n")
}

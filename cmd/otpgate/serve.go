package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"otpgate/config"

	"golang.org/x/sys/unix"
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
		return &startError{"can't keep this process from dumping core", err.Error()}
	}
	g, err := openGateway(ctx, cfg, log)
	if err != nil {
		return err
	}
	for _, at := range g.addresses() {
		log.Info("listening", "for", at.what, "address", at.address)
	}
	if isTerminal(term.out) {
		g.introduce(term.out)
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
	for _, conn := range g.sockets.udp {
		list = append(list, address{"network gear (RADIUS, UDP)", conn.LocalAddr().String()})
	}
	return list
}

// introduce says in a few lines what runs, where its data is and what to do
// next.
func (g *gateway) introduce(w io.Writer) {
	fmt.Fprintln(w, "otpgate is running. It listens for")
	for _, at := range g.addresses() {
		fmt.Fprintf(w, "  %-32s %s\n", at.what, at.address)
	}
	fmt.Fprintf(w, "Its data is in %s; back that up, and %s apart from it.\n", g.cfg.DataDir, g.cfg.MasterKeyFile)
	fmt.Fprint(w, "Next, in another terminal:\n  otpgate user add taro@staff\n  otpgate token create taro@staff --in-service\nCtrl-C stops it.\n\n")
}

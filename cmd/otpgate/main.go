// Command otpgate is the gateway and its operator's command line.
//
// main.go parses and dispatches; serve.go and gateway.go start and stop the
// daemon, data.go, tls.go and adminsocket.go what it keeps and listens on,
// http.go and listener.go how it serves HTTP, wire.go what it is made of;
// demo.go runs a throw-away one; user.go, token.go and audit.go talk to a
// running daemon over its unix socket; output.go is how they print, usage.go
// what is said when they were typed wrong. So do
// import.go and batch.go, with progress.go before a terminal, clock.go, and
// radius.go, which shows what the RADIUS door has seen;
// oidccheck.go tells portals' engineers what to send, with or without a daemon;
// and key.go and backup.go, with their daemon's side in sealing.go and
// backup.go; restore.go works without one, on the format in archive.go.
//
// Exit codes: 0 done, 1 refused (the message says why and what to do), 2 wrong
// usage or configuration.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"

	"otpgate/config"
	"otpgate/internal/admin"
)

const (
	exitDone    = 0
	exitRefused = 1
	exitUsage   = 2
)

type commandLine struct {
	Serve   serveCmd   `cmd:"" help:"Run the gateway."`
	Demo    demoCmd    `cmd:"" help:"Run a throw-away gateway on loopback with a demo portal, a customer and an employee."`
	Config  configCmd  `cmd:"" help:"Check the configuration, print its schema, or write a first one."`
	User    userCmd    `cmd:"" help:"Users: add, apply, show, list, unlock, remove."`
	Token   tokenCmd   `cmd:"" help:"Tokens: create, import, assign, show, list, start, suspend, resume, unusable, reissue, release."`
	Batch   batchCmd   `cmd:"" help:"Imported tokens: list, show, check, release, discard."`
	Card    cardCmd    `cmd:"" help:"Confirmation cards: issue, import, show, unlock, fallback."`
	Audit   auditCmd   `cmd:"" help:"The audit log."`
	Radius  radiusCmd  `cmd:"" help:"The RADIUS door: what came from each client."`
	OIDC    oidcCmd    `cmd:"" name:"oidc" help:"The OIDC door: what a portal must send, and what is weak."`
	Key     keyCmd     `cmd:"" help:"The keys that seal the database: show, rotate."`
	Clock   clockCmd   `cmd:"" help:"This machine's clock, where it was wrong: show, accept."`
	Backup  backupCmd  `cmd:"" help:"Take a backup of the running gateway."`
	Restore restoreCmd `cmd:"" help:"Restore a backup where no data is yet, or prove one."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// usageError is a fault that whoever started otpgate has to put right: in what
// was typed, in the configuration or on the machine. It ends with exitUsage.
type usageError struct {
	problem string
	hint    string
}

func (e *usageError) Error() string {
	if e.hint == "" {
		return e.problem
	}
	return e.problem + ": " + e.hint
}

// terminal is what a command reads from and prints to.
type terminal struct {
	in       io.Reader
	out, err io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], terminal{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}

// run is the whole program: it parses args, runs the command and returns the
// exit code.
func run(ctx context.Context, args []string, term terminal) int {
	var cli commandLine
	exited := -1
	parser, err := kong.New(&cli,
		kong.Name("otpgate"),
		kong.Description("A gateway that decides whether a one-time password is right, for banking portals (OIDC) and network gear (RADIUS)."),
		kong.UsageOnError(),
		kong.Writers(term.out, term.err),
		kong.Exit(func(code int) { exited = code }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(term),
	)
	if err != nil {
		panic(err) // the command line's own structs are wrong
	}
	parsed, err := parser.Parse(habits(args))
	if exited >= 0 { // --help has printed
		return exited
	}
	if err != nil {
		fmt.Fprintf(term.err, "otpgate: %s\nTry: %s\n", err, helpFor(err))
		return exitUsage
	}
	return report(term, parsed.Run())
}

// report prints what kept a command from being done and returns the exit code.
func report(term terminal, err error) int {
	var faults config.Faults
	var usage *usageError
	var problem *admin.Problem
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &faults):
		printFaults(term.err, faults)
		return exitUsage
	case errors.As(err, &usage):
		fmt.Fprintf(term.err, "otpgate: %s\n", usage)
		return exitUsage
	case errors.As(err, &problem):
		fmt.Fprintf(term.err, "otpgate: %s\n", problem)
	default:
		fmt.Fprintf(term.err, "otpgate: %s\n", err)
	}
	return exitRefused
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(term terminal) error {
	_, err := fmt.Fprintf(term.out, "otpgate %s\n", version())
	return err
}

// version is what the Go tool has recorded in the binary.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version + " " + info.GoVersion
	}
	return "unknown"
}

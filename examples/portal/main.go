// The program portal is a small banking portal to try otpgate with: log-in by
// number and password here, the one-time password at the gateway.
//
//	portal -make-key data      makes data/portal.key and data/portal.jwks.json
//	portal -key data/portal.key -ca data/tls.crt
//
// gateway.yaml has to know it, as README.md shows.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"otpgate/examples/portal/relyingparty"
)

// Time limits of the server: its pages are small, and the gateway is given ten
// seconds to answer.
const (
	readTimeout  = 10 * time.Second
	writeTimeout = 40 * time.Second
	idleTimeout  = time.Minute
	stopTimeout  = 5 * time.Second
)

// options are the flags.
type options struct {
	listen, issuer, clientID, acr, key, ca, customers, makeKey string
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:8080", "`address` of this portal, on loopback; its redirect_uri is http://localhost:PORT/callback")
	flag.StringVar(&o.issuer, "issuer", "https://localhost:8443", "the gateway's `URL`: oidc.issuer in gateway.yaml")
	flag.StringVar(&o.clientID, "client-id", "portal", "this portal's `id` in gateway.yaml")
	flag.StringVar(&o.acr, "acr", "urn:otpgate:acr:otp", "the authentication context to ask for")
	flag.StringVar(&o.key, "key", "", "`file` with the private key that -make-key has made")
	flag.StringVar(&o.ca, "ca", "", "`file` with the gateway's certificate, if it is self-signed")
	flag.StringVar(&o.customers, "customers", "00123456789", "contract `numbers` of the throw-away customers, separated by commas")
	flag.StringVar(&o.makeKey, "make-key", "", "make portal.key and portal.jwks.json in `directory`, and exit")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "portal:", err)
		os.Exit(2)
	}
}

func run(ctx context.Context, o options) error {
	if o.makeKey != "" {
		keyFile, jwksFile, err := relyingparty.MakeKey(o.makeKey)
		if err != nil {
			return err
		}
		fmt.Printf("made %s (for this portal: -key) and %s (for gateway.yaml: jwks_file)\n", keyFile, jwksFile)
		return nil
	}
	if o.key == "" {
		return errors.New("-key is missing: -make-key DIRECTORY makes one")
	}
	key, err := relyingparty.ReadKey(o.key)
	if err != nil {
		return err
	}
	client, err := relyingparty.NewHTTPClient(o.ca)
	if err != nil {
		return err
	}
	listener, err := listen(ctx, o.listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	url := fmt.Sprintf("http://localhost:%d", listener.Addr().(*net.TCPAddr).Port)
	portal, err := relyingparty.New(relyingparty.Config{
		Issuer: o.issuer, ClientID: o.clientID, Key: key, URL: url, ACR: o.acr, Accounts: accounts(o.customers),
		HTTP: client, Now: time.Now, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	fmt.Printf("portal on %s, gateway %s\n", url, o.issuer)
	if err := portal.Reach(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "portal: nobody can log in until the gateway answers:", err)
	}
	return serve(ctx, listener, portal)
}

// listen refuses addresses that others could reach: passwords would go there
// in the clear.
func listen(ctx context.Context, address string) (net.Listener, error) {
	resolved, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("-listen: %w", err)
	}
	if !resolved.IP.IsLoopback() {
		return nil, fmt.Errorf("-listen %s: must be on loopback, since this portal speaks plain http", address)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("another program has %s; choose another address with -listen, and its port in redirect_uris", address)
	}
	return listener, err
}

// accounts gives each customer a password for this run; the log-in page shows
// it.
func accounts(customers string) map[string]string {
	passwords := make(map[string]string)
	for number := range strings.SplitSeq(customers, ",") {
		if number = strings.TrimSpace(number); number != "" {
			passwords[number] = strings.ToLower(rand.Text()[:8])
		}
	}
	return passwords
}

func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler: handler, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	return server.Shutdown(ctx)
}

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"otpgate/config"
	"otpgate/examples/portal/relyingparty"
	"otpgate/internal/admin"
	"otpgate/oidc"
	"otpgate/verifier"
	"otpgate/verifier/otp"
)

// The people of the demo.
const (
	demoCustomer = "10000000001" // a contract number
	demoPassword = "sakura-2026" // the portal's, which shows it
	demoEmployee = "taro"
)

type demoCmd struct{}

// Run runs a gateway, a portal and their people in a temporary directory, until
// it is told to stop.
func (demoCmd) Run(ctx context.Context, term terminal) (err error) {
	dir, err := os.MkdirTemp("", "otpgate-demo-")
	if err != nil {
		return &usageError{"can't make a temporary directory", err.Error()}
	}
	defer func() {
		if err = errors.Join(err, os.RemoveAll(dir)); err == nil {
			fmt.Fprintln(term.out, "The demo has ended, and all of it is removed.")
		}
	}()
	d, err := newDemo(dir)
	if err != nil {
		return err
	}
	// Only what is wrong: the screen belongs to the codes.
	log := slog.New(slog.NewTextHandler(term.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return d.run(ctx, term, log)
}

// demo is a throw-away gateway with whoever uses it.
type demo struct {
	dir     string
	portal  net.Listener
	config  string   // path
	portals string   // the portal's origin
	taken   []string // what listens elsewhere than usual, in words
	people  []*demoPerson
}

// demoPerson has a token that the demo shows the codes of.
type demoPerson struct {
	name, realm string
	key         []byte
	params      otp.Params
	shown       int64 // the step that was printed last
}

// demoConfig is the demo's gateway.yaml: data directory, HTTPS, metrics and
// RADIUS addresses, port of the issuer, origin and keys of the portal.
const demoConfig = `data_dir: data
listen: { https: %q, metrics: %q }
realms:
  - id: staff
    service_id: "0001"
    name: { ja: 行内システム, en: Internal systems }
    otp: { period: 30 }
    lockout: { consecutive: 10, unlock_after: 30m }
  - id: retail
    service_id: "5001"
    name: { ja: 見本信用組合, en: Example Credit Union }
    otp: { period: 60 }
radius:
  udp: [%q]
  clients:
    - { name: vpn, address: 127.0.0.1/32, secret_file: data/vpn.secret, realm: staff }
oidc:
  issuer: https://localhost:%d
  clients:
    - { id: portal, realm: retail, redirect_uris: [%q], jwks_file: portal.jwks.json }
`

func newDemo(dir string) (_ *demo, err error) {
	portal, err := listenNear(8080)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, portal.Close())
		}
	}()
	d := &demo{
		dir: dir, portal: portal, config: filepath.Join(dir, "gateway.yaml"),
		portals: fmt.Sprintf("http://localhost:%d", portal.Addr().(*net.TCPAddr).Port),
	}
	if _, _, err := relyingparty.MakeKey(dir); err != nil {
		return nil, err
	}
	d.tell("portal", 8080, portal.Addr().(*net.TCPAddr).Port)
	https, err := freePort(8443)
	if err != nil {
		return nil, err
	}
	d.tell("gateway", 8443, https)
	metrics, err := freePort(9464)
	if err != nil {
		return nil, err
	}
	d.tell("metrics address", 9464, metrics)
	radius := "127.0.0.1:1812"
	if probe, err := net.ListenPacket("udp", radius); err != nil {
		radius = "127.0.0.1:0"
		d.taken = append(d.taken, "Port 1812 is taken, so RADIUS has another one.")
	} else if err := probe.Close(); err != nil {
		return nil, err
	}
	text := fmt.Sprintf(demoConfig, fmt.Sprintf("127.0.0.1:%d", https), fmt.Sprintf("127.0.0.1:%d", metrics), radius, https, d.portals+"/callback")
	if err := os.WriteFile(d.config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return d, nil
}

// tell notes that something is not where it usually is.
func (d *demo) tell(what string, usual, port int) {
	if port != usual {
		d.taken = append(d.taken, fmt.Sprintf("Port %d is taken, so the %s has %d.", usual, what, port))
	}
}

// listenNear listens on port, or on a free one if it is taken.
func listenNear(port int) (net.Listener, error) {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		l, err = net.Listen("tcp", "127.0.0.1:0")
	}
	return l, err
}

// freePort is port, or a free one if it is taken.
func freePort(port int) (int, error) {
	l, err := listenNear(port)
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

func (d *demo) run(ctx context.Context, term terminal, log *slog.Logger) error {
	cfg, err := config.Load(d.config)
	if err != nil {
		return errors.Join(err, d.portal.Close())
	}
	g, err := openGateway(ctx, cfg, log)
	if errors.Is(err, context.Canceled) { // told to stop before it ran
		return d.portal.Close()
	}
	if err != nil {
		return errors.Join(err, d.portal.Close())
	}
	site, err := d.newPortal(cfg, log)
	if err != nil {
		return errors.Join(err, g.close(), d.portal.Close())
	}
	parts, stop := errgroup.WithContext(ctx)
	parts.Go(func() error { return g.run(stop) })
	parts.Go(func() error { return g.serveHTTP(stop, "demo portal", httpServer(site), d.portal, maxInside) })
	parts.Go(func() error {
		err := d.hire(stop, admin.NewClient(cfg.Listen.AdminSocket))
		if stop.Err() != nil { // told to stop meanwhile
			return nil //nolint:nilerr // or another part has failed, whose error counts
		}
		if err != nil {
			return err
		}
		d.introduce(term.out, g)
		return d.showCodes(stop, term.out)
	})
	return parts.Wait()
}

func (d *demo) newPortal(cfg *config.Config, log *slog.Logger) (http.Handler, error) {
	key, err := relyingparty.ReadKey(filepath.Join(d.dir, "portal.key"))
	if err != nil {
		return nil, err
	}
	certificate, _ := selfSignedFiles(cfg)
	client, err := relyingparty.NewHTTPClient(certificate)
	if err != nil {
		return nil, err
	}
	return relyingparty.New(relyingparty.Config{
		Issuer: cfg.OIDC.Issuer, ClientID: "portal", Key: key, URL: d.portals, ACR: oidc.DefaultACR,
		Accounts: map[string]string{demoCustomer: demoPassword},
		HTTP:     client, Now: time.Now, Logger: log,
	})
}

// hire makes the demo's people, as an operator would.
func (d *demo) hire(ctx context.Context, c *admin.Client) error {
	d.people = []*demoPerson{
		{name: demoCustomer, realm: "retail", params: otp.Params{Type: otp.TOTP, Algorithm: otp.SHA1, Digits: 6, Period: 60}},
		{name: demoEmployee, realm: "staff", params: otp.Params{Type: otp.TOTP, Algorithm: otp.SHA1, Digits: 6, Period: 30}},
	}
	for _, p := range d.people {
		p.key = make([]byte, 20)
		_, _ = rand.Read(p.key)
		if _, err := c.AddUser(ctx, admin.NewUser{Realm: p.realm, Name: p.name}); err != nil {
			return err
		}
		_, err := c.CreateToken(ctx, admin.NewToken{Realm: p.realm, User: p.name, Key: p.key, Carrier: verifier.Software, InService: true})
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) introduce(w io.Writer, g *gateway) {
	fmt.Fprintf(w, `otpgate demo: a gateway, a bank's portal, a customer and an employee, on loopback.
All of it is in %s and goes when you press Ctrl-C.
%s
A customer logs in. Open
    %s
with contract number %s and password %s, then type the code below.
The gateway's certificate is its own, so the browser warns once: go on.

An employee opens the VPN. In another terminal (Debian: apt-get install freeradius-utils)
    echo "User-Name=%s,User-Password=$(cat %s),Message-Authenticator=0x00" |
      radclient -x -S %s \
      %s auth
A second time with the same code it is refused: each code works once.

What was decided, and why:
    %s audit tail --socket %s

`, d.dir, strings.Join(append(d.taken, ""), "\n"), d.portals, demoCustomer, demoPassword, demoEmployee, d.codeFile(demoEmployee), filepath.Join(d.dir, "data", "vpn.secret"),
		g.sockets.udp[0].LocalAddr(), self(), g.admin.Addr())
}

// self is how this program was started, for people to type.
func self() string {
	if strings.Contains(os.Args[0], string(filepath.Separator)+"go-build") {
		return "go run ./cmd/otpgate"
	}
	return os.Args[0]
}

// codeFile holds a person's current code, so that a command can be typed once
// and used at any time.
func (d *demo) codeFile(name string) string { return filepath.Join(d.dir, name+".code") }

// showCodes prints the current codes: on a terminal with the seconds that are
// left, side by side if it is wide enough, else whenever they change.
func (d *demo) showCodes(ctx context.Context, w io.Writer) error {
	live, back := isTerminal(w), ""
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		now := time.Now()
		var line []string
		for _, p := range d.people {
			step := p.params.Step(now)
			code := otp.NewGenerator(p.key, p.params).Code(step)
			if step != p.shown {
				p.shown = step
				if err := replaceFile(d.codeFile(p.name), []byte(code), 0o600); err != nil {
					return err
				}
				if !live {
					fmt.Fprintf(w, "%s@%s: %s\n", p.name, p.realm, code)
				}
			}
			left := int64(p.params.Period) - now.Unix()%int64(p.params.Period)
			line = append(line, fmt.Sprintf("%s: %s %s (%2d s)", p.name, code[:3], code[3:], left))
		}
		if live {
			text := "  " + strings.Join(line, "     ")
			if width := columns(w); len(text) >= width {
				text = "  " + strings.Join(line, "\n  ")
			}
			fmt.Fprintf(w, "%s%s", back, text)
			back = "\r" + strings.Repeat("\x1b[A", strings.Count(text, "\n")) + "\x1b[J" // to where it began, and clear
		}
		select {
		case <-ctx.Done():
			fmt.Fprintln(w)
			return nil
		case <-tick.C:
		}
	}
}

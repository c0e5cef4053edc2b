// Package directory asks LDAP servers whether a password is a person's, and in
// which groups the person is: one of the first factors of the RADIUS door.
//
// It owns the connections and who is asked. A password leaves only over TLS to a
// server whose certificate was verified (tls.go). A person's entry is found by a
// search as the service account, or its name is made from a template
// (config.go, search.go); then a bind with the typed password is the whole
// check (bind.go). Searches and binds have connections of their own (pool.go),
// so that nothing is ever searched with a person's rights.
//
// A server is in one of three states (failover.go):
//
//	up        asked, in the order of the configuration
//	resting   it failed less than restFailed ago: asked after all that are up
//	refusing  it refused the service account less than restRefused ago: not
//	          asked, since each refusal may count towards a lock of the account
//
// It does not own what a right or wrong password leads to, the codes, or any
// count of failures: those are the gate's, and the directory has its own.
package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"
	"unicode/utf8"
)

var (
	// ErrUnavailable is that no server could say: down, silent, or too slow.
	ErrUnavailable = errors.New("no LDAP server could be asked")
	// ErrSetup is that a server refuses what the configuration asks of it.
	ErrSetup = errors.New("the configuration doesn't fit the LDAP server")
)

// Bounds on what a door hands in.
const (
	// maxUser is in octets; a User-Name has 253 (RFC 2865 §5.1), and some more
	// once it is in UTF-8.
	maxUser = 512
	// maxPassword is in octets: more than a person types, and more than the 128
	// of a User-Password (RFC 2865 §5.2).
	maxPassword = 1024
)

// maxAsking is how many requests are under way at once, and so how many
// connections of each kind one server has at most: enough for a thousand
// log-ins a second at 10 ms each, and few for a directory.
const maxAsking = 16

// Directory is one directory, on one or more servers. Make it with New.
type Directory struct {
	cfg     Config
	servers []*server // in the order of the configuration
	slots   chan struct{}

	leftOut leftOut
	unready atomic.Bool // it couldn't do what it was asked, and hasn't since
}

// New returns the directory of cfg. It asks no server; see Ping.
func New(cfg Config) (*Directory, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("directory %s: %w", cfg.Name, err)
	}
	if cfg.Limit == 0 {
		cfg.Limit = defaultLimit
	}
	d := &Directory{cfg: cfg, slots: make(chan struct{}, maxAsking)}
	for _, address := range cfg.Servers {
		s, err := newServer(&d.cfg, address)
		if err != nil {
			return nil, fmt.Errorf("directory %s: %w", cfg.Name, err)
		}
		d.servers = append(d.servers, s)
	}
	return d, nil
}

// Check reports whether password is user's. An error is that nobody could say:
// ErrUnavailable, ErrSetup, or that of ctx. An empty password is never right.
func (d *Directory) Check(ctx context.Context, user, password string) (bool, error) {
	var right bool
	var err error
	// An empty password would be an unauthenticated bind, which servers accept
	// for every name (RFC 4513 §5.1.2). Neither it nor an impossible name tells
	// an outsider who exists: they are wrong for everybody.
	if possible(user) && password != "" && len(password) <= maxPassword {
		err = d.ask(ctx, func(ctx context.Context, s *server) (err error) {
			right, err = d.checkAt(ctx, s, user, password)
			return err
		})
	}
	d.cfg.Metrics.checked(d.cfg.Name, right, err)
	return right, err
}

// checkAt is Check at one server.
func (d *Directory) checkAt(ctx context.Context, s *server, user, password string) (bool, error) {
	dn, err := d.dnOf(ctx, s, user)
	if err != nil {
		return false, err
	}
	if dn == "" {
		// Without a bind the answer would come sooner than for a person who exists.
		_, _, err = s.bindAs(ctx, d.nobody(), password)
		return false, err
	}
	right, why, err := s.bindAs(ctx, dn, password)
	if why != "" {
		d.log(ctx, slog.LevelInfo, "The directory refuses an account, whatever the password", slog.String("user", user), slog.String("reason", why))
	}
	return right, err
}

// Groups returns the groups of user, by name and in order; none if the user is
// unknown. What can't be a group here is left out, and logged once. The errors
// are Check's.
func (d *Directory) Groups(ctx context.Context, user string) ([]string, error) {
	if !d.cfg.Groups.any() || !possible(user) {
		return nil, nil
	}
	var dns []string
	err := d.ask(ctx, func(ctx context.Context, s *server) (err error) {
		dns, err = d.groupsAt(ctx, s, user)
		return err
	})
	d.cfg.Metrics.grouped(d.cfg.Name, err)
	if err != nil {
		return nil, err
	}
	return d.names(dns), nil
}

// Ping asks every server for what Check and Groups will need of it, over a
// connection of its own, and returns what is wrong with which.
func (d *Directory) Ping(ctx context.Context) error {
	faults := make([]error, len(d.servers))
	var all sync.WaitGroup
	for i, s := range d.servers {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, d.cfg.Limit)
			defer cancel()
			if err := d.pingAt(ctx, s); err != nil {
				faults[i] = fmt.Errorf("%s: %w", s.address, err)
			}
		})
	}
	all.Wait()
	err := errors.Join(faults...)
	if err != nil {
		d.unready.Store(true)
	}
	return err
}

// Close closes the connections: the idle ones now, the others when their request
// has ended. Afterwards every question fails.
func (d *Directory) Close() {
	for _, s := range d.servers {
		s.searches.close()
		s.binds.close()
	}
}

// possible reports whether user can be anybody's name.
func possible(user string) bool {
	return user != "" && len(user) <= maxUser && utf8.ValidString(user) &&
		!strings.ContainsFunc(user, func(r rune) bool { return unicode.IsControl(r) })
}

// log is a line about the directory.
func (d *Directory) log(ctx context.Context, level slog.Level, message string, attrs ...slog.Attr) {
	d.cfg.Log.LogAttrs(ctx, level, message, append([]slog.Attr{slog.String("directory", d.cfg.Name)}, attrs...)...)
}

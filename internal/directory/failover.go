package directory

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

const (
	// restFailed is how long a server that failed is asked only after all others.
	// Until then no log-in waits for its time-out.
	restFailed = 30 * time.Second
	// restRefused is how long a server that refused the service account isn't
	// asked: directories lock an account after some ten refusals in half an hour.
	restRefused = 5 * time.Minute
)

// server is one of the servers of a directory.
type server struct {
	cfg      *Config // the directory's
	address  string  // as configured
	hostPort string
	startTLS bool
	tls      *tls.Config

	searches pool // bound as the service account
	binds    pool // bound as whoever was checked last, or nobody

	mu      sync.Mutex // guards the below
	rests   time.Time  // until then
	refusal error      // what it refused the service account with, if it rests for that
}

func newServer(cfg *Config, address string) (*server, error) {
	hostPort, host, startTLS, err := parseServer(address)
	if err != nil {
		return nil, err
	}
	s := &server{cfg: cfg, address: address, hostPort: hostPort, startTLS: startTLS, tls: &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: cfg.Roots, ServerName: host,
	}}
	s.searches = pool{open: s.dialAccount, now: cfg.Now}
	s.binds = pool{open: s.dial, now: cfg.Now}
	return s, nil
}

// ask has do ask one server after the other, until one answers. All of it, the
// wait for a slot too, takes no longer than the limit; a server that isn't the
// last has its share of it, so that a silent one leaves time for the next.
func (d *Directory) ask(ctx context.Context, do func(context.Context, *server) error) error {
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Limit)
	defer cancel()
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
	case <-ctx.Done():
		return fmt.Errorf("directory %s: %w: too many ask at once: %w", d.cfg.Name, ErrUnavailable, ctx.Err())
	}
	order, faults := d.order()
	share := d.cfg.Limit / time.Duration(max(len(order), 1))
	var failed []*server
	for i, s := range order {
		if i == len(order)-1 {
			share = d.cfg.Limit
		}
		err := within(ctx, share, s, do)
		if err == nil {
			s.rest(0, nil)
			d.tell(ctx, failed, faults[len(faults)-len(failed):])
			if d.unready.Swap(false) {
				d.log(ctx, slog.LevelInfo, "A directory that wasn't ready answers again", slog.String("server", s.address))
			}
			return nil
		}
		if errors.Is(caller.Err(), context.Canceled) {
			return fmt.Errorf("directory %s: %w", d.cfg.Name, caller.Err())
		}
		s.failed(err)
		failed, faults = append(failed, s), append(faults, fmt.Errorf("%s: %w", s.address, err))
		if ctx.Err() != nil {
			break
		}
	}
	d.unready.Store(true)
	return fmt.Errorf("directory %s: %w: %w", d.cfg.Name, ErrUnavailable, errors.Join(faults...))
}

func within(ctx context.Context, limit time.Duration, s *server, do func(context.Context, *server) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return do(ctx, s)
}

// order is who is asked: those that are up, then those that rest. The others
// have refused the service account; why is in refusals.
func (d *Directory) order() (order []*server, refusals []error) {
	now := d.cfg.Now()
	var resting []*server
	for _, s := range d.servers {
		s.mu.Lock()
		switch rests := now.Before(s.rests); {
		case rests && s.refusal != nil:
			refusals = append(refusals, fmt.Errorf("%s: not asked until %s: %w", s.address, s.rests.Format(time.TimeOnly), s.refusal))
		case rests:
			resting = append(resting, s)
		default:
			order = append(order, s)
		}
		s.mu.Unlock()
	}
	return append(order, resting...), refusals
}

// failed has s rest, as long as err asks for.
func (s *server) failed(err error) {
	s.cfg.Metrics.failed(s.cfg.Name, s.address)
	if errors.Is(err, errAccount) {
		s.rest(restRefused, err)
		return
	}
	s.rest(restFailed, nil)
}

func (s *server) rest(d time.Duration, refusal error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rests, s.refusal = s.cfg.Now().Add(d), refusal
}

// tell logs what failed before somebody else answered. Where nobody did, the
// caller has the error.
func (d *Directory) tell(ctx context.Context, failed []*server, faults []error) {
	for i, s := range failed {
		d.log(ctx, slog.LevelWarn, "An LDAP server failed; the next one answered",
			slog.String("server", s.address), slog.Any("error", faults[i]))
	}
}

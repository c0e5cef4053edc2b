package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"otpgate/verifier"
)

// Clock is the gateway's clock, and what it is held against.
type Clock struct {
	Now     time.Time `json:"now"`
	Highest time.Time `json:"highest,omitzero"` // at which anything was decided; absent: nothing was
	// BehindSeconds is how far Now is behind Highest. While Accepting is false,
	// nobody passes.
	BehindSeconds int64 `json:"behind_seconds"`
	Accepting     bool  `json:"accepting"`
	// Floor is the time of the last restore: no code from before it is accepted.
	Floor time.Time `json:"floor,omitzero"`
}

// AcceptedClock is the clock after it was accepted.
type AcceptedClock struct {
	Clock
	verifier.Receipt
}

func (s *Server) showClock(r *http.Request, out *json.Encoder) error {
	c, err := s.clock(r.Context())
	if err != nil {
		return err
	}
	return out.Encode(c)
}

func (s *Server) acceptClock(r *http.Request, out *json.Encoder) error {
	var in Step
	if err := decode(r, &in); err != nil {
		return err
	}
	var done AcceptedClock
	var err error
	if done.Receipt, err = s.Verifier.AcceptClock(r.Context(), in.by(r)); err != nil {
		return err
	}
	if done.Clock, err = s.clock(r.Context()); err != nil {
		return err
	}
	return out.Encode(done)
}

func (s *Server) clock(ctx context.Context) (Clock, error) {
	c, err := verifier.ReadClock(ctx, s.Verifier.Records, s.Verifier.Now())
	return Clock{
		Now: c.Now, Highest: c.Highest, BehindSeconds: int64(c.Behind() / time.Second), Accepting: !c.Stops(), Floor: c.Floor,
	}, err
}

// Clock returns the gateway's clock, and what it is held against.
func (c *Client) Clock(ctx context.Context) (k Clock, err error) {
	return k, c.call(ctx, http.MethodGet, "/v1/clock", nil, &k)
}

// AcceptClock takes the gateway's clock for right, though it was ahead before.
func (c *Client) AcceptClock(ctx context.Context, s Step) (k AcceptedClock, err error) {
	return k, c.call(ctx, http.MethodPost, "/v1/clock/accept", s, &k)
}

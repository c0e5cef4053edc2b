package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// SigningKeys are the keys that sign ID tokens.
type SigningKeys interface {
	List() []SigningKey
	// Rotate publishes a next key for each algorithm, where there is none; or, if
	// the keys have leaked, makes new ones sign at once and withdraws the others.
	// by is who asked.
	Rotate(ctx context.Context, by string, leaked bool) error
}

// SigningKey is one key.
type SigningKey struct {
	ID        string    `json:"id"` // the kid of the key set
	Algorithm string    `json:"algorithm"`
	State     string    `json:"state"`          // next, signing, retired
	Published time.Time `json:"published"`      // since
	Signs     time.Time `json:"signs"`          // from
	Until     time.Time `json:"until,omitzero"` // it stops signing (signing), or is removed (retired)
}

// SigningRotation asks for a rotation of them.
type SigningRotation struct {
	Leaked bool `json:"leaked,omitempty"`
}

func (s *Server) showSigningKeys(_ *http.Request, out *json.Encoder) error {
	return out.Encode(s.SigningKeys.List())
}

func (s *Server) rotateSigningKeys(r *http.Request, out *json.Encoder) error {
	var in SigningRotation
	if err := decode(r, &in); err != nil {
		return err
	}
	if err := s.SigningKeys.Rotate(r.Context(), peer(r), in.Leaked); err != nil {
		return err
	}
	return out.Encode(s.SigningKeys.List())
}

// SigningKeys returns the keys that sign ID tokens.
func (c *Client) SigningKeys(ctx context.Context) (keys []SigningKey, err error) {
	return keys, c.call(ctx, http.MethodGet, "/v1/keys/oidc", nil, &keys)
}

// RotateSigningKeys begins a rotation of them.
func (c *Client) RotateSigningKeys(ctx context.Context, in SigningRotation) (keys []SigningKey, err error) {
	return keys, c.call(ctx, http.MethodPost, "/v1/keys/oidc/rotate", in, &keys)
}

package admin

import (
	"context"
	"encoding/json"
	"net/http"
)

// Keys are the keys that seal what is secret in the database.
type Keys interface {
	Status() KeyStatus
	// Rotate begins to replace the data keys, and the master key by the one in
	// newMaster (made if it isn't there), unless that is "". by is who asked. The
	// error is a *verifier.Refusal if it can't be done now.
	Rotate(ctx context.Context, by, newMaster string) error
}

// KeyStatus says which keys there are and how far a rotation is.
type KeyStatus struct {
	Seals      uint32   `json:"seals"`         // number of the data key that seals
	Old        []uint32 `json:"old,omitempty"` // those that a rotation is about to remove
	Phase      string   `json:"phase"`         // idle, resealing, settling, stalled
	Resealed   int      `json:"resealed"`      // values sealed anew since the gateway's start
	Unreadable int      `json:"unreadable,omitempty"`
	Problem    string   `json:"problem,omitempty"` // why it has stalled
}

// Rotation asks for a rotation.
type Rotation struct {
	NewMaster string `json:"new_master,omitempty"` // path of a new master key's file, on the gateway's machine
}

func (s *Server) showKeys(_ *http.Request, out *json.Encoder) error {
	return out.Encode(s.Keys.Status())
}

func (s *Server) rotateKeys(r *http.Request, out *json.Encoder) error {
	var in Rotation
	if err := decode(r, &in); err != nil {
		return err
	}
	if err := s.Keys.Rotate(r.Context(), peer(r), in.NewMaster); err != nil {
		return err
	}
	return out.Encode(s.Keys.Status())
}

// Keys returns which keys there are and how far a rotation is.
func (c *Client) Keys(ctx context.Context) (k KeyStatus, err error) {
	return k, c.call(ctx, http.MethodGet, "/v1/keys", nil, &k)
}

// RotateKeys begins a rotation; it goes on in the gateway.
func (c *Client) RotateKeys(ctx context.Context, in Rotation) (k KeyStatus, err error) {
	return k, c.call(ctx, http.MethodPost, "/v1/keys/rotate", in, &k)
}

package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"time"
)

// Radius is what the operator's door asks of the RADIUS one.
type Radius interface {
	// Seen returns what came since the gateway's start.
	Seen() RadiusSeen
}

// RadiusSeen is what came over RADIUS since the gateway's start.
type RadiusSeen struct {
	Since   time.Time       `json:"since"`
	Clients []RadiusClient  `json:"clients"` // by name
	Unknown []RadiusUnknown `json:"unknown"` // the latest addresses that no client has, newest first
	Refused []RadiusRefused `json:"refused_tls"`
}

// RadiusClient is what came from one client.
type RadiusClient struct {
	Name       string         `json:"name"`
	Last       time.Time      `json:"last_seen,omitzero"` // absent: nothing came
	From       netip.Addr     `json:"from,omitzero"`      // of the last packet
	Requests   int            `json:"requests"`
	Accepts    int            `json:"accepts"` // resent answers too, as below
	Rejects    int            `json:"rejects"`
	Challenges int            `json:"challenges"`
	Statuses   int            `json:"status_answers"`
	Accounts   int            `json:"accounting_answers"`
	Dropped    map[string]int `json:"dropped,omitempty"` // by reason
	Refused    map[string]int `json:"refused,omitempty"` // rejects that were not the gate's, by reason
	// Unsigned is how many Access-Requests had no Message-Authenticator.
	Unsigned int            `json:"without_message_authenticator"`
	Methods  map[string]int `json:"methods,omitempty"` // Access-Requests by method
}

// RadiusUnknown is an address that no client has.
type RadiusUnknown struct {
	Address netip.Addr `json:"address"`
	Packets int        `json:"packets"`
	Last    time.Time  `json:"last_seen"`
}

// RadiusRefused is what TLS connections were refused for.
type RadiusRefused struct {
	Reason      string     `json:"reason"`
	Connections int        `json:"connections"`
	From        netip.Addr `json:"from,omitzero"` // of the last
	Last        time.Time  `json:"last_seen"`
}

func (s *Server) radiusClients(_ *http.Request, out *json.Encoder) error {
	return out.Encode(s.Radius.Seen())
}

// RadiusClients returns what came over RADIUS since the gateway's start.
func (c *Client) RadiusClients(ctx context.Context) (r RadiusSeen, err error) {
	return r, c.call(ctx, http.MethodGet, "/v1/radius/clients", nil, &r)
}

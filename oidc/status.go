package oidc

import (
	"net/http"
)

// serveStatus tells a portal whether a customer can be asked for a code, before it
// sends them here. Customers whom the gateway doesn't know have the status of
// those who haven't applied.
func (p *Provider) serveStatus(w http.ResponseWriter, r *http.Request) (*Client, error) {
	form, client, err := p.fromClient(w, r, beginning)
	if err != nil {
		return client, err
	}
	name, err := namedPlainly(form["login_hint"]) // as at /par: what can't be asked for there has no status
	if err != nil {
		return client, err
	}
	status, err := p.customerStatus(r.Context(), client.Realm, name.customer)
	if err != nil {
		return client, err
	}
	writeJSON(w, http.StatusOK, struct {
		Status string `json:"status"`
	}{status})
	return client, nil
}

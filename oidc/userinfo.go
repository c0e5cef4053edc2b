package oidc

import (
	"net/http"
	"strings"
)

// serveUserInfo is the UserInfo endpoint (OIDC Core §5.3). It says no more than
// the ID token: of the customer the gateway knows the name alone.
func (p *Provider) serveUserInfo(w http.ResponseWriter, r *http.Request) (*Client, error) {
	form, err := readUserInfoForm(w, r)
	if err != nil {
		return nil, err
	}
	a, client, err := p.bearer(w, r, form)
	if err != nil {
		return client, err
	}
	writeJSON(w, http.StatusOK, struct {
		Subject  string   `json:"sub"`
		ACR      string   `json:"acr"`
		AMR      []string `json:"amr"`
		AuthTime int64    `json:"auth_time"`
	}{a.Subject, a.ACR, a.AMR, a.AuthTime.Unix()})
	return client, nil
}

// readUserInfoForm reads the body of a POST, if it is a form (RFC 6750 §2.2).
func readUserInfoForm(w http.ResponseWriter, r *http.Request) (params, error) {
	switch {
	case r.Method == http.MethodGet:
		return nil, nil
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", "GET, POST")
		return nil, &protocolError{status: http.StatusMethodNotAllowed, code: invalidRequest, description: "use GET or POST"}
	case strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded"):
		return readForm(w, r)
	}
	return nil, nil
}

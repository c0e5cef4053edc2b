package oidc_test

import (
	"net/http"
	"net/url"
	"testing"
)

func TestStatus(t *testing.T) {
	g := newGate(t)
	a := g.post(g.Client(), "/status", g.portal.form(url.Values{"login_hint": {customer}}, nil))
	if a.status != http.StatusOK || a.field("status") != "status of "+customer+"@retail" {
		t.Errorf("%d %s", a.status, a.body)
	}
	wantRefused(t, g.post(g.Client(), "/status", url.Values{"login_hint": {customer}, "client_id": {"portal"}}.Encode()), http.StatusUnauthorized, "invalid_client")
	wantRefused(t, g.post(g.Client(), "/status", g.portal.form(url.Values{}, nil)), http.StatusBadRequest, "invalid_request")
}

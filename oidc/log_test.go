package oidc_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Whoever hangs up, which an HTTP/2 client does for nothing, must not be able to
// fill the log, and is no failure of ours.
func TestCancelledRequestsAreQuiet(t *testing.T) {
	broken := &brokenPassing{}
	g := newGate(t, func(g *gate) { broken.Passing = g.passing; g.passing = broken })
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	path := authorizePath("portal", g.portal.requestURI(nil))
	fault := errors.New("stream closed") // what else it looks like
	for i := range 1000 {
		if i == 500 {
			broken.fault.Store(&fault)
		}
		w := httptest.NewRecorder()
		g.serve(w, httptest.NewRequestWithContext(gone, http.MethodGet, g.URL+path, nil))
		if w.Header().Get("Location") != "" {
			t.Fatalf("sent to %s", w.Header().Get("Location"))
		}
	}
	if log := g.log.String(); log != "" {
		t.Errorf("the log: %.1000s", log)
	}
	broken.fault.Store(nil)
	g.load(g.browser(), g.portal.requestURI(nil))
	wantResult(t, g, "authorize", "cancelled", 1000)
	wantResult(t, g, "authorize", "server_error", 0)
}

func TestFailuresAreLoggedWithinBounds(t *testing.T) {
	broken := &brokenPassing{}
	g := newGate(t, func(g *gate) { broken.Passing = g.passing; g.passing = broken })
	fault := errors.New("the disk is gone")
	path := authorizePath("portal", g.portal.requestURI(nil))
	broken.fault.Store(&fault)
	for range 1000 {
		g.serve(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, g.URL+path, nil))
	}
	if lines := strings.Count(g.log.String(), fault.Error()); lines < 100 || lines > 300 {
		t.Errorf("%d lines of 1000 failures", lines)
	}
	wantResult(t, g, "authorize", "server_error", 1000)
	// A flood of failures doesn't keep refusals out of the log.
	g.get(g.Client(), "/authorize")
	if !strings.Contains(g.log.String(), "request_uri are required") {
		t.Error("a refusal is missing")
	}
}

func wantResult(t *testing.T, g *gate, endpoint, result string, want float64) {
	t.Helper()
	families, err := g.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got float64
	for _, family := range families {
		for _, m := range family.Metric {
			labels := map[string]string{}
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["endpoint"] == endpoint && labels["result"] == result {
				got += m.Counter.GetValue()
			}
		}
	}
	if got != want {
		t.Errorf("%v requests at %s came to %s, want %v", got, endpoint, result, want)
	}
}

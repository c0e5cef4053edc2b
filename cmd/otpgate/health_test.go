package main

import (
	"context"
	bigendian "encoding/binary"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"otpgate/config"
	"otpgate/internal/store"
)

// openForTest opens the gateway of a site in this process, without running it.
func openForTest(t *testing.T, s site) (*gateway, *syncBuffer) {
	t.Helper()
	cfg, err := config.Load(s.config)
	if err != nil {
		t.Fatal(err)
	}
	log := &syncBuffer{}
	g, err := openGateway(t.Context(), cfg, slog.New(slog.NewJSONHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.close() })
	return g, log
}

// Whatever keeps the gate from accepting anybody is said to who sends it work,
// and why, to the log alone.
func TestReadyOnlyIfSomebodyCanPass(t *testing.T) {
	for _, c := range []struct {
		name, logged, metric string
		breakIt              func(*testing.T, *gateway)
	}{
		{"the database has failed", "closed", "", func(t *testing.T, g *gateway) {
			if err := g.data.db.Close(); err != nil {
				t.Fatal(err)
			}
		}},
		{"the audit log has failed", "audit: closed", "", func(t *testing.T, g *gateway) {
			if err := g.data.audit.Close(); err != nil {
				t.Fatal(err)
			}
		}},
		{"the clock is behind", "the clock of this machine is behind", "\notpgate_verifier_clock_behind_seconds 3", func(t *testing.T, g *gateway) {
			later := time.Now().Add(time.Hour).Unix()
			err := g.data.db.Update(context.Background(), func(tx store.Txn) error {
				return tx.Put(store.Key("clock"), bigendian.BigEndian.AppendUint64(nil, uint64(later)))
			})
			if err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, log := openForTest(t, newSite(t, "", ""))
			health := g.health()
			get := func(path string) (int, string) {
				var w recorder
				health.ServeHTTP(&w, mustRequest(t, path))
				return w.status, w.body.String()
			}
			if _, body := get("/readyz"); body != "ok\n" {
				t.Fatalf("before: %s", body)
			}
			c.breakIt(t, g)
			status, body := get("/readyz")
			if status != http.StatusServiceUnavailable || body != "not ready: nothing can be accepted, see the log\n" {
				t.Errorf("/readyz: %d %s", status, body)
			}
			if !strings.Contains(log.String(), c.logged) {
				t.Errorf("the log doesn't say why:\n%s", log)
			}
			if status, body := get("/healthz"); body != "ok\n" { // a restart would be no help
				t.Errorf("/healthz: %d %s", status, body)
			}
			if _, body := get("/metrics"); !strings.Contains(body, c.metric) {
				t.Errorf("/metrics lacks %s", c.metric)
			}
		})
	}
}

// What machines ask is answered on the metrics address, and not on the public
// one.
func TestHealthEndpoints(t *testing.T) {
	s := newSite(t, "", "")
	s.serve(t)
	for path, want := range map[string]string{
		"/healthz": "ok\n",
		"/readyz":  "ok\n",
		"/metrics": "\notpgate_http_connections{server=\"metrics\"} ",
	} {
		res, err := http.Get("http://" + s.metrics + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s, %v; want %q in\n%s", path, res.Status, err, want, body)
		}
		if status, err := tlsFrom("127.0.0.1", s.https, path); err != nil || status != http.StatusNotFound {
			t.Errorf("%s on the public address: %d, %v", path, status, err)
		}
	}
}

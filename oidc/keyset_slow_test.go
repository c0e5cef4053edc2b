package oidc

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/prometheus/client_golang/prometheus"
)

// stalled never answers.
type stalled struct{}

func (stalled) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// A portal's server that doesn't answer costs its own requests 5 s, every 30 s,
// and nobody who hangs up waits for it.
func TestStalledKeyServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		metrics, err := newKeySetMetrics(prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		client := fetchClient(nil)
		client.Transport = stalled{}
		s := &keySet{uri: "https://portal.example/jwks", http: client, now: time.Now, log: slog.New(slog.DiscardHandler), metrics: metrics}
		all := func(*jose.JSONWebKey) bool { return true }
		began := time.Now()
		if _, err := s.get(t.Context(), all); !errors.Is(err, errNoKeys) || time.Since(began) != fetchTimeout {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		began = time.Now()
		if _, err := s.get(t.Context(), all); !errors.Is(err, errNoKeys) || time.Since(began) != 0 {
			t.Errorf("the next request: %v after %v", err, time.Since(began))
		}
		time.Sleep(keySetPause)
		gone, hangUp := context.WithTimeout(t.Context(), time.Second)
		defer hangUp()
		began = time.Now()
		if _, err := s.get(gone, all); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("one that hangs up: %v after %v", err, time.Since(began))
		}
		time.Sleep(fetchTimeout)
	})
}

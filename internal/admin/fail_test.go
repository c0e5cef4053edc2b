package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"otpgate/verifier"
)

// Each kind of error has its own answer, and only a fault of ours is one in the
// log.
func TestWhatAFailureSays(t *testing.T) {
	fault := errors.New("write /data: no space left on device")
	for _, c := range []struct {
		name    string
		err     error
		gone    bool
		status  int
		problem string
		level   string // "": nothing is logged
	}{
		{"refused", fmt.Errorf("x: %w", &verifier.Refusal{Problem: "there is no token T9"}), false, http.StatusConflict, "there is no token T9", ""},
		{"misshapen", badRequest{"no JSON"}, false, http.StatusBadRequest, "no JSON", ""},
		{"failed", fault, false, http.StatusServiceUnavailable, "could not do it", "ERROR"},
		{"done, not logged", fmt.Errorf("%w: %w", verifier.ErrNotLogged, fault), false, http.StatusInternalServerError, "it was done, but", "ERROR"},
		{"the caller went away", context.Canceled, true, http.StatusServiceUnavailable, "", "DEBUG"},
		{"done, not logged, and nobody waits", fmt.Errorf("%w: %w", verifier.ErrNotLogged, fault), true, http.StatusInternalServerError, "", "ERROR"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			s := &Server{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if c.gone {
				cancel()
			}
			w := httptest.NewRecorder()
			s.fail(&answer{ResponseWriter: w}, httptest.NewRequestWithContext(ctx, http.MethodPost, "/v1/users", nil), c.err)
			var p Problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != c.status || !strings.Contains(p.Problem, c.problem) {
				t.Errorf("%d %s, %v", w.Code, w.Body, err)
			}
			if strings.Contains(w.Body.String(), "no space") {
				t.Errorf("the answer says what only the log should: %s", w.Body)
			}
			if c.level == "" && log.Len() > 0 || c.level != "" && (strings.Count(log.String(), "level=") != 1 || !strings.Contains(log.String(), "level="+c.level)) {
				t.Errorf("logged: %q; want level %q", &log, c.level)
			}
		})
	}
}

// brokenPipe is a caller who stops reading.
type brokenPipe struct{ http.ResponseWriter }

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("write unix: broken pipe") }

// A list that its reader has enough of is cut off, and is no fault.
func TestCutOffListIsNoFault(t *testing.T) {
	var log bytes.Buffer
	s := &Server{Log: slog.New(slog.NewTextHandler(&log, nil))}
	w := &answer{ResponseWriter: brokenPipe{httptest.NewRecorder()}}
	err := json.NewEncoder(w).Encode("a user")
	defer func() {
		if v := recover(); v != http.ErrAbortHandler { //nolint:errorlint // the value itself, by its contract
			t.Errorf("recovered %v, want ErrAbortHandler", v)
		}
		if log.Len() > 0 {
			t.Errorf("logged: %s", &log)
		}
	}()
	s.fail(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/users", nil), err)
}

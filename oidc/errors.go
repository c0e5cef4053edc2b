package oidc

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"otpgate/internal/store"
)

// The error codes, and where each is defined.
const (
	invalidRequest        = "invalid_request"                   // RFC 6749 §5.2
	invalidClient         = "invalid_client"                    // RFC 6749 §5.2
	invalidGrant          = "invalid_grant"                     // RFC 6749 §5.2
	unsupportedGrantType  = "unsupported_grant_type"            // RFC 6749 §5.2
	invalidScope          = "invalid_scope"                     // RFC 6749 §4.1.2.1
	unsupportedResponse   = "unsupported_response_type"         // RFC 6749 §4.1.2.1
	accessDenied          = "access_denied"                     // RFC 6749 §4.1.2.1
	serverError           = "server_error"                      // RFC 6749 §4.1.2.1
	temporarilyDown       = "temporarily_unavailable"           // RFC 6749 §4.1.2.1
	loginRequired         = "login_required"                    // OIDC Core §3.1.2.6
	consentRequired       = "consent_required"                  // OIDC Core §3.1.2.6
	accountRequired       = "account_selection_required"        // OIDC Core §3.1.2.6
	requestNotSupported   = "request_not_supported"             // OIDC Core §3.1.2.6
	invalidRequestObject  = "invalid_request_object"            // OIDC Core §3.1.2.6, RFC 9101 §7
	unmetAuthentication   = "unmet_authentication_requirements" // OIDC unmet authentication requirements 1.0; RFC 9470 §5
	invalidToken          = "invalid_token"                     // RFC 6750 §3.1
	invalidDPoPProof      = "invalid_dpop_proof"                // RFC 9449 §5
	useDPoPNonce          = "use_dpop_nonce"                    // RFC 9449 §8
	invalidAuthorizations = "invalid_authorization_details"     // RFC 9396 §5
)

// Refusals are logged one by one up to this many in a second, and failures
// likewise; the counter has them all. Whoever can reach the port can cause
// refusals, and a broken disk makes every request a failure.
const (
	linesLogged = 10
	linesBurst  = 100
)

// What a request comes to in the counter that its sender did not wait for, and one
// that is refused without an error code.
const (
	cancelled = "cancelled"
	noToken   = "no_token"
)

// protocolError is a refusal in the words of the standard. What it says goes to
// the client; cause goes to the log.
type protocolError struct {
	status      int
	code        string
	description string
	cause       error

	challenge  string        // WWW-Authenticate, if the answer has one
	retryAfter time.Duration // Retry-After, likewise
}

func (e *protocolError) Error() string {
	if e.cause == nil {
		return e.code + ": " + e.description
	}
	return e.code + ": " + e.description + ": " + e.cause.Error()
}

func (e *protocolError) Unwrap() error { return e.cause }

// because notes the cause for the log.
func (e *protocolError) because(cause error) *protocolError {
	e.cause = cause
	return e
}

func refuse(code, description string) *protocolError {
	status := http.StatusBadRequest
	if code == invalidClient {
		status = http.StatusUnauthorized
	}
	return &protocolError{status: status, code: code, description: description}
}

// asProtocolError is what a client is told of err.
func asProtocolError(err error) *protocolError {
	if known := new(protocolError); errors.As(err, &known) {
		return known
	}
	if errors.Is(err, store.ErrFull) {
		return &protocolError{status: http.StatusServiceUnavailable, code: temporarilyDown, description: "try again in a minute", cause: err}
	}
	return &protocolError{status: http.StatusInternalServerError, code: serverError, description: "the gateway has failed; its log says why", cause: err}
}

// api wraps an endpoint that programs talk to: headers, the error body, the
// counter and the log. h returns the client as far as it is known; if it
// returns an error it has written nothing.
func (p *Provider) api(endpoint string, h func(http.ResponseWriter, *http.Request) (*Client, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		secure(w)
		client, err := h(w, r)
		p.record(r, endpoint, client, err)
		if err == nil {
			return
		}
		e := asProtocolError(err)
		if e.challenge != "" {
			w.Header().Set("WWW-Authenticate", e.challenge)
		}
		if e.retryAfter > 0 {
			w.Header().Set("Retry-After", seconds(e.retryAfter))
		}
		writeJSON(w, e.status, struct {
			Error       string `json:"error,omitempty"`
			Description string `json:"error_description,omitempty"`
		}{e.code, e.description})
	}
}

// backChannel is api for an endpoint that portals talk to by themselves: within
// what each address may send.
func (p *Provider) backChannel(endpoint string, h func(http.ResponseWriter, *http.Request) (*Client, error)) http.HandlerFunc {
	return p.api(endpoint, func(w http.ResponseWriter, r *http.Request) (*Client, error) {
		if err := p.limits.address(sourceOf(r)); err != nil {
			return nil, err
		}
		return h(w, r)
	})
}

// record counts what became of a request, and logs it if it was refused.
func (p *Provider) record(r *http.Request, endpoint string, client *Client, err error) {
	name := "unknown" // a name that no one has configured must not become a label
	if client != nil {
		name = client.ID
	}
	if err == nil {
		p.requests.WithLabelValues(endpoint, name, "ok").Inc()
		return
	}
	e := asProtocolError(err)
	failure := e.status >= http.StatusInternalServerError
	if failure && (errors.Is(err, context.Canceled) || r.Context().Err() != nil) {
		p.requests.WithLabelValues(endpoint, name, cancelled).Inc()
		p.log.DebugContext(r.Context(), "oidc request cancelled", "endpoint", endpoint, "client", name, "from", r.RemoteAddr, "error", err)
		return
	}
	p.requests.WithLabelValues(endpoint, name, cmp.Or(e.code, noToken)).Inc()
	switch {
	case failure && e.code == serverError:
		p.logFailure(r, slog.LevelError, endpoint, name, err)
	case failure:
		p.logFailure(r, slog.LevelWarn, endpoint, name, err)
	case p.refused.Allow():
		p.log.InfoContext(r.Context(), "oidc request refused", "endpoint", endpoint, "client", name, "from", r.RemoteAddr, "reason", err)
	}
}

// logFailure logs what isn't the sender's fault alone, if there is not too much
// of it.
func (p *Provider) logFailure(r *http.Request, level slog.Level, endpoint, client string, err error) {
	if p.failed.Allow() {
		p.log.Log(r.Context(), level, "oidc request failed", "endpoint", endpoint, "client", client, "from", r.RemoteAddr, "error", err)
	}
}

func newRequestCounter() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "otpgate_oidc_requests_total",
		Help: "Requests to the OIDC door, by what became of them: ok, the error code, no_token, or cancelled.",
	}, []string{"endpoint", "client", "result"})
}

// secure sets the headers that every answer has: nothing here may be cached,
// guessed at or framed, and no address may leak in a Referer.
func secure(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Cache-Control", "no-store") // RFC 6749 §5.1, RFC 9126 §2.2
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) //nolint:errcheck // the client has gone; there is no one to tell
}

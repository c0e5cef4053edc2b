package admin

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"otpgate/internal/audit"
)

// The routes of the audit log, all for reading:
//
//	GET /v1/audit          ?last=N, and any of realm, user, serial, receipt
//	GET /v1/audit/follow   the same, and then whatever is appended
//	GET /v1/audit/export   ?since=T [&until=T], RFC 3339
//	GET /v1/audit/head     AuditHead

// AuditReader reads the audit log.
type AuditReader interface {
	// Search returns the last entries that match, newest last.
	Search(ctx context.Context, q audit.Query) ([]audit.Entry, error)
	// Follow calls fn for what Search returns, and then for each new entry. It
	// returns nil when the log is closed.
	Follow(ctx context.Context, q audit.Query, fn func(audit.Entry) error) error
	// Range calls fn for each entry of a time from since on and before until (if
	// that isn't zero), oldest first.
	Range(ctx context.Context, since, until time.Time, fn func(audit.Entry) error) error
	// Head returns the newest saved head; zero if there is none yet.
	Head() audit.Head
	PublicKey() ed25519.PublicKey
}

// AuditHead is what the gateway holds against its audit log: somebody who has
// changed the files can't have changed this with them.
type AuditHead struct {
	Head audit.Head        `json:"head"` // newest; zero if there is none yet
	Key  ed25519.PublicKey `json:"key"`
}

func (s *Server) searchAudit(r *http.Request, out *json.Encoder) error {
	q, err := auditQuery(r)
	if err != nil {
		return err
	}
	entries, err := s.Audit.Search(r.Context(), q)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := out.Encode(e); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) auditHead(_ *http.Request, out *json.Encoder) error {
	return out.Encode(AuditHead{Head: s.Audit.Head(), Key: s.Audit.PublicKey()})
}

func (s *Server) exportAudit(r *http.Request, send func(audit.Entry) error, _ func() error) error {
	since, err := time.Parse(time.RFC3339, r.FormValue("since"))
	if err != nil {
		return badRequest{"since must be a time as in RFC 3339"}
	}
	var until time.Time
	if text := r.FormValue("until"); text != "" {
		if until, err = time.Parse(time.RFC3339, text); err != nil {
			return badRequest{"until must be a time as in RFC 3339"}
		}
	}
	return s.Audit.Range(r.Context(), since, until, send)
}

func (s *Server) followAudit(r *http.Request, send func(audit.Entry) error, flush func() error) error {
	q, err := auditQuery(r)
	if err != nil {
		return err
	}
	if err := flush(); err != nil { // the answer begins now, also if nothing happens for hours
		return err
	}
	err = s.Audit.Follow(r.Context(), q, func(e audit.Entry) error { return errors.Join(send(e), flush()) })
	if errors.Is(err, context.Canceled) { // the reader has gone, or the gateway stops
		return nil
	}
	return err
}

func auditQuery(r *http.Request) (audit.Query, error) {
	last, err := strconv.Atoi(r.FormValue("last"))
	if err != nil || last < 0 || last > audit.MaxLast {
		return audit.Query{}, badRequest{fmt.Sprintf("last must be from 0 to %d", audit.MaxLast)}
	}
	return audit.Query{
		Realm: r.FormValue("realm"), User: r.FormValue("user"),
		Serial: r.FormValue("serial"), Receipt: r.FormValue("receipt"), Last: last,
	}, nil
}

// stream makes a handler of h, whose answer may take as long as its reader wants
// to read: only each write is bounded. It is called off when the gateway stops,
// which has no time to wait for such a reader.
func (s *Server) stream(h func(r *http.Request, send func(audit.Entry) error, flush func() error) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(stopOf(ctx), cancel)()
		connection := http.NewResponseController(w)
		out := &answer{ResponseWriter: patient{w, connection}}
		w.Header().Set("Content-Type", "application/jsonl")
		err := connection.SetReadDeadline(time.Time{}) // the request's: passed while we write, it would end r's context
		if err == nil {
			lines := json.NewEncoder(out)
			err = h(r.WithContext(ctx), func(e audit.Entry) error { return lines.Encode(e) }, func() error {
				out.begun = true
				return connection.Flush()
			})
		}
		if err != nil {
			s.fail(out, r, err)
		}
	}
}

type stopKey struct{}

// withStop returns a context for connections. It doesn't end with ctx, which
// ends when the gateway is to stop: most requests are finished then. stopOf
// returns ctx, for those that aren't.
func withStop(ctx context.Context) context.Context {
	return context.WithValue(context.WithoutCancel(ctx), stopKey{}, ctx)
}

func stopOf(ctx context.Context) context.Context {
	if stop, ok := ctx.Value(stopKey{}).(context.Context); ok {
		return stop
	}
	return ctx
}

// Audit calls fn for each of the last entries that match q, newest last.
func (c *Client) Audit(ctx context.Context, q audit.Query, fn func(audit.Entry) error) error {
	return list(ctx, c, "/v1/audit?"+queryOf(q), fn)
}

// FollowAudit calls fn for the same, and then for each new entry that matches.
// It returns nil when the gateway stops.
func (c *Client) FollowAudit(ctx context.Context, q audit.Query, fn func(audit.Entry) error) error {
	return list(ctx, c, "/v1/audit/follow?"+queryOf(q), fn)
}

// ExportAudit calls fn for each entry from since on and before until (if that
// isn't zero), oldest first.
func (c *Client) ExportAudit(ctx context.Context, since, until time.Time, fn func(audit.Entry) error) error {
	q := url.Values{"since": {since.Format(time.RFC3339Nano)}}
	if !until.IsZero() {
		q.Set("until", until.Format(time.RFC3339Nano))
	}
	return list(ctx, c, "/v1/audit/export?"+q.Encode(), fn)
}

// AuditHead returns what the gateway holds against its audit log.
func (c *Client) AuditHead(ctx context.Context) (h AuditHead, err error) {
	return h, c.call(ctx, http.MethodGet, "/v1/audit/head", nil, &h)
}

// NotRunning reports whether err says that no gateway listens on the socket.
func NotRunning(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}

func queryOf(q audit.Query) string {
	return url.Values{
		"realm": {q.Realm}, "user": {q.User}, "serial": {q.Serial}, "receipt": {q.Receipt}, "last": {strconv.Itoa(q.Last)},
	}.Encode()
}

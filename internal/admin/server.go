// Package admin is the operator's door: a JSON API over HTTP on a unix socket,
// and its client, which the command line uses.
//
// Whoever may open the socket (mode 0600) may do everything: the file's
// permissions are the authentication. Who it was stands in the audit log, by
// the kernel's word (SO_PEERCRED), not the caller's.
//
//	GET  /v1/users[?realm=R]              users, a JSON object a line
//	POST /v1/users                        add one
//	GET  /v1/users/{realm}/{name}         account: state, tokens, latest tries
//	POST /v1/users/{realm}/{name}/{step}  apply, unlock, groups, remove
//	GET  /v1/users/{realm}/{name}/card    the confirmation card, not its digits
//	POST /v1/users/{realm}/{name}/card/{step}  issue, unlock, open_fallback, close_fallback
//	POST /v1/cards/import                 cards of a CSV file
//	GET  /v1/tokens[?realm=R&user=U&state=S]  tokens, a JSON object a line
//	POST /v1/tokens                       create one
//	GET  /v1/tokens/{serial}
//	POST /v1/tokens/{serial}/{step}       assign, start, resync, suspend, resume, unusable, reissue, release, uri
//	POST /v1/tokens/import                a token file (see batch.go)
//	GET  /v1/batches, /v1/batches/{id}
//	POST /v1/batches/check, /v1/batches/{id}/{step}  release, discard
//	GET  /v1/audit?last=N                 entries, a JSON object a line (see audit.go)
//	GET  /v1/audit/follow, export, head
//	GET  /v1/keys                         data keys, and how far a rotation is
//	POST /v1/keys/rotate                  begin one
//	GET  /v1/keys/oidc                    the keys that sign ID tokens
//	POST /v1/keys/oidc/rotate             publish next ones, or withdraw them all
//	GET  /v1/radius/clients               what came from each RADIUS client
//	GET  /v1/clock                        the clock, and how far it is behind
//	POST /v1/clock/accept
//	POST /v1/backup                       a tar archive of the data
//
// Every answer but a success is a Problem. Steps are refused by the verifier,
// never here.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os/user"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"otpgate/verifier"
)

// maxBody bounds a request: the largest is a new token with its key.
const maxBody = 64 << 10

// Realm is what the operator's door adds to a token of a realm.
type Realm struct {
	Issuer string // the bank's name in an authenticator app
}

// Server is the door. All fields must be set.
type Server struct {
	Verifier *verifier.Verifier
	Audit    AuditReader
	Realms   map[string]Realm // by id
	Keys     Keys
	// SigningKeys are those of the OIDC door.
	SigningKeys SigningKeys
	Backups     Backups
	Radius      Radius
	Log         *slog.Logger
}

// HTTP returns the server, to be run on a listening unix socket. Requests that
// go on until their caller has enough end with stop.
func (s *Server) HTTP(stop context.Context) *http.Server {
	return &http.Server{
		Handler:           s.handler(),
		BaseContext:       func(net.Listener) context.Context { return withStop(stop) },
		ConnContext:       withPeer,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Minute, // a list of millions over a terminal
	}
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	route := func(pattern string, h func(*http.Request, *json.Encoder) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			out := &answer{ResponseWriter: w}
			if err := h(r, json.NewEncoder(out)); err != nil {
				s.fail(out, r, err)
			}
		})
	}
	route("GET /v1/users", s.listUsers)
	route("POST /v1/users", s.addUser)
	route("GET /v1/users/{realm}/{name}", s.showUser)
	route("POST /v1/users/{realm}/{name}/{step}", s.stepUser)
	route("GET /v1/users/{realm}/{name}/card", s.showCard)
	route("POST /v1/users/{realm}/{name}/card/{step}", s.stepCard)
	mux.HandleFunc("POST /v1/cards/import", s.importCards)
	route("GET /v1/tokens", s.listTokens)
	route("POST /v1/tokens", s.createToken)
	route("GET /v1/tokens/{serial}", s.showToken)
	route("POST /v1/tokens/{serial}/{step}", s.stepToken)
	mux.HandleFunc("POST /v1/tokens/import", s.importTokens)
	route("GET /v1/batches", s.listBatches)
	route("GET /v1/batches/{id}", s.showBatch)
	route("POST /v1/batches/check", s.checkBatch)
	route("POST /v1/batches/{id}/{step}", s.stepBatch)
	route("GET /v1/audit", s.searchAudit)
	route("GET /v1/audit/head", s.auditHead)
	mux.HandleFunc("GET /v1/audit/export", s.stream(s.exportAudit))
	mux.HandleFunc("GET /v1/audit/follow", s.stream(s.followAudit))
	route("GET /v1/radius/clients", s.radiusClients)
	route("GET /v1/keys", s.showKeys)
	route("POST /v1/keys/rotate", s.rotateKeys)
	route("GET /v1/keys/oidc", s.showSigningKeys)
	route("POST /v1/keys/oidc/rotate", s.rotateSigningKeys)
	route("GET /v1/clock", s.showClock)
	route("POST /v1/clock/accept", s.acceptClock)
	mux.HandleFunc("POST /v1/backup", s.backup)
	return mux
}

// answer notes whether something was sent, after which no Problem can be, and
// whether the caller has gone.
type answer struct {
	http.ResponseWriter
	begun, gone bool
}

func (a *answer) Write(b []byte) (int, error) {
	a.begun = true
	n, err := a.ResponseWriter.Write(b)
	a.gone = a.gone || err != nil
	return n, err
}

// badRequest is an error in the request's form.
type badRequest struct{ problem string }

func (b badRequest) Error() string { return b.problem }

// fail turns an error into a Problem. Only here do errors become public.
func (s *Server) fail(w *answer, r *http.Request, err error) {
	var refusal *verifier.Refusal
	var bad badRequest
	status, body := http.StatusServiceUnavailable, Problem{Problem: "the gateway could not do it", Hint: "its log says why"}
	switch {
	case errors.As(err, &refusal):
		status, body = http.StatusConflict, Problem{Problem: refusal.Problem, Hint: refusal.Hint}
	case errors.As(err, &bad):
		status, body = http.StatusBadRequest, Problem{Problem: bad.problem}
	case errors.Is(err, verifier.ErrNotLogged): // must not be answered like what can be tried again
		status, body = http.StatusInternalServerError, Problem{
			Problem: "it was done, but could not be written to the audit log",
			Hint:    "don't do it again; the gateway's log says why, and nobody passes until that is put right",
		}
		s.Log.Error("done, but not in the audit log", "method", r.Method, "path", r.URL.Path, "err", err)
	case w.gone || r.Context().Err() != nil: // nobody waits for the rest of a list
		s.Log.Debug("an admin caller went away", "method", r.Method, "path", r.URL.Path, "err", err)
	default:
		s.Log.Error("admin request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	if w.begun { // cut the list off visibly: a client reads to the end or fails
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the caller has gone: nothing to tell it
}

func decode(r *http.Request, out any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(out); err != nil {
		return badRequest{"the request is no JSON of the expected form: " + err.Error()}
	}
	return nil
}

type peerKey struct{}

// withPeer notes who is at the other end of a unix socket, by the kernel's
// word, when the connection is made.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	name := "unknown"
	if conn, ok := c.(*net.UnixConn); ok {
		if uid, err := peerUID(conn); err == nil {
			name = "uid " + strconv.FormatUint(uint64(uid), 10)
			if u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
				name = u.Username
			}
		}
	}
	return context.WithValue(ctx, peerKey{}, name)
}

func peer(r *http.Request) string {
	name, _ := r.Context().Value(peerKey{}).(string)
	return name
}

func peerUID(conn *net.UnixConn) (uint32, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, credErr); err != nil {
		return 0, err
	}
	return cred.Uid, nil
}

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
//	POST /v1/users/{realm}/{name}/unlock
//	GET  /v1/tokens                       tokens, a JSON object a line
//	POST /v1/tokens                       create one
//	GET  /v1/tokens/{serial}
//	POST /v1/tokens/{serial}/{step}       start, suspend, resume, release
//	GET  /v1/audit?last=N                 entries, a JSON object a line
//
// Every answer but a success is a Problem. Steps are refused by the verifier,
// never here.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os/user"
	"otpgate/internal/audit"
	"otpgate/verifier"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxBody bounds a request: the largest is a new token with its key.
	maxBody = 64 << 10
	// triesShown is how many of a user's tries an account shows. They are looked
	// for among the last audit.MaxTail entries.
	triesShown = 10
)

// AuditReader reads the audit log.
type AuditReader interface {
	// Tail returns the last n entries, newest last.
	Tail(ctx context.Context, n int) ([]audit.Entry, error)
}

// Realm is what the operator's door adds to a token of a realm.
type Realm struct {
	Issuer string // the bank's name in an authenticator app
}

// Server is the door. All fields must be set.
type Server struct {
	Verifier *verifier.Verifier
	Audit    AuditReader
	Realms   map[string]Realm // by id
	Log      *slog.Logger
}

// Serve answers on l, a listening unix socket, until ctx ends; then it finishes
// what is under way within grace and closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener, grace time.Duration) error {
	srv := &http.Server{
		Handler:           s.handler(),
		ConnContext:       withPeer,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Minute, // a list of millions over a terminal
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if err := srv.Shutdown(end); err != nil {
		return errors.Join(err, srv.Close())
	}
	return nil
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
	route("POST /v1/users/{realm}/{name}/unlock", s.unlockUser)
	route("GET /v1/tokens", s.listTokens)
	route("POST /v1/tokens", s.createToken)
	route("GET /v1/tokens/{serial}", s.showToken)
	route("POST /v1/tokens/{serial}/{step}", s.stepToken)
	route("GET /v1/audit", s.tailAudit)
	return mux
}

// answer notes whether something was sent, after which no Problem can be.
type answer struct {
	http.ResponseWriter
	begun bool
}

func (a *answer) Write(b []byte) (int, error) {
	a.begun = true
	return a.ResponseWriter.Write(b)
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

func (s *Server) listUsers(r *http.Request, out *json.Encoder) error {
	return s.Verifier.Users(r.Context(), r.FormValue("realm"), func(u verifier.User) error {
		return out.Encode(User{Realm: u.Realm, Name: u.Name, Created: u.Created})
	})
}

func (s *Server) addUser(r *http.Request, out *json.Encoder) error {
	var in User
	if err := decode(r, &in); err != nil {
		return err
	}
	u, err := s.Verifier.AddUser(r.Context(), peer(r), in.Realm, in.Name)
	if err != nil {
		return err
	}
	return out.Encode(User{Realm: u.Realm, Name: u.Name, Created: u.Created})
}

func (s *Server) showUser(r *http.Request, out *json.Encoder) error {
	a, err := s.Verifier.Account(r.Context(), r.PathValue("realm"), r.PathValue("name"))
	if err != nil {
		return err
	}
	account := Account{
		User:    User{Realm: a.Realm, Name: a.Name, Created: a.Created},
		Service: a.Service, Failures: a.Failures, LockedAt: a.LockedAt,
		Tokens: make([]Token, 0, len(a.Tokens)),
	}
	for _, t := range a.Tokens {
		account.Tokens = append(account.Tokens, wireToken(t))
	}
	recent, err := s.Audit.Tail(r.Context(), audit.MaxTail)
	if err != nil {
		return err
	}
	for i := len(recent) - 1; i >= 0 && len(account.Tries) < triesShown; i-- {
		if recent[i].Realm == a.Realm && recent[i].User == a.Name {
			account.Tries = append([]audit.Entry{recent[i]}, account.Tries...)
		}
	}
	return out.Encode(account)
}

func (s *Server) unlockUser(r *http.Request, out *json.Encoder) error {
	var in Step
	if err := decode(r, &in); err != nil {
		return err
	}
	realm, name := r.PathValue("realm"), r.PathValue("name")
	if err := s.Verifier.UnlockUser(r.Context(), peer(r), realm, name, in.Reason); err != nil {
		return err
	}
	return s.showUser(r, out)
}

func (s *Server) listTokens(r *http.Request, out *json.Encoder) error {
	return s.Verifier.Tokens(r.Context(), func(t verifier.TokenInfo) error { return out.Encode(wireToken(t)) })
}

func (s *Server) createToken(r *http.Request, out *json.Encoder) error {
	var in NewToken
	if err := decode(r, &in); err != nil {
		return err
	}
	params := s.Verifier.Realms[in.Realm].OTP // zero for an unknown realm, which is refused below
	if in.Algorithm != "" {
		params.Algorithm = in.Algorithm
	}
	if in.Digits != 0 {
		params.Digits = in.Digits
	}
	if in.Period != 0 {
		params.Period = in.Period
	}
	made := len(in.Key) == 0
	t, key, err := s.Verifier.CreateToken(r.Context(), peer(r), verifier.NewToken{
		Realm: in.Realm, User: in.User, Serial: in.Serial, Params: params, Key: in.Key, Carrier: in.Carrier, InService: in.InService,
	})
	if err != nil {
		return err
	}
	created := CreatedToken{Token: wireToken(verifier.TokenInfo{Token: t})}
	if made {
		created.URI = t.URI(s.Realms[t.Realm].Issuer, key)
	}
	return out.Encode(created)
}

func (s *Server) showToken(r *http.Request, out *json.Encoder) error {
	t, err := s.Verifier.Token(r.Context(), r.PathValue("serial"))
	if err != nil {
		return err
	}
	return out.Encode(wireToken(t))
}

func (s *Server) stepToken(r *http.Request, out *json.Encoder) error {
	var in Step
	if err := decode(r, &in); err != nil {
		return err
	}
	serial, by := r.PathValue("serial"), peer(r)
	var err error
	switch step := r.PathValue("step"); step {
	case "start":
		err = s.start(r.Context(), by, serial, in.Code)
	case "suspend":
		_, err = s.Verifier.Suspend(r.Context(), by, serial, in.Reason)
	case "resume":
		_, err = s.Verifier.Resume(r.Context(), by, serial, in.Reason)
	case "release":
		_, err = s.Verifier.Release(r.Context(), by, serial, in.Reason)
	default:
		err = badRequest{fmt.Sprintf("there is no step %q", step)}
	}
	if err != nil {
		return err
	}
	return s.showToken(r, out)
}

func (s *Server) start(ctx context.Context, by, serial, code string) error {
	result, err := s.Verifier.Start(ctx, by, serial, verifier.Typed(code))
	switch {
	case err != nil:
		return err
	case result.Outcome == verifier.Accepted:
		return nil
	case result.Locked:
		return &verifier.Refusal{Problem: "the code was not accepted, and the token is locked", Hint: "otpgate user unlock opens it"}
	}
	return &verifier.Refusal{Problem: "the code was not accepted", Hint: "type the one that the token shows now; each works once"}
}

func (s *Server) tailAudit(r *http.Request, out *json.Encoder) error {
	n, err := strconv.Atoi(r.FormValue("last"))
	if err != nil || n < 1 || n > audit.MaxTail {
		return badRequest{fmt.Sprintf("last must be from 1 to %d", audit.MaxTail)}
	}
	entries, err := s.Audit.Tail(r.Context(), n)
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

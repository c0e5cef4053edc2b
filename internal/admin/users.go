package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"otpgate/internal/audit"
	"otpgate/verifier"
)

const (
	// triesShown is how many of a user's tries an account shows. They are looked
	// for among the last triesWithin entries of everybody: half a second's work.
	triesShown  = 10
	triesWithin = 1_000_000
	// notTried is what gear tells of a user's sessions, every few minutes: it
	// would leave no room for the tries.
	notTried = "radius.accounting"
)

func (s *Server) listUsers(r *http.Request, out *json.Encoder) error {
	return s.Verifier.Users(r.Context(), r.FormValue("realm"), func(u verifier.User) error {
		return out.Encode(wireUser(u))
	})
}

func (s *Server) addUser(r *http.Request, out *json.Encoder) error {
	var in NewUser
	if err := decode(r, &in); err != nil {
		return err
	}
	u, receipt, err := s.Verifier.AddUser(r.Context(), verifier.By{Who: peer(r), Reason: in.Reason, Form: in.Form}, in.Realm, in.Name)
	if err != nil {
		return err
	}
	return out.Encode(SteppedUser{User: wireUser(u), Receipt: receipt})
}

func (s *Server) showUser(r *http.Request, out *json.Encoder) error {
	a, err := s.Verifier.Account(r.Context(), r.PathValue("realm"), r.PathValue("name"))
	if err != nil {
		return err
	}
	account := Account{
		User: wireUser(a.User), Service: a.Service, Failures: a.Failures, LockedAt: a.LockedAt, OpensAt: a.OpensAt,
		FallbackUntil: a.Fallback, PIN: wirePIN(a.PIN),
		Tokens: make([]Token, 0, len(a.Tokens)),
	}
	for _, t := range a.Tokens {
		account.Tokens = append(account.Tokens, wireToken(t))
	}
	account.Tries, err = s.Audit.Search(r.Context(), audit.Query{Realm: a.Realm, User: a.Name, Last: triesShown, Within: triesWithin, Except: notTried})
	if err != nil {
		return err
	}
	return out.Encode(account)
}

// stepUser makes one step of a clerk with a user.
func (s *Server) stepUser(r *http.Request, out *json.Encoder) error {
	var in Step
	if err := decode(r, &in); err != nil {
		return err
	}
	realm, name := r.PathValue("realm"), r.PathValue("name")
	done, err := s.userStep(r.Context(), r.PathValue("step"), in, in.by(r), realm, name)
	if err != nil {
		return err
	}
	if done.Service, err = s.Verifier.State(r.Context(), realm, name); err != nil {
		return err
	}
	return out.Encode(done)
}

func (s *Server) userStep(ctx context.Context, step string, in Step, by verifier.By, realm, name string) (SteppedUser, error) {
	done := SteppedUser{User: User{Realm: realm, Name: name}}
	var err error
	switch step {
	case "apply":
		var u verifier.User
		u, done.Receipt, err = s.Verifier.Apply(ctx, by, realm, name)
		done.User = wireUser(u)
	case "unlock":
		done.WasLocked, done.Receipt, err = s.Verifier.UnlockUser(ctx, by, realm, name)
	case "groups":
		var u verifier.User
		u, done.Receipt, err = s.Verifier.SetGroups(ctx, by, realm, name, in.Groups)
		done.User = wireUser(u)
	case "set_pin":
		done.Receipt, err = s.Verifier.SetPIN(ctx, by, realm, name, in.PIN)
	case "clear_pin":
		done.Receipt, err = s.Verifier.ClearPIN(ctx, by, realm, name)
	case "remove":
		done.Receipt, err = s.Verifier.RemoveUser(ctx, by, realm, name)
	default:
		err = badRequest{fmt.Sprintf("there is no step %q", step)}
	}
	return done, err
}

func wireUser(u verifier.User) User {
	return User{Realm: u.Realm, Name: u.Name, Created: u.Created, Applied: u.Applied, Form: u.Form, Groups: u.Groups}
}

func wirePIN(p verifier.PINInfo) *PIN {
	if p.Set.IsZero() {
		return nil
	}
	return &PIN{Set: p.Set, Failures: p.Failures, LockedAt: p.LockedAt, OpensAt: p.OpensAt}
}

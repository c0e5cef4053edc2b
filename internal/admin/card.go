package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"otpgate/verifier"
)

// maxCardImport bounds a CardImport: a file of the largest size, in Base64.
const maxCardImport = verifier.MaxCardFile*4/3 + maxBody

// Card is a confirmation card as clerks see it: all but its digits.
type Card struct {
	ID          string              `json:"card"`
	Realm       string              `json:"realm"`
	User        string              `json:"user"`
	Layout      verifier.CardLayout `json:"layout"`
	State       verifier.CardState  `json:"state"`
	LockedAt    time.Time           `json:"locked_at,omitzero"` // absent: not locked
	Asked       []string            `json:"asked,omitempty"`    // the cells asked for now, by their labels
	Failures    int                 `json:"failures"`           // wrong answers to that
	WrongOfLate int                 `json:"wrong_of_late"`      // within 13 weeks
	Created     time.Time           `json:"created"`
	UsedAt      time.Time           `json:"last_used,omitzero"`      // last right answer
	Fallback    time.Time           `json:"fallback_until,omitzero"` // until then it stands in for a code
}

// SteppedCard is a card after a clerk's step.
type SteppedCard struct {
	Card
	verifier.Receipt
}

// IssuedCard is a new card. Its digits are never shown again after this answer.
type IssuedCard struct {
	SteppedCard
	Cells []string `json:"cells"` // in reading order
}

// CardStep asks for a clerk's step with a user's card.
type CardStep struct {
	ID     string    `json:"card,omitempty"` // issue only; empty: one is made
	Until  time.Time `json:"until,omitzero"` // fallback only
	Reason string    `json:"reason,omitempty"`
	Form   string    `json:"form,omitempty"`
}

// CardImport asks for cards to be taken in; see verifier.CardImport.
type CardImport struct {
	Realm   string `json:"realm"`
	File    []byte `json:"file"` // CSV
	Replace bool   `json:"replace,omitempty"`
	DryRun  bool   `json:"dry_run,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Form    string `json:"form,omitempty"`
}

// ImportedCards is what an import did. If there are faults it did nothing.
type ImportedCards struct {
	Cards             int         `json:"cards"`
	Replaced          int         `json:"replaced"`
	NewUsers          int         `json:"new_users"`
	Faults            []CardFault `json:"faults,omitempty"`
	*verifier.Receipt             // absent on a dry run
}

// CardFault is what is wrong in one line of a file.
type CardFault struct {
	Line    int    `json:"line"`
	Problem string `json:"problem"`
}

func (s *Server) showCard(r *http.Request, out *json.Encoder) error {
	info, err := s.Verifier.Card(r.Context(), r.PathValue("realm"), r.PathValue("name"))
	if err != nil {
		return err
	}
	return out.Encode(wireCard(info))
}

func (s *Server) stepCard(r *http.Request, out *json.Encoder) error {
	var in CardStep
	if err := decode(r, &in); err != nil {
		return err
	}
	by := verifier.By{Who: peer(r), Reason: in.Reason, Form: in.Form}
	realm, user := r.PathValue("realm"), r.PathValue("name")
	var info verifier.CardInfo
	var receipt verifier.Receipt
	var err error
	switch step := r.PathValue("step"); step {
	case "issue":
		return s.issueCard(r.Context(), out, by, verifier.NewCard{Realm: realm, User: user, ID: in.ID})
	case "unlock":
		info, receipt, err = s.Verifier.UnlockCard(r.Context(), by, realm, user)
	case "open_fallback":
		info, receipt, err = s.Verifier.OpenFallback(r.Context(), by, realm, user, in.Until)
	case "close_fallback":
		info, receipt, err = s.Verifier.CloseFallback(r.Context(), by, realm, user)
	default:
		err = badRequest{fmt.Sprintf("there is no step %q", step)}
	}
	if err != nil {
		return err
	}
	return out.Encode(SteppedCard{wireCard(info), receipt})
}

func (s *Server) issueCard(ctx context.Context, out *json.Encoder, by verifier.By, n verifier.NewCard) error {
	c, cells, receipt, err := s.Verifier.IssueCard(ctx, by, n)
	if err != nil {
		return err
	}
	info := verifier.CardInfo{Card: c, State: verifier.CardReady}
	return out.Encode(IssuedCard{SteppedCard{wireCard(info), receipt}, cells})
}

// importCards has a bound of its own on the request, beside that of the others.
func (s *Server) importCards(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxCardImport)
	out := &answer{ResponseWriter: w}
	if err := s.takeCards(r, json.NewEncoder(out)); err != nil {
		s.fail(out, r, err)
	}
}

func (s *Server) takeCards(r *http.Request, out *json.Encoder) error {
	var in CardImport
	if err := decode(r, &in); err != nil {
		return err
	}
	by := verifier.By{Who: peer(r), Reason: in.Reason, Form: in.Form}
	done, err := s.Verifier.ImportCards(r.Context(), by, verifier.CardImport{
		Realm: in.Realm, File: in.File, Replace: in.Replace, DryRun: in.DryRun,
	})
	answer := ImportedCards{Cards: done.Cards, Replaced: done.Replaced, NewUsers: done.NewUsers}
	var faults verifier.CardFaults
	switch {
	case errors.As(err, &faults):
		for _, f := range faults {
			answer.Faults = append(answer.Faults, CardFault(f))
		}
	case err != nil:
		return err
	case done.Receipt.Number != "":
		answer.Receipt = &done.Receipt
	}
	return out.Encode(answer)
}

func wireCard(info verifier.CardInfo) Card {
	c := Card{
		ID: info.ID, Realm: info.Realm, User: info.User, Layout: info.Layout, State: info.State, LockedAt: info.LockedAt,
		Failures: info.Failures, WrongOfLate: info.WrongOfLate, Created: info.Created, UsedAt: info.UsedAt, Fallback: info.Fallback.Until,
	}
	for _, cell := range info.Asked {
		c.Asked = append(c.Asked, info.Layout.Label(cell))
	}
	return c
}

// Card returns what is known of a user's card.
func (c *Client) Card(ctx context.Context, realm, name string) (card Card, err error) {
	return card, c.call(ctx, http.MethodGet, userPath(realm, name)+"/card", nil, &card)
}

// IssueCard makes a card for a user.
func (c *Client) IssueCard(ctx context.Context, realm, name string, s CardStep) (card IssuedCard, err error) {
	return card, c.call(ctx, http.MethodPost, userPath(realm, name)+"/card/issue", s, &card)
}

// StepCard makes one step with a user's card: unlock, open_fallback,
// close_fallback.
func (c *Client) StepCard(ctx context.Context, realm, name, step string, s CardStep) (card SteppedCard, err error) {
	return card, c.call(ctx, http.MethodPost, userPath(realm, name)+"/card/"+step, s, &card)
}

// ImportCards takes in cards from a file.
func (c *Client) ImportCards(ctx context.Context, in CardImport) (done ImportedCards, err error) {
	return done, c.call(ctx, http.MethodPost, "/v1/cards/import", in, &done)
}

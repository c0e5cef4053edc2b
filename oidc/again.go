package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"otpgate/internal/store"
)

// How long the answer of Accept or Refuse can be had again.
const (
	// secondPress: the browser drops the answer to the first press of a button for
	// that of the second. Nobody comes back to a page as fast.
	secondPress = 10 * time.Second
	// formLife is how long the page with the form can be fetched: by the redirect
	// that leads to it, and by a reload. An ID token stands in it in clear, so one is
	// there for secondPress once it has been fetched.
	formLife = codeLife
)

// responsePath is where a browser finds the form that it has to post.
const responsePath = "/authorize/response/"

// keptAnswer is what ended a transaction, for the browser whose cookie has the
// digest. There may be a code in it, which is good once whoever brings it, and then
// the answer is gone too.
type keptAnswer struct {
	Browser string   `json:"browser"`
	Client  string   `json:"client"`
	Locales []string `json:"locales,omitempty"`
	Answer  response `json:"answer"`
	Fetched bool     `json:"fetched,omitempty"` // its end is near, and comes no later for a reload
}

func answerKey(id string) string { return store.Key("oidc.answer", id) }

// keepAnswer keeps the answer to transaction id, and returns where to send the
// browser: to the portal, or to the page that posts the answer there.
func (p *Provider) keepAnswer(ctx context.Context, id string, kept *keptAnswer) (location string, err error) {
	location, life := kept.Answer.Location, secondPress
	if kept.Answer.Fields != nil {
		location, life = responsePath+id, formLife
	}
	value, err := encode(kept)
	if err != nil {
		return "", err
	}
	if err := p.passing.Put(ctx, answerKey(id), value, life); err != nil {
		return "", fmt.Errorf("oidc: keep answer: %w", err)
	}
	return location, nil
}

// Answered returns the location that Accept or Refuse has returned for id a moment ago,
// to the same browser; ErrNoRequest if there is none.
func (p *Provider) Answered(r *http.Request, id string) (location string, err error) {
	kept, err := p.kept(r, id)
	if err != nil {
		return "", err
	}
	if kept.Answer.Fields != nil {
		return responsePath + id, nil
	}
	return kept.Answer.Location, nil
}

// kept returns the answer that is kept for this browser under id; ErrNoRequest if
// there is none.
func (p *Provider) kept(r *http.Request, id string) (*keptAnswer, error) {
	if _, _, ok := parseTransactionID(id); !ok {
		return nil, ErrNoRequest
	}
	value, err := p.passing.Get(r.Context(), answerKey(id))
	kept, err := decode[keptAnswer](value, err)
	if err != nil {
		return nil, err
	}
	if kept == nil || !sameBrowser(r, id, kept.Browser) {
		return nil, ErrNoRequest
	}
	return kept, nil
}

// serveResponse shows the page whose form takes the answer to the portal.
func (p *Provider) serveResponse(w http.ResponseWriter, r *http.Request) {
	secure(w)
	id := r.PathValue("id")
	kept, err := p.kept(r, id)
	if err == nil && kept.Answer.Fields.Has("id_token") && !kept.Fetched {
		err = p.endSoon(r.Context(), id, kept)
	}
	switch {
	case err == nil && kept.Answer.Fields == nil, errors.Is(err, ErrNoRequest):
		p.refuseBrowser(w, r, errNoSuchRequest)
	case err != nil:
		p.record(r, "response", nil, err)
		p.refuseBrowser(w, r, err)
	default:
		p.send(w, r, p.clients[kept.Client], kept.Locales, kept.Answer)
	}
}

// endSoon leaves an answer that has been fetched only for secondPress.
func (p *Provider) endSoon(ctx context.Context, id string, kept *keptAnswer) error {
	kept.Fetched = true
	value, err := encode(kept)
	if err != nil {
		return err
	}
	if err := p.passing.Put(ctx, answerKey(id), value, secondPress); err != nil {
		return fmt.Errorf("oidc: keep answer: %w", err)
	}
	return nil
}

// forgetAnswer ends the answer of transaction id.
func (p *Provider) forgetAnswer(ctx context.Context, id string) error {
	if _, err := p.passing.Take(ctx, answerKey(id)); err != nil {
		return fmt.Errorf("oidc: passing store: %w", err)
	}
	return nil
}

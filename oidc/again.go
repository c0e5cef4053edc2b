package oidc

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"otpgate/internal/store"
)

// answerLife is how long the answer of Accept or Refuse can be had again: a second
// press of the page's button, of whose first the browser drops the answer. Nobody
// comes back to a page as fast.
const answerLife = 10 * time.Second

func answerKey(id string) string { return store.Key("oidc.answer", id) }

// keepAnswer keeps what transaction id was answered with, for the browser whose
// cookie has the digest. There may be a code in it, which is good once whoever
// brings it, and then the answer is gone too.
func (p *Provider) keepAnswer(ctx context.Context, id, browser, location string) error {
	if err := p.passing.Put(ctx, answerKey(id), []byte(browser+location), answerLife); err != nil {
		return fmt.Errorf("oidc: keep answer: %w", err)
	}
	return nil
}

// keepRefusal does so for Refuse. The reservation of req was for a code as well: the
// account gets it back, and lends what this needs. If it has that no more, a second
// press finds nothing.
func (p *Provider) keepRefusal(ctx context.Context, req *request, id, browser, location string) error {
	account := p.accounts[req.Client]
	account.release(req.Reserved)
	if _, ok := account.reserve(p.now(), finishing, entrySize(digestLength+len(location)), answerLife); !ok {
		return errAccountFull()
	}
	return p.keepAnswer(ctx, id, browser, location)
}

// Answered returns the location that Accept or Refuse has returned for id a moment ago,
// to the same browser; ErrNoRequest if there is none.
func (p *Provider) Answered(r *http.Request, id string) (location string, err error) {
	if _, _, ok := parseTransactionID(id); !ok {
		return "", ErrNoRequest
	}
	value, err := p.passing.Get(r.Context(), answerKey(id))
	if err != nil {
		return "", fmt.Errorf("oidc: passing store: %w", err)
	}
	if len(value) < digestLength || !sameBrowser(r, id, string(value[:digestLength])) {
		return "", ErrNoRequest
	}
	return string(value[digestLength:]), nil
}

// forgetAnswer ends the answer of transaction id.
func (p *Provider) forgetAnswer(ctx context.Context, id string) error {
	if _, err := p.passing.Take(ctx, answerKey(id)); err != nil {
		return fmt.Errorf("oidc: passing store: %w", err)
	}
	return nil
}

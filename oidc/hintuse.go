package oidc

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"otpgate/internal/store"
)

// maxHintUses is how many log-ins one hint may begin: tries of a person whose first
// factor is minutes ago, not a way to begin one whenever they like.
const maxHintUses = 16

// usedHint is which log-ins a hint has begun in browsers.
type usedHint struct {
	End  int64    `json:"end"`  // unix seconds; the hint is refused from then on
	Uses []string `json:"uses"` // digests of what is new with each request
}

// usedHintBytes bounds a usedHint in JSON.
const usedHintBytes = 64 + maxHintUses*(digestLength+3)

// fromHint keeps req, which a browser has brought with an id_token_hint. The same
// request again is a reload, as long as it is open. What is new with each is its
// nonce or, for want of one, its code_challenge: another one with the same is
// refused, so what somebody has overheard begins nothing.
func (p *Provider) fromHint(ctx context.Context, client *Client, form params, req *request) (string, *request, error) {
	whole, err := json.Marshal(form)
	if err != nil {
		return "", nil, fmt.Errorf("oidc: encode request: %w", err)
	}
	ref := digest(string(whole)) // nobody can guess it: there is a signature in it
	fresh, err := p.useHint(ctx, client, form["id_token_hint"], digest(cmp.Or(form["nonce"], form["code_challenge"])))
	if err != nil {
		return "", nil, err
	}
	if !fresh {
		req, err = p.loadable(ctx, client, ref)
		return ref, req, err
	}
	return ref, req, p.saveUnproven(ctx, ref, req)
}

// useHint uses up what is new with a request, for the verified hint raw. It reports
// whether it was the first to.
func (p *Provider) useHint(ctx context.Context, client *Client, raw, use string) (fresh bool, err error) {
	h, err := parseHint(raw)
	if err != nil {
		return false, fmt.Errorf("oidc: verified hint: %w", err)
	}
	// Of what is signed: whoever has an ECDSA signature can make another of it.
	key := store.Key("oidc.hint", client.ID, digest(string(h.payload)))
	p.loading.Lock() // Passing has no way to change a value
	defer p.loading.Unlock()
	value, err := p.passing.Get(ctx, key)
	used, err := decode[usedHint](value, err)
	switch {
	case err != nil:
		return false, err
	case used == nil:
		return true, p.firstUse(ctx, client, key, use)
	case slices.Contains(used.Uses, use):
		return false, nil
	case len(used.Uses) >= maxHintUses:
		return false, refuse(invalidRequest, "id_token_hint is not accepted").because(errors.New("it has begun as many log-ins as it may"))
	}
	life := time.Unix(used.End, 0).Sub(p.now())
	if life <= 0 { // it ends as this comes
		return false, errNoSuchRequest
	}
	used.Uses = append(used.Uses, use)
	return true, p.keepHint(ctx, key, used, life)
}

// firstUse notes the first use of a hint, and reserves room for all there may be.
// The caller holds p.loading.
func (p *Provider) firstUse(ctx context.Context, client *Client, key, use string) error {
	now, life := p.now(), client.hintLife()
	account := p.accounts[client.ID]
	reserved, ok := account.reserve(now, unproven, entrySize(usedHintBytes), life)
	if !ok {
		return errAccountFull()
	}
	err := p.keepHint(ctx, key, &usedHint{End: now.Add(life).Unix(), Uses: []string{use}}, life)
	if err != nil {
		account.release(reserved)
	}
	return err
}

func (p *Provider) keepHint(ctx context.Context, key string, used *usedHint, life time.Duration) error {
	value, err := encode(used)
	if err != nil {
		return err
	}
	if err := p.passing.Put(ctx, key, value, life); err != nil {
		return fmt.Errorf("oidc: keep use of hint: %w", err)
	}
	return nil
}

// hintLife bounds how long a hint that has been accepted may be accepted again.
func (c *Client) hintLife() time.Duration {
	life := time.Duration(0)
	for i := range c.HintIssuers {
		life = max(life, c.HintIssuers[i].maxAge())
	}
	return life + 2*hintSkew + time.Second // ahead when it comes, and behind when it ends; rounding
}

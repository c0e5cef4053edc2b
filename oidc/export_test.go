package oidc

import "context"

// TendOnce does what TendKeys does from time to time.
func (p *Provider) TendOnce(ctx context.Context) error { return p.keys.tend(ctx, "", p.keys.due) }

// LimitAccounts gives every client so many bytes in place of ClientBytes, which
// take a while to fill.
func (p *Provider) LimitAccounts(bytes int) {
	for _, a := range p.accounts {
		a.limit = bytes
	}
}

// Taken is what all clients have reserved.
func (p *Provider) Taken() (bytes int) {
	for _, a := range p.accounts {
		a.mu.Lock()
		bytes += a.taken
		a.mu.Unlock()
	}
	return bytes
}

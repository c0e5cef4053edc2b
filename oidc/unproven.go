package oidc

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// maxUnproven is how many requests that only a browser has shown may be open in one
// customer's name: tabs and second tries of a person. One more ends the oldest.
// Were it refused, whoever names a customer sixteen times would keep them out.
const maxUnproven = 16

// unprovenRequests are a client's open requests that came without a proof that they
// are new, by customer. There is room for each on the account, which bounds
// them all. Safe for concurrent use.
type unprovenRequests struct {
	mu    sync.Mutex // guards the rest
	open  map[string][]unprovenRequest
	swept time.Time // when open was looked through
}

type unprovenRequest struct {
	ref string
	end time.Time
}

func newUnprovenRequests(clients map[string]*Client) map[string]*unprovenRequests {
	of := make(map[string]*unprovenRequests, len(clients))
	for id := range clients {
		of[id] = &unprovenRequests{open: make(map[string][]unprovenRequest)}
	}
	return of
}

// add notes a request of customer. It returns the one that has to end for it; "": none.
func (u *unprovenRequests) add(now time.Time, customer, ref string) (oldest string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sweep(now)
	open := u.open[customer]
	if len(open) >= maxUnproven {
		oldest, open = open[0].ref, open[1:]
	}
	u.open[customer] = append(slices.Clip(open), unprovenRequest{ref, now.Add(requestLife)})
	return oldest
}

// remove forgets a request that has ended; nothing if it isn't there.
func (u *unprovenRequests) remove(customer, ref string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	left := slices.DeleteFunc(u.open[customer], func(r unprovenRequest) bool { return r.ref == ref })
	if len(left) == 0 {
		delete(u.open, customer)
		return
	}
	u.open[customer] = left
}

// sweep forgets what has expired, once in a second. The caller holds u.mu.
func (u *unprovenRequests) sweep(now time.Time) {
	if now.Sub(u.swept).Abs() < time.Second {
		return
	}
	u.swept = now
	maps.DeleteFunc(u.open, func(_ string, open []unprovenRequest) bool {
		return !now.Before(open[len(open)-1].end)
	})
}

// saveUnproven is saveRequest for a request with nothing to show that it is new. It ends the
// customer's oldest one, if there are too many.
func (p *Provider) saveUnproven(ctx context.Context, ref string, req *request) error {
	open := p.unproven[req.Client]
	if oldest := open.add(p.now(), req.Customer, ref); oldest != "" {
		ended, err := p.endRequest(ctx, oldest)
		if err != nil {
			return err
		}
		if ended != nil {
			p.accounts[req.Client].release(ended.Reserved)
		}
	}
	if err := p.saveRequest(ctx, ref, req, unproven); err != nil {
		open.remove(req.Customer, ref)
		return err
	}
	return nil
}

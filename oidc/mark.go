package oidc

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"otpgate/internal/store"
)

// Used assertions are remembered in the passing store, which a restart empties.
// So there is a mark on disk for each client: no assertion of it was ever
// accepted with a later iat. After a start, what isn't later than the mark may
// have been used before, and is refused; the client makes a new one.
//
// The mark is in the client's own time, so a portal whose clock is ahead or
// behind by what is tolerated loses nothing by it, and neither do the others.

// markAhead is how far the mark is set beyond an iat: so it is written every
// other second at the most, and a portal has to wait two after a quick restart.
const markAhead = time.Second

const (
	markRecord  = "oidcmark"  // by client
	floorRecord = "oidcfloor" // alone
)

// storedMark is the record of a mark, and of the floor.
type storedMark struct {
	V   int   `json:"v"`   // layout version, 1
	IAT int64 `json:"iat"` // unix seconds
}

// mark is the mark of one client.
type mark struct {
	atStart int64 // unix seconds; what is not later is refused

	mu   sync.Mutex // guards high, also while it is written
	high int64      // what is on disk
}

// SetFloor notes that records were restored from a backup at t: assertions that
// were used between the backup and t are below no mark.
func SetFloor(ctx context.Context, records store.Records, t time.Time) error {
	err := records.Update(ctx, func(txn store.Txn) error {
		// A client's clock may have been ahead of ours.
		return putMark(txn, store.Key(floorRecord), t.Add(clockSkew).Unix())
	})
	if err != nil {
		return fmt.Errorf("oidc: floor of assertions: %w", err)
	}
	return nil
}

// loadMarks reads the marks of clients.
func loadMarks(ctx context.Context, records store.Records, clients map[string]*Client) (map[string]*mark, error) {
	marks := make(map[string]*mark, len(clients))
	err := records.View(ctx, func(r store.Reader) error {
		floor, err := getMark(r, store.Key(floorRecord))
		if err != nil {
			return err
		}
		for id := range clients {
			high, err := getMark(r, store.Key(markRecord, id))
			if err != nil {
				return err
			}
			marks[id] = &mark{atStart: max(high, floor), high: high}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("oidc: marks of assertions: %w", err)
	}
	return marks, nil
}

// passMark refuses an assertion of client that may have been used before the
// start, and raises the mark for one that is used now.
func (p *Provider) passMark(ctx context.Context, client *Client, iat time.Time) error {
	m, at := p.marks[client.ID], iat.Unix()
	if at <= m.atStart {
		return (&protocolError{
			status: http.StatusServiceUnavailable, code: temporarilyDown,
			description: "the gateway has just started: try again with a new client assertion",
		}).because(fmt.Errorf("assertions with an iat up to %s may have been used before the start", time.Unix(m.atStart, 0).UTC().Format(time.RFC3339)))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if at <= m.high {
		return nil
	}
	high := iat.Add(markAhead).Unix()
	err := p.records.Update(ctx, func(txn store.Txn) error {
		return putMark(txn, store.Key(markRecord, client.ID), high)
	})
	if err != nil {
		return fmt.Errorf("oidc: mark of assertions: %w", err)
	}
	m.high = high
	return nil
}

// getMark returns the mark under key; one that was never set is below all.
func getMark(r store.Reader, key string) (int64, error) {
	value, err := r.Get(key)
	if err != nil || value == nil {
		return 0, err
	}
	var m storedMark
	if err := json.Unmarshal(value, &m); err != nil {
		return 0, fmt.Errorf("%q: %w", key, err)
	}
	return m.IAT, nil
}

func putMark(txn store.Txn, key string, iat int64) error {
	value, err := json.Marshal(storedMark{V: 1, IAT: iat})
	if err != nil {
		return err
	}
	return txn.Put(key, value)
}

package radius

import (
	"fmt"
	"sync"
)

const (
	// maxWaiting is how many requests may wait for a directory or another server at
	// once: half of the workers, so that one that hangs leaves the others to people
	// who need only their code.
	maxWaiting = workers / 2
	// maxClientWaiting is how many of them may be one client's, so that what it sends
	// leaves half to the others.
	maxClientWaiting = maxWaiting / 2
	// maxHashing is how many requests may wait for the hash of a PIN: at 25 ms of one
	// core each, what two cores hash within a second.
	maxHashing = workers / 8
	// maxClientHashing is how many of them may be one client's.
	maxClientHashing = maxHashing / 2
)

// room bounds how many requests wait for something slow at once. Who finds no room
// is dropped at once, and the gear asks again: a request that waits in vain costs a
// worker for as long as it does.
type room struct {
	all, share int // in all, and of one client

	mu       sync.Mutex // guards the rest
	taken    int
	byClient map[string]int // by name; those who have any
}

func newRoom(all, share int) *room {
	return &room{all: all, share: share, byClient: make(map[string]int)}
}

// use lets do wait, if there is room for the client. Having none wraps
// firstFactorUnavailable.
func (r *room) use(client string, do func() error) error {
	if err := r.enter(client); err != nil {
		return err
	}
	defer r.leave(client)
	return do()
}

func (r *room) enter(client string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken >= r.all {
		return fmt.Errorf("%w: %d others are waiting", firstFactorUnavailable, r.taken)
	}
	if r.byClient[client] >= r.share {
		return fmt.Errorf("%w: %d others of the client are waiting", firstFactorUnavailable, r.byClient[client])
	}
	r.taken++
	r.byClient[client]++
	return nil
}

func (r *room) leave(client string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken--
	if r.byClient[client]--; r.byClient[client] == 0 {
		delete(r.byClient, client)
	}
}

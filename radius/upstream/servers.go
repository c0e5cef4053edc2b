package upstream

import (
	"net/netip"
	"sync"
	"time"
)

// silentFor is how long a server that has let its turn pass is asked last. When
// that ends, people wait a third of a time-out to find out whether it is back; 10 s
// is how long a server takes to be restarted.
const silentFor = 10 * time.Second

// servers is who is asked, and in which order. A server's number is its place in
// the configuration.
type servers struct {
	addresses []netip.AddrPort
	now       func() time.Time

	mu          sync.Mutex
	silentUntil []time.Time // by number; guarded by mu
}

func newServers(addresses []netip.AddrPort, now func() time.Time) *servers {
	return &servers{addresses: addresses, now: now, silentUntil: make([]time.Time, len(addresses))}
}

// route returns the numbers of the servers to ask, in order, and the State that
// theirs is. A State is from one of them, and for it: RFC 2865 §5.24 has it go
// back to the server that has sent it. ok is false if there is no such server.
func (s *servers) route(state []byte) (order []int, theirs []byte, ok bool) {
	if len(state) == 0 {
		return s.order(), nil, true
	}
	number := int(state[0])
	if number >= len(s.addresses) {
		return nil, nil, false
	}
	return []int{number}, state[1:], true
}

// routed is the State by which route finds the server again.
func routed(number int, theirs []byte) []byte { return append([]byte{byte(number)}, theirs...) }

// order is all servers, those that were silent lately last.
func (s *servers) order() []int {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	var order, silent []int
	for number, until := range s.silentUntil {
		if now.Before(until) {
			silent = append(silent, number)
		} else {
			order = append(order, number)
		}
	}
	return append(order, silent...)
}

// silent notes that the server has let its turn pass.
func (s *servers) silent(number int) { s.set(number, s.now().Add(silentFor)) }

// heard notes that the server has answered.
func (s *servers) heard(number int) { s.set(number, time.Time{}) }

func (s *servers) set(number int, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silentUntil[number] = until
}

package pages

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"
)

const (
	// pressLife is how long after it was answered a press of the button can be
	// repeated without being a new try: a double click, or an impatient second
	// one while the answer is on its way over a slow network. Nobody waits for
	// the next code for so short a time.
	pressLife = 5 * time.Second
	// maxPresses bounds what is remembered: 1000 wrong codes a second, in some
	// 2 MB. What is beyond counts as a try of its own, which is the safe side.
	maxPresses = 5000
)

// pressKey names one code typed into one open request, without telling it longer
// than pressLife.
type pressKey [sha256.Size]byte

func keyOfPress(id, code string) pressKey {
	return sha256.Sum256([]byte(id + "\n" + code))
}

// verdict is what a press came to, where that is the page's to say.
type verdict struct {
	known bool // false: the request has ended, or nothing was decided
	why   slip // "": the last try is used up
	left  int  // tries
}

// press is one press of the button.
type press struct {
	answered chan struct{} // closed when verdict is set
	verdict  verdict
	until    time.Time // guarded by presses.mu; set when it is answered
}

// presses are the latest ones. The zero value is ready for use; safe for
// concurrent use.
type presses struct {
	mu    sync.Mutex // guards the rest
	byKey map[pressKey]*press
	order []pressKey // of those that were answered, oldest first
}

// enter returns the press of that kind, and whether it is the first. Whoever has
// the first must answer it.
func (s *presses) enter(key pressKey, now time.Time) (one *press, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expire(now)
	if earlier := s.byKey[key]; earlier != nil {
		return earlier, false
	}
	one = &press{answered: make(chan struct{})}
	if s.byKey == nil {
		s.byKey = make(map[pressKey]*press)
	}
	if len(s.byKey) < maxPresses {
		s.byKey[key] = one
	}
	return one, true
}

// answer notes what the first press came to. What isn't known is forgotten at once:
// the next one is decided anew, or answered by the request's door.
func (s *presses) answer(key pressKey, one *press, came verdict, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one.verdict, one.until = came, now.Add(pressLife)
	close(one.answered)
	switch {
	case s.byKey[key] != one: // there was no room for it
	case !came.known:
		delete(s.byKey, key)
	default:
		s.order = append(s.order, key)
	}
}

// expire forgets what is over. The caller holds s.mu.
func (s *presses) expire(now time.Time) {
	for len(s.order) > 0 && !now.Before(s.byKey[s.order[0]].until) {
		delete(s.byKey, s.order[0])
		s.order = s.order[1:]
	}
}

// wait returns what the press came to.
func (one *press) wait(ctx context.Context) (verdict, error) {
	select {
	case <-one.answered:
		return one.verdict, nil
	case <-ctx.Done():
		return verdict{}, ctx.Err()
	}
}

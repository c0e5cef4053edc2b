package radius

import (
	"sync"
	"time"
)

// noticeInterval is the pause between two log lines for one client and reason:
// short enough to see while one tries settings, long enough for a flood.
const noticeInterval = 10 * time.Second

// notices limits log lines. It holds an entry for each client and reason, both
// of which are ours: a sender can't make it grow.
type notices struct {
	now func() time.Time

	mu   sync.Mutex // guards seen and what it points to
	seen map[noticeKey]*notice
}

type noticeKey struct{ client, reason string }

type notice struct {
	last       time.Time // of the last line
	suppressed int       // lines since
}

func newNotices(now func() time.Time) *notices {
	return &notices{now: now, seen: make(map[noticeKey]*notice)}
}

// allow reports whether a line may be written now, and how many were suppressed
// since the last one.
func (n *notices) allow(client, reason string) (suppressed int, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	key, now := noticeKey{client, reason}, n.now()
	seen := n.seen[key]
	switch {
	case seen == nil:
		n.seen[key] = &notice{last: now}
		return 0, true
	case now.Sub(seen.last) < noticeInterval:
		seen.suppressed++
		return 0, false
	}
	suppressed = seen.suppressed
	*seen = notice{last: now}
	return suppressed, true
}

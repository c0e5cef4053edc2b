package radius

import (
	"container/list"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// userBurst is how many codes of one user may come from one client at once,
	// and userRate how many a second after that. A lock comes after ten wrong
	// codes by default, so people, and gear that asks three times for each code,
	// never meet it; a machine that guesses, or a client's loop, does.
	userBurst = 30
	userRate  = rate.Limit(1)
	// maxUsers bounds what is held, at some 500 octets each to 8 MiB. A bucket
	// that is full again is removed, so it takes 500 new names a second to fill
	// it; then the one that was asked for longest ago goes first. A guesser gains
	// nothing by that: the gate counts wrong codes whatever is forgotten here.
	maxUsers = 1 << 14
)

// accountingPerLogin is how many Accounting-Requests are evaluated for each
// log-in of a client's rate: that a session has begun, goes on, and has ended. They
// have a bucket of their own, so that gear which tells much, as after a
// reconnect, keeps nobody from logging in.
const accountingPerLogin = 3

// userRefill is how long an empty bucket takes to be as good as a new one.
const userRefill = userBurst * time.Second

// userLimits holds back what asks the gate too often for one user at one
// client. What is over the limit is dropped, not rejected: no answer costs a
// guesser his time-out, and gear asks again. It is by client, so a guesser at
// one doesn't slow the same person at another.
type userLimits struct {
	now func() time.Time

	mu     sync.Mutex // guards the rest
	byUser map[userAt]*userLimit
	oldest *list.List // of *userLimit, by last use
}

type userAt struct{ client, realm, user string }

type userLimit struct {
	key    userAt
	bucket *rate.Limiter
	used   time.Time
	place  *list.Element // in oldest
}

func newUserLimits(now func() time.Time) *userLimits {
	return &userLimits{now: now, byUser: make(map[userAt]*userLimit), oldest: list.New()}
}

// allow reports whether the gate may be asked for the user once more.
func (l *userLimits) allow(client, realm, user string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.expire(now)
	key := userAt{client, realm, user}
	u := l.byUser[key]
	if u == nil {
		if len(l.byUser) >= maxUsers {
			l.remove(l.oldest.Front().Value.(*userLimit))
		}
		u = &userLimit{key: key, bucket: rate.NewLimiter(userRate, userBurst)}
		u.place = l.oldest.PushBack(u)
		l.byUser[key] = u
	}
	u.used = now
	l.oldest.MoveToBack(u.place)
	return u.bucket.AllowN(now, 1)
}

// expire removes the buckets that are full again. The caller holds l.mu.
func (l *userLimits) expire(now time.Time) {
	for place := l.oldest.Front(); place != nil; place = l.oldest.Front() {
		u := place.Value.(*userLimit)
		if now.Sub(u.used) < userRefill {
			return
		}
		l.remove(u)
	}
}

// remove takes u out. The caller holds l.mu.
func (l *userLimits) remove(u *userLimit) {
	delete(l.byUser, u.key)
	l.oldest.Remove(u.place)
}

// newClientLimit returns the bucket of a client: its rate, and one second of it
// at once, as after a power cut.
func newClientLimit(perSecond int) *rate.Limiter {
	if perSecond == 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), perSecond)
}

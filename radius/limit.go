package radius

import (
	"container/list"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// userBurst is how many codes of one user may come from one client at once,
	// and userEvery how often one after that. A lock comes after ten wrong
	// codes by default, so people, and gear that asks three times for each code,
	// never meet it; a machine that guesses, or a client's loop, does.
	userBurst = 30
	userEvery = time.Second
	// passwordBurst is how many passwords of one user are sent on from one client to
	// whoever else counts wrong ones, at once, and passwordEvery how often one is
	// after that. Directories lock accounts after 5 to 10 wrong ones, for everything
	// that a person does: a burst alone stays below that. A token of 30 s, of which
	// each code is good once, lets nobody log in more often. A slow guesser still
	// locks an account whose directory counts for longer than it takes; it is
	// seen in the audit log.
	passwordBurst = 4
	passwordEvery = 30 * time.Second
	// maxUsers bounds what each of the two holds, at some 500 octets each to 8 MiB. A bucket
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

// userLimits holds back what asks the gate, or checks passwords, too often for one
// user at one client. What is over the limit is dropped, not rejected: no answer costs a
// guesser his time-out, and gear asks again. It is by client, so a guesser at
// one doesn't slow the same person at another.
type userLimits struct {
	now    func() time.Time
	rate   rate.Limit
	burst  int
	refill time.Duration // how long an empty bucket takes to be as good as a new one

	mu     sync.Mutex // guards the rest
	byUser map[userAt]*userLimit
	oldest *list.List // of *userLimit, by last use
}

type userAt struct {
	client, realm string
	user          digest // of the name as others may read it: see folded
}

type userLimit struct {
	key    userAt
	bucket *rate.Limiter
	used   time.Time
	place  *list.Element // in oldest
}

// newUserLimits returns buckets of burst, into which one drops every so often.
func newUserLimits(now func() time.Time, burst int, every time.Duration) *userLimits {
	return &userLimits{
		now: now, rate: rate.Every(every), burst: burst, refill: time.Duration(burst) * every,
		byUser: make(map[userAt]*userLimit), oldest: list.New(),
	}
}

// allow reports whether the user's turn may come once more.
func (l *userLimits) allow(client, realm, user string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	l.expire(now)
	key := userAt{client, realm, digestOf(nil, folded(user))}
	u := l.byUser[key]
	if u == nil {
		if len(l.byUser) >= maxUsers {
			l.remove(l.oldest.Front().Value.(*userLimit))
		}
		u = &userLimit{key: key, bucket: rate.NewLimiter(l.rate, l.burst)}
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
		if now.Sub(u.used) < l.refill {
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

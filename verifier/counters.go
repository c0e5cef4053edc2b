package verifier

import "time"

const (
	week = 7 * day
	// longRunWeeks is the window of the long-run count: 13 weeks, the 90 days
	// of the policy rounded up.
	longRunWeeks = 13
	// sprayMinutes is the window of the realm-wide count.
	sprayMinutes = 10
)

// longRun counts a user's wrong codes over the last 13 weeks. A right code does
// not reset it: nine tries between a customer's own log-ins, day after day, are
// a guesser's best plan.
type longRun struct {
	Week     int64               // the newest week, since 1970
	Wrong    [longRunWeeks]uint8 // by week, the newest first
	LockedAt int64               // unix seconds; 0: not locked. No timer opens it.
}

// fail counts one more wrong code and locks at the limit; 0 is no limit.
func (l longRun) fail(limit int, now time.Time) longRun {
	l = l.turn(now.Unix() / week)
	if l.Wrong[0] < 1<<8-1 {
		l.Wrong[0]++
	}
	if limit > 0 && l.sum() >= limit && l.LockedAt == 0 {
		l.LockedAt = now.Unix()
	}
	return l
}

// turn drops the weeks that are out of the window at week.
func (l longRun) turn(week int64) longRun {
	for ; l.Week < week && l.sum() > 0; l.Week++ {
		copy(l.Wrong[1:], l.Wrong[:longRunWeeks-1])
		l.Wrong[0] = 0
	}
	l.Week = max(l.Week, week)
	return l
}

func (l longRun) sum() int {
	n := 0
	for _, w := range l.Wrong {
		n += int(w)
	}
	return n
}

// spray counts the wrong codes of a whole realm over the last ten minutes: one
// guess at each of a hundred thousand accounts locks nobody.
type spray struct {
	Minute    int64                // the newest, since 1970
	Wrong     [sprayMinutes]uint32 // by minute, the newest first
	AlarmedAt int64                // unix seconds of the last alarm
}

// fail counts one more wrong code. alarm says that the limit was reached and no
// alarm was given within the window; 0 is no limit.
func (s spray) fail(limit int, now time.Time) (counted spray, alarm bool) {
	minute := now.Unix() / 60
	for ; s.Minute < minute && s.sum() > 0; s.Minute++ {
		copy(s.Wrong[1:], s.Wrong[:sprayMinutes-1])
		s.Wrong[0] = 0
	}
	s.Minute = max(s.Minute, minute)
	s.Wrong[0]++
	if limit > 0 && s.sum() >= limit && now.Unix() >= s.AlarmedAt+sprayMinutes*60 {
		s.AlarmedAt = now.Unix()
		return s, true
	}
	return s, false
}

func (s spray) sum() int {
	n := 0
	for _, w := range s.Wrong {
		n += int(w)
	}
	return n
}

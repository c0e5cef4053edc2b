package verifier

import (
	"math"
	"time"

	"otpgate/verifier/otp"
)

// What a clock in a pocket does, and people before it. All in seconds.
const (
	// typingDelay is how long after reading a code people still send it.
	// Nobody sends one early.
	typingDelay = 60
	// usualDelay is what most of them need.
	usualDelay = 15
	// maxRate is how far a token's clock runs off in a day, either way.
	maxRate = 2.0
	// leastSlack is what a rate, however long it was watched, may be wrong by,
	// a day: temperature.
	leastSlack = 0.2
	// baselineDays is how long a clock is watched before its rate is used.
	baselineDays = 90
	// maxCandidates bounds the codes that are accepted at once: N·10⁻⁶ is what
	// a guess is worth.
	maxCandidates = 5
	// maxSearch bounds how far off a clock is looked for.
	maxSearch = 3 * 3600
	day       = 24 * 3600
)

// clock is what is known of a token's clock: the interval in which its offset
// (the token's clock less ours, in seconds) must lie. An accepted step narrows
// it, time widens it. The zero value knows nothing.
type clock struct {
	Lo, Hi float32
	At     int64 // unix seconds of the last narrowing; 0: nothing is known
	// The rate is learnt between the middle of the first interval of a
	// baseline and that of the last.
	Since int64   // unix seconds; 0: there is no baseline yet
	Base  float32 // the middle at Since
}

// newClock is the clock of a token that was right, by a period either way, at
// unix second at.
func newClock(p otp.Params, offset float64, at int64) clock {
	period := float64(p.Period)
	return clock{Lo: float32(offset - period), Hi: float32(offset + period), At: at}
}

func (c clock) middle() float64 { return (float64(c.Lo) + float64(c.Hi)) / 2 }

// predict is the interval at unix second now.
func (c clock) predict(now int64) (lo, hi float64) {
	days := max(0, float64(now-c.At)/day)
	rate, slack := 0.0, maxRate
	if watched := float64(c.At-c.Since) / day; c.Since != 0 && watched >= baselineDays {
		rate = (c.middle() - float64(c.Base)) / watched
		slack = min(maxRate, max(leastSlack, baselineDays/watched))
	}
	return float64(c.Lo) + (rate-slack)*days, float64(c.Hi) + (rate+slack)*days
}

// window returns the first and last step that is accepted at now: whatever the
// interval and a typing delay allow, at most maxCandidates around the likeliest.
func (c clock) window(p otp.Params, now int64) (first, last int64) {
	lo, hi := c.predict(now)
	first, last = stepAt(p, float64(now)+lo-typingDelay), stepAt(p, float64(now)+hi)
	if last-first+1 > maxCandidates {
		likely := stepAt(p, float64(now)+(lo+hi)/2-usualDelay)
		first = min(max(first, likely-maxCandidates/2), last-maxCandidates+1)
		last = first + maxCandidates - 1
	}
	return first, last
}

// search returns the first and last step at which a clock that has run off is
// looked for. used says whether the token was ever right here.
func (c clock) search(p otp.Params, now int64, used bool) (first, last int64) {
	lo, hi := c.predict(now)
	reach := float64(maxSearch)
	if used {
		reach = min(maxSearch, 3*float64(p.Period)+maxRate*float64(now-c.At)/day)
	}
	middle := float64(now) + (lo+hi)/2
	return stepAt(p, middle-reach-typingDelay), stepAt(p, middle+reach)
}

// learn narrows the interval by a right code: step was shown not longer than
// typingDelay before now. surprised says that the interval didn't allow it.
func (c clock) learn(p otp.Params, step, now int64) (learnt clock, surprised bool) {
	period := float64(p.Period)
	seenLo, seenHi := float64(step)*period-float64(now), float64(step+1)*period-float64(now)+typingDelay
	lo, hi := c.predict(now)
	lo, hi = max(lo, seenLo), min(hi, seenHi)
	learnt = clock{Lo: float32(lo), Hi: float32(hi), At: now, Since: c.Since, Base: c.Base}
	if surprised = lo > hi; surprised {
		learnt = clock{Lo: float32(seenLo), Hi: float32(seenHi), At: now}
	}
	if learnt.Since == 0 {
		learnt.Since, learnt.Base = now, float32(learnt.middle())
	}
	return learnt, surprised
}

// stepAt is the step at a time in unix seconds.
func stepAt(p otp.Params, at float64) int64 {
	return p.Step(time.Unix(int64(math.Floor(at)), 0))
}

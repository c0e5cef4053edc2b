package verifier

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"otpgate/verifier/otp"
)

// wearer is a simulated token and whoever carries it.
type wearer struct {
	rate   float64 // seconds a day that the token's clock runs off
	every  float64 // days between log-ins
	years  float64
	period int
}

// outcome is what a simulated life came to.
type outcome struct {
	tries, refused, unfound int
	candidates              float64 // mean
}

// live simulates: each log-in types one right code, read now and sent after a
// lognormal delay (median 12 s; one in three hundred is later than a minute).
func (w wearer) live(r *rand.Rand) outcome {
	p := otp.Params{Type: otp.TOTP, Period: w.period}
	const begin = 1_800_000_000
	c, last, used := newClock(p, 0, begin), int64(noStep), false
	var o outcome
	candidates := 0
	for t := float64(begin); t < begin+w.years*365*day; t += w.every * day * (0.5 + r.Float64()) {
		delay := math.Exp(math.Log(12) + 0.6*r.NormFloat64())
		offset := w.rate * (t - begin) / day
		step := stepAt(p, t+offset)
		now := int64(t + delay)
		if step <= last {
			continue
		}
		o.tries++
		first, end := c.window(p, now)
		first = max(first, last+1)
		candidates += int(end - first + 1)
		if step < first || step > end {
			o.refused++
			if from, to := c.search(p, now, used); step < from || step > to {
				o.unfound++
				continue
			}
			// The next code completes the pair.
			step++
			now += int64(w.period)
		}
		c, _ = c.learn(p, step, now)
		last, used = step, true
	}
	o.candidates = float64(candidates) / float64(o.tries)
	return o
}

func simulate(w wearer, lives int) (refused, unfound, candidates float64) {
	r := rand.New(rand.NewPCG(1, 2))
	tries := 0
	var o outcome
	for i := range lives {
		w := w
		w.rate *= 2*float64(i)/float64(lives-1) - 1 // from slow to fast
		life := w.live(r)
		tries += life.tries
		o.refused += life.refused
		o.unfound += life.unfound
		o.candidates += life.candidates / float64(lives)
	}
	return 100 * float64(o.refused) / float64(tries), 100 * float64(o.unfound) / float64(tries), o.candidates
}

// Five years with a token whose clock runs off by up to a second a day: how
// many right codes are refused (each becomes a prompt for the next one), and
// how many codes are accepted at once. It is seeded, so it says the same
// whenever it runs.
func TestDriftOverFiveYears(t *testing.T) {
	for _, c := range []struct {
		every                 float64
		maxRefused, maxAtOnce float64
	}{
		{every: 7, maxRefused: 0.3, maxAtOnce: 3.5},
		{every: 120, maxRefused: 2.5, maxAtOnce: 5},
	} {
		refused, unfound, candidates := simulate(wearer{rate: 1, every: c.every, years: 5, period: 60}, 400)
		t.Logf("every %3.0f days: %.2f %% refused, %.2f candidates", c.every, refused, candidates)
		if refused > c.maxRefused || candidates > c.maxAtOnce || unfound > 0 {
			t.Errorf("every %.0f days: %.2f %% refused (%.2f %% even with a second code), %.2f candidates; want at most %.1f, none, %.1f",
				c.every, refused, unfound, candidates, c.maxRefused, c.maxAtOnce)
		}
	}
}

// BenchmarkDrift prints the simulation for more clocks.
func BenchmarkDrift(b *testing.B) {
	for _, period := range []int{30, 60} {
		for _, rate := range []float64{0, 1, 2} {
			for _, every := range []float64{1, 7, 120} {
				b.Run(fmt.Sprintf("X=%d/drift=%gs_per_day/every=%gd", period, rate, every), func(b *testing.B) {
					for b.Loop() {
						refused, unfound, candidates := simulate(wearer{rate: rate, every: every, years: 5, period: period}, 40)
						b.ReportMetric(refused, "%refused")
						b.ReportMetric(unfound, "%unfound")
						b.ReportMetric(candidates, "candidates")
						b.ReportMetric(0, "ns/op")
					}
				})
			}
		}
	}
}

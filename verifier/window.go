package verifier

import (
	"otpgate/verifier/otp"
	"time"
)

// window returns the first and last candidate step for a token at time now.
// One step either side of ours: people type late, and clocks differ. What a
// token's own clock has been seen to do belongs here too.
func window(p otp.Params, now time.Time) (first, last int64) {
	s := p.Step(now)
	return s - 1, s + 1
}

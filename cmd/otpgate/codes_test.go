package main

import (
	"time"

	"otpgate/verifier/otp"
)

// codeNow is what a token shows offset steps from now.
func codeNow(key []byte, period int, offset int64) string {
	p := otp.Params{Type: otp.TOTP, Algorithm: otp.SHA1, Digits: 6, Period: period}
	return otp.NewGenerator(key, p).Code(p.Step(time.Now()) + offset)
}

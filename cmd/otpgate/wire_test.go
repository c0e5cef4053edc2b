package main

import (
	"testing"

	"otpgate/config"
	"otpgate/verifier/otp"
)

// A counter has no period, whatever the realm's default is: tokens that are made
// here have the parameters of those that a file brings.
func TestRealmsPeriod(t *testing.T) {
	for kind, want := range map[string]int{"totp": 60, "hotp": 0} {
		p := otpParams(config.OTP{Type: kind, Digits: 6, Period: 60, Algorithm: "SHA1"})
		if p != (otp.Params{Type: otp.Type(kind), Algorithm: otp.SHA1, Digits: 6, Period: want}) {
			t.Errorf("%s: %+v", kind, p)
		}
	}
}

package verifier

import "context"

// CheckPIN says whether pin is the user's.
func (v *Verifier) CheckPIN(context.Context, string, string, string) (FactorVerdict, error) {
	return FactorWrong, ErrNoDecision
}

// ChoosePIN sets the PIN of a user whose code was accepted.
func (v *Verifier) ChoosePIN(context.Context, Attempt, string) (Result, error) {
	return Result{}, ErrNoDecision
}

// CodeDigits is how many digits the user's codes have.
func (v *Verifier) CodeDigits(_ context.Context, realm, _ string) (int, error) {
	return v.Realms[realm].OTP.Digits, nil
}

// AllowedPIN says why pin can't be one.
func AllowedPIN(pin string) error {
	if len(pin) < 4 || len(pin) > 12 || !isDigits(pin) {
		return refuse("choose another", "a PIN has 4 to 12 digits")
	}
	return nil
}

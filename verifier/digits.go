package verifier

import (
	"context"
	"errors"
)

// CodeDigits is how many digits the next code of a user has, for a door that has
// to tell it from what was typed with it: as the user's tokens in service have
// it, if they agree, else as the realm does. A user who doesn't exist has the
// realm's.
func (v *Verifier) CodeDigits(ctx context.Context, realm, user string) (int, error) {
	r, err := v.realm(realm)
	if err != nil {
		return 0, err
	}
	a, err := v.Account(ctx, realm, user)
	if refusal := (*Refusal)(nil); err != nil && !errors.As(err, &refusal) {
		return 0, err
	}
	usual, digits := r.OTP.Digits, 0
	for _, t := range a.Tokens {
		switch {
		case t.State != InService:
		case digits != 0 && digits != t.Params.Digits:
			return usual, nil
		default:
			digits = t.Params.Digits
		}
	}
	if digits == 0 {
		return usual, nil
	}
	return digits, nil
}

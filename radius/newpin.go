package radius

import (
	"context"
	"errors"
	"fmt"

	"otpgate/verifier"
)

// lacksPIN reports whether the person has yet to choose a PIN.
func (at *progress) lacksPIN() bool {
	return at.factor.Kind == verifier.FactorPIN && at.factor.Verdict == verifier.FactorUnset
}

// offerPIN follows an accepted code. Over a method that can't ask, the person
// doesn't get in: without a PIN the code would be all there is.
func (at *progress) offerPIN(p *proof) (verdict, error) {
	if !p.canAsk {
		return verdict{}, pinNotChosen
	}
	return at.ask(stagePIN, promptNewPIN), nil
}

// newPIN takes a new PIN, twice. The code that came before it was accepted, and
// is used up whatever becomes of it.
func (s *Server) newPIN(ctx context.Context, r *request, at *progress, p *proof) (verdict, error) {
	pin := verifier.Normalise(p.typed)
	if at.stage == stagePIN {
		if verifier.AllowedPIN(pin) != nil {
			return at.newPINAgain(promptPINNotAllowed)
		}
		at.pin = pin
		return at.ask(stagePINAgain, promptPINAgain), nil
	}
	if pin != at.pin {
		return at.newPINAgain(promptPINDiffers)
	}
	result, err := s.Gate.ChoosePIN(ctx, r.attempt(at, verifier.Typed("")), pin)
	var notAllowed *verifier.Refusal
	switch {
	case errors.As(err, &notAllowed):
		return at.newPINAgain(promptPINNotAllowed)
	case err != nil:
		return verdict{}, fmt.Errorf("%w: %w", noDecision, err)
	case result.Outcome != verifier.Accepted:
		return verdict{}, nil
	}
	return verdict{kind: accepted, groups: result.Groups}, nil
}

// newPINAgain asks anew, and why.
func (at *progress) newPINAgain(why message) (verdict, error) {
	at.pin = ""
	if at.mistakes++; at.mistakes == maxMistakes {
		return verdict{}, pinNotChosen
	}
	return at.ask(stagePIN, why), nil
}

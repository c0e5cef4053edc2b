package radius

import (
	"context"
	"errors"
	"fmt"

	"otpgate/verifier"
)

// offerPIN follows an accepted code of who has no PIN yet. Over a method that
// can't ask, the person doesn't get in: without a PIN the code would be all there
// is.
func (at *progress) offerPIN(ticket verifier.PINTicket, p *proof) (verdict, error) {
	if !p.canAsk {
		return verdict{}, pinNotChosen
	}
	at.ticket = ticket
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
		at.pin = Secret(pin)
		return at.ask(stagePINAgain, promptPINAgain), nil
	}
	if pin != string(at.pin) {
		return at.newPINAgain(promptPINDiffers)
	}
	var result verifier.Result
	err := s.hashing.use(r.client.Name, func() (err error) {
		result, err = s.Gate.ChoosePIN(ctx, r.attempt(at, verifier.Typed("")), at.ticket, pin)
		return err
	})
	var notAllowed *verifier.Refusal
	switch {
	case errors.Is(err, firstFactorUnavailable):
		return verdict{}, err
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
	at.pin = nil
	if at.mistakes++; at.mistakes == maxMistakes {
		return verdict{}, pinNotChosen
	}
	return at.ask(stagePIN, why), nil
}

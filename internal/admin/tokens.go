package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"otpgate/verifier"
	"otpgate/verifier/otp"
)

func (s *Server) listTokens(r *http.Request, out *json.Encoder) error {
	f := verifier.TokenFilter{Realm: r.FormValue("realm"), User: r.FormValue("user"), State: verifier.TokenState(r.FormValue("state"))}
	return s.Verifier.Tokens(r.Context(), f, func(t verifier.TokenInfo) error { return out.Encode(wireToken(t)) })
}

func (s *Server) createToken(r *http.Request, out *json.Encoder) error {
	var in NewToken
	if err := decode(r, &in); err != nil {
		return err
	}
	made := len(in.Key) == 0
	by := verifier.By{Who: peer(r), Reason: in.Reason, Form: in.Form}
	t, key, receipt, err := s.Verifier.CreateToken(r.Context(), by, verifier.NewToken{
		Realm: in.Realm, User: in.User, Serial: in.Serial, Params: s.params(in), Key: in.Key, Carrier: in.Carrier, InService: in.InService,
	})
	if err != nil {
		return err
	}
	created := SteppedToken{Token: wireToken(verifier.TokenInfo{Token: t}), Receipt: receipt}
	if made {
		created.URI = t.URI(s.Realms[t.Realm].Issuer, key)
	}
	return out.Encode(created)
}

// params are the realm's but for what is asked for. Those of an unknown realm
// are zero; it is refused later.
func (s *Server) params(in NewToken) otp.Params {
	params := s.Verifier.Realms[in.Realm].OTP
	if in.Type != "" && in.Type != params.Type {
		params.Type, params.Period = in.Type, 0
		if in.Type == otp.TOTP {
			params.Period = defaultPeriod
		}
	}
	if in.Algorithm != "" {
		params.Algorithm = in.Algorithm
	}
	if in.Digits != 0 {
		params.Digits = in.Digits
	}
	if in.Period != 0 {
		params.Period = in.Period
	}
	return params
}

// defaultPeriod is for a TOTP token in a realm of HOTP ones, in seconds: what
// RFC 6238 §5.2 recommends.
const defaultPeriod = 30

func (s *Server) showToken(r *http.Request, out *json.Encoder) error {
	t, err := s.Verifier.Token(r.Context(), r.PathValue("serial"))
	if err != nil {
		return err
	}
	return out.Encode(wireToken(t))
}

// stepToken makes one step in a token's life. The answer is the token as it is
// then: after a reissue, the new one.
func (s *Server) stepToken(r *http.Request, out *json.Encoder) error {
	var in Step
	if err := decode(r, &in); err != nil {
		return err
	}
	ctx, serial, by := r.Context(), r.PathValue("serial"), in.by(r)
	var done SteppedToken
	var key []byte
	var t verifier.Token
	var err error
	switch step := r.PathValue("step"); step {
	case "reissue":
		t, key, done.Receipt, err = s.Verifier.Reissue(ctx, by, serial, in.To)
		serial = t.Serial
	case "uri":
		t, key, done.Receipt, err = s.Verifier.ShowKey(ctx, by, serial)
	default:
		done.Receipt, err = s.tokenStep(ctx, step, by, serial, in)
	}
	if err != nil {
		return err
	}
	if key != nil {
		done.URI = t.URI(s.Realms[t.Realm].Issuer, key)
	}
	info, err := s.Verifier.Token(ctx, serial)
	if err != nil {
		return err
	}
	done.Token = wireToken(info)
	return out.Encode(done)
}

// tokenStep makes a step that shows no key.
func (s *Server) tokenStep(ctx context.Context, step string, by verifier.By, serial string, in Step) (receipt verifier.Receipt, err error) {
	switch step {
	case "assign":
		_, receipt, err = s.Verifier.Assign(ctx, by, serial, in.Realm, in.User)
	case "start":
		receipt, err = s.start(ctx, by, serial, in.Code)
	case "resync":
		_, receipt, err = s.Verifier.Resync(ctx, by, serial, in.Code, in.Next)
	case "suspend":
		_, receipt, err = s.Verifier.Suspend(ctx, by, serial)
	case "resume":
		_, receipt, err = s.Verifier.Resume(ctx, by, serial)
	case "unusable":
		_, receipt, err = s.Verifier.MarkUnusable(ctx, by, serial, in.Why)
	case "release":
		_, receipt, err = s.Verifier.Release(ctx, by, serial)
	default:
		err = badRequest{fmt.Sprintf("there is no step %q", step)}
	}
	return receipt, err
}

func (s *Server) start(ctx context.Context, by verifier.By, serial, code string) (verifier.Receipt, error) {
	result, err := s.Verifier.Start(ctx, by, serial, verifier.Typed(code))
	var why verifier.Refusal
	switch {
	case err != nil:
		return verifier.Receipt{}, err
	case result.Outcome == verifier.Accepted:
		return result.Receipt, nil
	case result.Locked:
		why = verifier.Refusal{Problem: "the code was not accepted, and the token is locked", Hint: "otpgate user unlock opens it"}
	case result.Outcome == verifier.NextCode:
		why = verifier.Refusal{
			Problem: "the token's clock or counter is far off", Hint: "start it again with the next code that it shows: the two together count",
		}
	default:
		why = verifier.Refusal{Problem: "the code was not accepted", Hint: "type the one that the token shows now; each works once"}
	}
	return verifier.Receipt{}, &why
}

func wireToken(t verifier.TokenInfo) Token {
	return Token{
		Serial: t.Serial, Realm: t.Realm, User: t.User, State: t.State, Reason: t.Reason, Carrier: t.Carrier, Batch: t.Batch,
		Params: t.Params, Created: t.Created, Changed: t.Changed,
		Failures: t.Failures, LockedAt: t.LockedAt, UsedAt: t.UsedAt, TriedAt: t.TriedAt,
	}
}

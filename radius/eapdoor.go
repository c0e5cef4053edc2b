package radius

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"

	"otpgate/radius/eap"
	"otpgate/verifier"
)

const (
	// defaultEAPLength is the octets of an EAP packet where the client sends no
	// Framed-MTU: as many as every lower layer carries (RFC 3748 §3.1).
	defaultEAPLength = 1020
	// maxEAPLength bounds them, so that a request or a challenge goes in one
	// Ethernet frame.
	maxEAPLength = 1360
	// maxEAPChallenge is the octets of a challenge's attributes: the EAP packet,
	// split, and the State.
	maxEAPChallenge = maxEAPLength + 2*(maxEAPLength/maxText+1) + 2 + eapStateLength
	// eapSuccessLength is the octets of all that EAP has an Accept carry: the EAP
	// packet, and two keys of 32 octets, each with its length and padded to 48,
	// a salt, and two headers.
	eapSuccessLength = 2 + 4 + 2*(2+4+2+2+48)
)

// decideEAP takes one step of an EAP session.
func (s *Server) decideEAP(r *request) ([]byte, error) {
	message := r.eapMessage()
	e, outer, err := s.eapSession(r, message)
	if why := refusal(""); errors.As(err, &why) {
		s.logRefusal(r.datagram, err)
		return r.replyEAP(codec.CodeAccessReject, eap.Failed(message), nil)
	} else if err != nil {
		return nil, err
	}
	ended := ending{result: eapFault} // by a panic, unless there is another end
	defer func() { s.eap.release(e, ended) }()
	if len(message) == 0 && !e.begun { // EAP-Start (RFC 3579 §2.1)
		e.begun, ended = true, ending{}
		return r.challengeEAP(e, e.eap.Start())
	}
	ctx, cancel := context.WithTimeout(s.ctx, answerLimit-s.Now().Sub(r.at))
	defer cancel()
	step, err := e.eap.Next(ctx, message, r.eapLength(), s.judge(r, e, outer))
	if errors.Is(err, eap.ErrDiscarded) {
		if ended = (ending{}); !e.begun {
			ended.result = eapEndedBad
		}
		return nil, fmt.Errorf("%w: %w", eapIgnored, err)
	}
	e.begun = true
	if err != nil {
		// What the tunnel has taken can't be taken again, so the session stays,
		// and drops whatever comes: the gear turns to another server.
		ended = ending{}
		return nil, s.undecided(err)
	}
	ended = e.ending(step)
	switch step.Status {
	case eap.Success:
		return s.acceptEAP(r, e, step)
	case eap.Failure:
		if !e.rejected {
			s.logRefusal(r.datagram, whyFailed(step.Cause))
		}
		return r.replyEAP(codec.CodeAccessReject, step.Packet, nil)
	default:
		return r.challengeEAP(e, step)
	}
}

// whyFailed is the refusal for a session that failed by itself.
func whyFailed(cause eap.Cause) refusal {
	switch cause {
	case eap.MethodUnwanted:
		return eapMethodUnwanted
	case eap.CertificateRefused:
		return eapCertificateRefused
	default:
		return eapFailed
	}
}

// undecided is the reason to drop what a session couldn't decide.
func (s *Server) undecided(err error) error {
	if why := reason(""); errors.As(err, &why) {
		return err
	}
	return fmt.Errorf("%w: %w", internalError, err)
}

// eapSession returns the session that the request goes on with, or a new one, for
// the caller to release, and whom the User-Name means; or the refusal, or the
// reason to drop the request.
func (s *Server) eapSession(r *request, message []byte) (*eapSession, subject, error) {
	if r.count(rfc2865.UserPassword_Type)+r.count(rfc2865.CHAPPassword_Type)+
		r.countMicrosoft(msCHAPResponse)+r.countMicrosoft(msCHAP2Response) > 0 {
		return nil, subject{}, ambiguousMethod // RFC 3579 §3.3
	}
	if len(r.raw)+maxEAPChallenge > codec.MaxPacketLength {
		return nil, subject{}, noRoom
	}
	states := r.count(rfc2865.State_Type)
	if len(message) == 0 && states == 0 { // EAP-Start: nobody has said who it is
		e, err := s.eap.begin(r.client, r.station(), "", s.EAP.NewSession(s.firstPrompt(r.client)))
		return e, subject{}, err
	}
	outer, err := s.subject(r)
	switch {
	case err != nil:
		return nil, subject{}, err
	case states > 1:
		return nil, subject{}, stateAmbiguous
	case states == 1:
		e, err := s.eap.take(r.packet.Get(rfc2865.State_Type), r.client, outer.sent)
		return e, outer, err
	}
	e, err := s.eap.begin(r.client, r.station(), outer.sent, s.EAP.NewSession(s.firstPrompt(r.client)))
	return e, outer, err
}

// firstPrompt is what somebody who types reads first. Whose realm it is isn't
// known then, so it is the client's.
func (s *Server) firstPrompt(c *client) string {
	first := promptCode
	switch {
	case c.Mode == ModePasswordOTP && c.CodeFirst:
		first = promptCodeAndFactor
	case c.Mode == ModePasswordOTP:
		first = promptFactorAndCode
	case c.Mode == ModeChallenge && !c.FirstFactor.none():
		first = promptFirstFactor
	}
	return s.question(c, c.Realm, prompt{message: first})
}

// judge takes what a session shows one step on.
func (s *Server) judge(r *request, e *eapSession, outer subject) eap.Decide {
	return func(ctx context.Context, p *eap.Proof) (eap.Verdict, error) {
		r.client.tally.method(p.Name())
		v, err := s.proceedEAP(ctx, r, e, outer, p)
		if why := refusal(""); errors.As(err, &why) {
			s.logRefusal(r.datagram, err)
		} else if err != nil {
			return eap.Verdict{}, err
		}
		switch v.kind {
		case accepted:
			e.verdict = v
			return eap.Verdict{Kind: eap.Accept}, nil
		case asked:
			return eap.Verdict{Kind: eap.Ask, Prompt: s.question(r.client, e.at.who.realm, v.prompt)}, nil
		default:
			e.rejected = true
			return eap.Verdict{Kind: eap.Reject}, nil
		}
	}
}

// proceedEAP is proceed for what a session shows. In a tunnel it is about whoever
// is named in there: the User-Name may be anybody's.
func (s *Server) proceedEAP(ctx context.Context, r *request, e *eapSession, outer subject, shown *eap.Proof) (verdict, error) {
	p := &proof{method: methodEAP, eap: shown.Name(), isTyped: shown.MSCHAPv2 == nil, typed: shown.Typed, canAsk: shown.CanAsk}
	if p.isTyped {
		p.match = verifier.Typed(p.typed)
	} else {
		p.match = shown.MSCHAPv2.Match
	}
	if e.at == nil {
		who := outer
		if shown.Tunnel != "" {
			var err error
			if who, err = s.namedIn(r, shown.Identity); err != nil {
				return verdict{}, err
			}
		}
		if p.isTyped && p.typed == "" && (r.client.asksForCodeFirst() || !r.client.mayBeEmpty()) {
			return verdict{}, emptyPassword
		}
		if err := s.fits(r, who, p); err != nil {
			return verdict{}, err
		}
		e.at = begin(who)
		if r.client.asksForCodeFirst() {
			e.at.stage = stageCode
		}
	}
	return s.proceed(ctx, r, e.at, p)
}

// asksForCodeFirst reports whether a challenge for the code would come whatever
// is shown: EAP begins with one.
func (c *client) asksForCodeFirst() bool { return c.Mode == ModeChallenge && c.FirstFactor.none() }

// acceptEAP is the Accept to a session that has come to its end.
func (s *Server) acceptEAP(r *request, e *eapSession, step eap.Step) ([]byte, error) {
	var p codec.Packet
	p.Attributes = eapMessages(step.Packet)
	if len(step.MSK) > 0 {
		if err := r.addMSK(&p, step.MSK); err != nil {
			return nil, fmt.Errorf("%w: encoding the keys: %w", internalError, err)
		}
	}
	return s.grant(r, e.at, e.verdict, p.Attributes)
}

// addMSK adds the key of EAP in the two halves that RFC 2548 §2.4.2 and §2.4.3
// have room for: the first is what the peer sends with.
func (r *request) addMSK(p *codec.Packet, msk []byte) error {
	var salt [2]byte
	_, _ = rand.Read(salt[:]) // never fails
	half := len(msk) / 2
	if err := r.addMPPEKey(p, msMPPERecvKey, msk[:half], salt); err != nil {
		return err
	}
	salt[1] ^= 1 // as in msCHAPv2.success
	return r.addMPPEKey(p, msMPPESendKey, msk[half:], salt)
}

func (r *request) challengeEAP(e *eapSession, step eap.Step) ([]byte, error) {
	return r.replyEAP(codec.CodeAccessChallenge, step.Packet, e.state[:])
}

// replyEAP is a reply with an EAP packet, and a State if there is to be an answer.
func (r *request) replyEAP(code codec.Code, packet, state []byte) ([]byte, error) {
	attributes := eapMessages(packet)
	if state != nil {
		attributes.Add(rfc2865.State_Type, state)
	}
	return r.reply(code, attributes)
}

// eapMessage joins the EAP-Messages (RFC 3579 §3.1).
func (r *request) eapMessage() []byte {
	var message []byte
	for _, avp := range r.packet.Attributes {
		if avp.Type == rfc2869.EAPMessage_Type {
			message = append(message, avp.Attribute...)
		}
	}
	return message
}

// eapMessages splits an EAP packet.
func eapMessages(packet []byte) codec.Attributes {
	var attributes codec.Attributes
	for len(packet) > 0 {
		n := min(len(packet), maxText)
		attributes.Add(rfc2869.EAPMessage_Type, packet[:n])
		packet = packet[n:]
	}
	return attributes
}

// eapLength is the octets that an EAP packet to the client may have (RFC 3579
// §2.4).
func (r *request) eapLength() int {
	if mtu := rfc2865.FramedMTU_Get(&r.packet); mtu > 0 {
		return int(min(mtu, maxEAPLength))
	}
	return defaultEAPLength
}

package eap

import (
	"bytes"
	"context"

	"otpgate/radius/mschap"
)

// ttlsMSChallengeLength is the octets that TLS gives for MS-CHAP-V2: the challenge
// and the identifier (RFC 5281 §11.2.4).
const ttlsMSChallengeLength = mschap.ChallengeLength + 1

// ttls is what goes on inside TTLS version 0 (RFC 5281): in AVPs, the peer sends
// a password (PAP), a response by MS-CHAP-V2, or EAP. CHAP and MS-CHAP are not
// taken: whoever can speak TTLS can speak one of these.
type ttls struct {
	tls      *records
	inner    *conversation
	accepted bool // by MS-CHAP-V2: the peer has yet to acknowledge our success
}

func newTTLS(r *records, prompt string) *ttls { return &ttls{tls: r, inner: inTunnel(prompt)} }

func (*ttls) kind() Method  { return TTLS }
func (*ttls) label() string { return "ttls keying material" } // RFC 5281 §8
func (*ttls) open() []byte  { return nil }
func (t *ttls) close()      { t.inner.close() }

func (t *ttls) respond(ctx context.Context, plain []byte, decide Decide) (move, error) {
	if t.accepted || len(plain) == 0 {
		if t.accepted && len(plain) == 0 {
			return move{status: Success}, nil
		}
		return move{status: Failure}, nil
	}
	sent, err := parseAVPs(plain)
	if err != nil {
		return move{status: Failure}, nil //nolint:nilerr // a Failure is all that is told
	}
	message, byEAP := sent[avpKind{0, avpEAPMessage}]
	password, byPAP := sent[avpKind{0, avpUserPassword}]
	response, byMSCHAP := sent[avpKind{vendorMicrosoft, avpMSCHAP2Response}]
	name := sent[avpKind{0, avpUserName}]
	switch {
	case byEAP && (byPAP || byMSCHAP), byPAP && byMSCHAP:
		return move{status: Failure}, nil
	case byEAP:
		return t.eap(ctx, message, decide)
	case t.inner.started || len(name) == 0 || len(name) > maxIdentity:
		return move{status: Failure}, nil
	case byPAP:
		return pap(ctx, string(name), password, decide)
	case byMSCHAP:
		return t.msCHAPv2(ctx, string(name), sent[avpKind{vendorMicrosoft, avpMSCHAPChallenge}], response, decide)
	}
	return move{status: Failure}, nil
}

// eap goes on with the conversation in the tunnel. Its Success and Failure are
// those outside (RFC 5281 §11.2.1).
func (t *ttls) eap(ctx context.Context, message []byte, decide Decide) (move, error) {
	m, err := t.inner.step(ctx, message, decide)
	if err != nil || m.status != Continue {
		return move{status: m.status}, err
	}
	return move{data: encodeAVP(avpKind{0, avpEAPMessage}, m.request.encode())}, nil
}

// pap takes a User-Password, which is padded so that its length isn't seen (RFC
// 5281 §11.2.5).
func pap(ctx context.Context, name string, password []byte, decide Decide) (move, error) {
	password = bytes.TrimRight(password, "\x00")
	if len(password) > maxTyped {
		return move{status: Failure}, nil
	}
	v, err := decide(ctx, &Proof{Identity: name, Method: "PAP", Typed: string(password)})
	switch {
	case err != nil:
		return move{}, err
	case v.Kind == Accept:
		return move{status: Success}, nil
	}
	return move{status: Failure}, nil
}

// msCHAPv2 takes a response to the challenge that both sides take from TLS, so
// that it is worth nothing anywhere else (RFC 5281 §11.1, §11.2.4).
func (t *ttls) msCHAPv2(ctx context.Context, name string, challenge, value []byte, decide Decide) (move, error) {
	implicit, err := t.tls.export("ttls challenge", nil, ttlsMSChallengeLength)
	if err != nil {
		return move{}, err
	}
	response, identifier, ok := mschap.ParseResponse(value, challenge, name)
	if !ok || identifier != implicit[mschap.ChallengeLength] || !bytes.Equal(challenge, implicit[:mschap.ChallengeLength]) {
		return move{status: Failure}, nil
	}
	v, err := decide(ctx, &Proof{Identity: name, Method: "MS-CHAPv2", MSCHAPv2: response})
	switch {
	case err != nil:
		return move{}, err
	case v.Kind != Accept:
		return move{status: Failure}, nil
	}
	t.accepted = true
	return move{data: encodeAVP(avpKind{vendorMicrosoft, avpMSCHAP2Success}, append([]byte{identifier}, response.Success()...))}, nil
}

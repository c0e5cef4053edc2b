package radius

import (
	"fmt"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"

	"otpgate/verifier"
)

// method is how a code is shown.
type method int

// The methods, as bits of a set.
const (
	methodPAP method = 1 << iota
	methodCHAP
	methodMSCHAPv2
	methodEAP
)

func (m method) String() string {
	switch m {
	case methodPAP:
		return "PAP"
	case methodCHAP:
		return "CHAP"
	case methodMSCHAPv2:
		return "MS-CHAPv2"
	case methodEAP:
		return "EAP"
	}
	return "other"
}

// proof is a code as one method shows it. It is in memory of its own: it
// outlives the request. One goroutine uses it at a time.
type proof struct {
	method method
	eap    string // with methodEAP: which, and in which tunnel
	match  verifier.Match
	// typed is what was typed, if isTyped: what the other methods' responses are
	// computed from.
	typed   string
	isTyped bool
	canAsk  bool      // the person can be asked, and answer, within the log-in
	ms      *msCHAPv2 // nil but for methodMSCHAPv2
}

// proof returns the code as the request shows it, or the refusal. There must be
// exactly one method (RFC 2865 §4.1, RFC 3579 §3.3).
func (r *request) proof(user string) (*proof, error) {
	pap, chap, ms := r.count(rfc2865.UserPassword_Type), r.count(rfc2865.CHAPPassword_Type), r.countMicrosoft(msCHAP2Response)
	other := r.countMicrosoft(msCHAPResponse)
	if r.has(rfc2869.EAPMessage_Type) { // one message may be in many attributes
		other++
	}
	switch {
	case pap+chap+ms+other == 0:
		return nil, noPassword
	case pap+chap+ms+other > 1:
		return nil, ambiguousMethod
	case pap == 1:
		return r.papProof()
	case chap == 1:
		return r.chapProof()
	case ms == 1:
		return r.msCHAPv2Proof(user)
	}
	return nil, methodNotSupported
}

// unprotected reports whether the request asks by a method in which nothing
// depends on the shared secret. Without a Message-Authenticator anybody could
// have made it (RFC 2869 §5.14, RFC 3579 §3.2), to lock a user by wrong codes.
func (r *request) unprotected() bool {
	return r.has(rfc2869.EAPMessage_Type) || r.has(rfc2865.CHAPPassword_Type) ||
		r.countMicrosoft(msCHAPResponse)+r.countMicrosoft(msCHAP2Response) > 0
}

func (r *request) papProof() (*proof, error) {
	password, err := r.userPassword()
	if err != nil {
		return nil, err
	}
	typed := r.client.decode(string(password))
	return &proof{method: methodPAP, match: verifier.Typed(typed), typed: typed, isTyped: true, canAsk: true}, nil
}

func (r *request) chapProof() (*proof, error) {
	c, err := r.chapResponse()
	if err != nil {
		return nil, err
	}
	return &proof{method: methodCHAP, match: c.match}, nil
}

func (r *request) msCHAPv2Proof(user string) (*proof, error) {
	m, err := r.msCHAPv2Response(user)
	if err != nil {
		return nil, err
	}
	return &proof{method: methodMSCHAPv2, match: m.Match, ms: m}, nil
}

// impossible is methodNotPossible with what is in the way, and what to do.
func (p *proof) impossible() error {
	name, hidden, silent := p.method.String(), "set the client to PAP", "set the client to PAP"
	if p.method == methodEAP {
		name = p.eap
		hidden = "set the person's device to TTLS with PAP or GTC, or PEAP with GTC"
		silent = "set the person's device to TTLS or PEAP, with GTC inside"
	}
	if p.isTyped {
		return fmt.Errorf("%w: by %s nobody can be asked for more after the password: %s, or the client's mode to password+otp", methodNotPossible, name, silent)
	}
	return fmt.Errorf("%w: by %s what was typed doesn't arrive, and a password is to be checked: %s, or the client's mode to otp", methodNotPossible, name, hidden)
}

// sameCode reports whether p and q are known to be made from one code. Of two
// responses to challenges nobody can tell.
func (p *proof) sameCode(q *proof) bool {
	switch {
	case p.typed != "":
		return q.match(p.typed)
	case q.typed != "":
		return p.match(q.typed)
	}
	return false
}

// accepted is what an Access-Accept has to carry once match has reported true.
func (p *proof) accepted(r *request) (codec.Attributes, error) {
	if p.ms == nil {
		return nil, nil
	}
	return p.ms.success(r)
}

// rejected is what an Access-Reject has to carry.
func (p *proof) rejected() (codec.Attributes, error) {
	if p.ms == nil {
		return nil, nil
	}
	return p.ms.failure()
}

package radius

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"otpgate/radius/dictionary"
	"otpgate/verifier"
)

const (
	door = "radius" // in the audit log

	// maxStation is how long a Calling-Station-Id is taken for one: a MAC
	// address with an SSID has 50 octets, an IPv6 address with a port 47.
	maxStation = 64
)

// refusal is why the door rejects a request without asking the gate. It goes to
// the log, never to the client.
type refusal string

func (r refusal) Error() string { return string(r) }

const (
	noUserName             refusal = "there is not exactly one User-Name"
	userNameUnusable       refusal = "no user can have this User-Name"
	noPassword             refusal = "there is no password"
	emptyPassword          refusal = "the password is empty"
	passwordMislengthed    refusal = "the User-Password has a wrong length"
	methodNotSupported     refusal = "method not supported: set the client to PAP, CHAP or MS-CHAPv2"
	ambiguousMethod        refusal = "there is more than one password, or more than one method"
	chapMislengthed        refusal = "the CHAP-Password or the CHAP-Challenge has a wrong length"
	chapChallengeMissing   refusal = "there is a CHAP-Password, but no CHAP-Challenge, which RADIUS/1.1 needs"
	msCHAPMislengthed      refusal = "the MS-CHAP2-Response or the MS-CHAP-Challenge has a wrong length"
	msCHAPChallengeMissing refusal = "there is an MS-CHAP2-Response, but not exactly one MS-CHAP-Challenge"
	noRoom                 refusal = "the packet is too long for what the answer has to carry"
	nameTooLong            refusal = "the User-Name is too long for an attribute of the answer"
	sameCode               refusal = "the code that was refused just now, by another method"
)

// respond returns the reply to d, or the reason to drop it.
func (s *Server) respond(req *request, d *datagram) ([]byte, error) {
	if err := req.parse(d); err != nil {
		return nil, err
	}
	code := req.packet.Code
	switch {
	case code == codec.CodeAccountingRequest:
		return s.account(req)
	case code != codec.CodeAccessRequest && code != codec.CodeStatusServer:
		return nil, fmt.Errorf("%w: %s", unexpectedCode, code)
	case code == codec.CodeAccessRequest && req.authenticators == 0 && req.format == overUDP:
		req.client.tally.unsigned()
	}
	if err := req.checkIntegrity(); err != nil {
		return nil, err
	}
	if code == codec.CodeStatusServer {
		// RFC 5997 §3. The same request gives the same reply, so the cache has
		// no part in it.
		return req.reply(codec.CodeAccessAccept, nil)
	}
	return s.answerOnce(req)
}

// answerOnce answers an Access-Request that isn't a duplicate, and a duplicate
// with the answer of the first.
func (s *Server) answerOnce(req *request) ([]byte, error) {
	entry, reply, err := s.cache.begin(req)
	if err != nil || reply != nil {
		return reply, err
	}
	defer s.cache.abandon(entry) // no decision, or a panic: the next one is evaluated
	if !req.client.limit.AllowN(s.Now(), 1) {
		return nil, clientTooFast
	}
	reply, err = s.decide(req)
	if err != nil {
		return nil, err
	}
	if !s.cache.finish(entry, reply) {
		return nil, superseded
	}
	return reply, nil
}

// decide asks the gate, once for each code: see bursts.
func (s *Server) decide(req *request) ([]byte, error) {
	attempt, proof, err := s.attempt(req)
	if err != nil {
		s.logRefusal(req.datagram, err)
		return req.reply(codec.CodeAccessReject, nil)
	}
	req.client.tally.method(proof.method.String())
	login := loginKey{attempt.Client, attempt.Realm, attempt.User, attempt.From}
	if s.bursts.continues(login, proof) {
		s.logRefusal(req.datagram, sameCode)
		return req.reject(proof)
	}
	if !s.users.allow(attempt.Client, attempt.Realm, attempt.User) {
		return nil, userTooFast
	}
	ctx, cancel := context.WithTimeout(s.ctx, answerLimit-s.Now().Sub(req.at))
	defer cancel()
	result, err := s.Gate.Verify(ctx, attempt)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", noDecision, err)
	}
	if result.Outcome != verifier.Accepted {
		s.bursts.refused(login, proof)
		return req.reject(proof)
	}
	attributes, err := proof.accepted(req)
	if err != nil {
		return nil, err
	}
	person := dictionary.Person{User: attempt.User, Realm: attempt.Realm, Groups: result.Groups}
	return req.reply(codec.CodeAccessAccept, append(attributes, s.answer(req.client, person)...))
}

// reject is the reply to a code that was refused.
func (r *request) reject(p *proof) ([]byte, error) {
	attributes, err := p.rejected()
	if err != nil {
		return nil, err
	}
	return r.reply(codec.CodeAccessReject, attributes)
}

// attempt is what the gate is asked, and how the code was shown; or the refusal.
func (s *Server) attempt(r *request) (verifier.Attempt, *proof, error) {
	who, err := s.subject(r)
	if err != nil {
		return verifier.Attempt{}, nil, err
	}
	proof, err := r.proof(who.sent)
	if err != nil {
		return verifier.Attempt{}, nil, err
	}
	if err := s.fits(r, who, proof); err != nil {
		return verifier.Attempt{}, nil, err
	}
	return verifier.Attempt{
		Realm:   who.realm,
		User:    who.user,
		Match:   proof.match,
		Door:    door,
		Client:  r.client.Name,
		From:    station(r.packet.Get(rfc2865.CallingStationID_Type)),
		Resends: true,
	}, proof, nil
}

func (r *request) count(t codec.Type) int {
	n := 0
	for _, avp := range r.packet.Attributes {
		if avp.Type == t {
			n++
		}
	}
	return n
}

// station is a Calling-Station-Id as the audit log has it: without the port
// that some gear puts behind an address (strongSwan: 192.0.2.1[4500]), which
// changes from try to try. What isn't a short text is left out.
func station(value []byte) string {
	if len(value) > maxStation || !isText(value) {
		return ""
	}
	id := string(value)
	if strings.Contains(id, ":") {
		if ap, err := netip.ParseAddrPort(id); err == nil {
			return ap.Addr().String()
		}
	}
	if host, port, ok := strings.Cut(id, "["); ok && strings.HasSuffix(port, "]") {
		if addr, err := netip.ParseAddr(host); err == nil {
			return addr.String()
		}
	}
	return id
}

// logRefusal tells why the door rejected, rate-limited.
func (s *Server) logRefusal(d *datagram, err error) {
	var why refusal
	errors.As(err, &why)
	if suppressed, ok := s.notices.allow(d.client.Name, string(why)); ok {
		s.Log.LogAttrs(s.ctx, slog.LevelInfo, "RADIUS: rejected without asking the gate: "+err.Error(),
			slog.String("client", d.client.Name), slog.Any("from", d.from), slog.Int("suppressed", suppressed))
	}
}

package radius

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"

	"otpgate/radius/dictionary"
)

const (
	door = "radius" // in the audit log

	// maxStation is how long a Calling-Station-Id is taken for one: a MAC
	// address with an SSID has 50 octets, an IPv6 address with a port 47.
	maxStation = 64
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

// decide takes one step of a log-in.
func (s *Server) decide(req *request) ([]byte, error) {
	if s.EAP != nil && req.has(rfc2869.EAPMessage_Type) {
		return s.decideEAP(req)
	}
	at, proof, err := s.resume(req)
	if err != nil {
		s.logRefusal(req.datagram, err)
		return req.reply(codec.CodeAccessReject, nil)
	}
	req.client.tally.method(proof.method.String())
	ctx, cancel := context.WithTimeout(s.ctx, answerLimit-s.Now().Sub(req.at))
	defer cancel()
	v, err := s.proceed(ctx, req, at, proof)
	if why := refusal(""); errors.As(err, &why) {
		s.logRefusal(req.datagram, err)
	} else if err != nil {
		return nil, err
	}
	switch v.kind {
	case accepted:
		return s.admit(req, at, proof, v)
	case asked:
		return s.challenge(req, at, v.prompt)
	default:
		return req.reject(proof)
	}
}

// resume returns the log-in that the request is about, which goes on if it has a
// State, and what it shows; or the refusal.
func (s *Server) resume(r *request) (*progress, *proof, error) {
	who, err := s.subject(r)
	if err != nil {
		return nil, nil, err
	}
	proof, err := r.proof(who.sent)
	if err != nil {
		return nil, nil, err
	}
	at := begin(who)
	if len(r.packet.Get(rfc2865.State_Type)) > 0 { // an empty one says nothing
		if at, err = s.reopen(r, who, proof); err != nil {
			return nil, nil, err
		}
	} else if proof.isTyped && proof.typed == "" && !r.client.mayBeEmpty() {
		return nil, nil, emptyPassword
	}
	if err := s.fits(r, who, proof); err != nil {
		return nil, nil, err
	}
	return at, proof, nil
}

// admit is the reply to who was accepted.
func (s *Server) admit(r *request, at *progress, p *proof, v verdict) ([]byte, error) {
	attributes, err := p.accepted(r)
	if err != nil {
		return nil, err
	}
	return s.grant(r, at, v, attributes)
}

// grant is the Access-Accept with what the method has it carry, and the rest.
func (s *Server) grant(r *request, at *progress, v verdict, attributes codec.Attributes) ([]byte, error) {
	person := dictionary.Person{User: at.who.user, Realm: at.who.realm, Groups: v.groups}
	attributes = append(attributes, s.answer(r.client, person)...)
	if _, own := attributes.Lookup(rfc2865.Class_Type); !own { // gateway.yaml's says what people may do
		for _, class := range at.class {
			attributes.Add(rfc2865.Class_Type, class)
		}
	}
	return r.reply(codec.CodeAccessAccept, attributes)
}

// reject is the reply to who was rejected.
func (r *request) reject(p *proof) ([]byte, error) {
	attributes, err := p.rejected()
	if err != nil {
		return nil, err
	}
	return r.reply(codec.CodeAccessReject, attributes)
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

// station is where the person is, as far as the client tells.
func (r *request) station() string { return station(r.packet.Get(rfc2865.CallingStationID_Type)) }

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

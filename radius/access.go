package radius

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"

	"otpgate/verifier"
)

const (
	door = "radius" // in the audit log

	// maxStation is how long a Calling-Station-Id is taken for one: a MAC
	// address with an SSID has 50 octets, an IPv6 address with a port 47.
	maxStation = 64

	// RFC 2548 §2.1: what a request by MS-CHAP has. Other attributes of this
	// vendor come with PAP too.
	vendorMicrosoft  = 311
	msCHAPResponse   = 1
	msCHAP2Response  = 25
	vendorDataOffset = 4
)

// refusal is why the door rejects a request without asking the gate. It goes to
// the log, never to the client.
type refusal string

func (r refusal) Error() string { return string(r) }

const (
	noUserName          refusal = "there is not exactly one User-Name"
	userNameUnusable    refusal = "no user can have this User-Name"
	noPassword          refusal = "there is no password"
	emptyPassword       refusal = "the password is empty"
	passwordMislengthed refusal = "the User-Password has a wrong length"
	methodNotSupported  refusal = "method not supported: set the client to PAP"
	ambiguousMethod     refusal = "there is more than one password, or more than one method"
)

// respond returns the reply to d, or the reason to drop it.
func (s *Server) respond(req *request, d *datagram) ([]byte, error) {
	if err := req.parse(d); err != nil {
		return nil, err
	}
	code := req.packet.Code
	if code != codec.CodeAccessRequest && code != codec.CodeStatusServer {
		return nil, fmt.Errorf("%w: %s", unexpectedCode, code)
	}
	if err := req.checkIntegrity(); err != nil {
		return nil, err
	}
	if code == codec.CodeStatusServer {
		// RFC 5997 §3. The same request gives the same reply, so the cache has
		// no part in it.
		return req.reply(codec.CodeAccessAccept)
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
	reply, err = s.decide(req)
	if err != nil {
		return nil, err
	}
	if !s.cache.finish(entry, reply) {
		return nil, superseded
	}
	return reply, nil
}

// decide asks the gate.
func (s *Server) decide(req *request) ([]byte, error) {
	attempt, err := req.attempt()
	if err != nil {
		s.logRefusal(req.datagram, err)
		return req.reply(codec.CodeAccessReject)
	}
	ctx, cancel := context.WithTimeout(s.ctx, answerLimit-s.Now().Sub(req.at))
	defer cancel()
	result, err := s.Gate.Verify(ctx, attempt)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", noDecision, err)
	}
	if result.Outcome != verifier.Accepted {
		return req.reply(codec.CodeAccessReject)
	}
	return req.reply(codec.CodeAccessAccept)
}

// attempt is what the gate is asked, or the refusal.
func (r *request) attempt() (verifier.Attempt, error) {
	user, err := r.userName()
	if err != nil {
		return verifier.Attempt{}, err
	}
	if err := r.checkMethod(); err != nil {
		return verifier.Attempt{}, err
	}
	password, err := r.userPassword()
	if err != nil {
		return verifier.Attempt{}, err
	}
	if len(password) == 0 {
		return verifier.Attempt{}, emptyPassword
	}
	return verifier.Attempt{
		Realm:  r.client.Realm,
		User:   user,
		Match:  verifier.Typed(string(password)),
		Door:   door,
		Client: r.client.Name,
		From:   station(r.packet.Get(rfc2865.CallingStationID_Type)),
	}, nil
}

// userName returns the User-Name, which an attribute bounds to 253 octets.
func (r *request) userName() (string, error) {
	if r.count(rfc2865.UserName_Type) != 1 { // RFC 2865 §5.44: 0-1
		return "", noUserName
	}
	name := rfc2865.UserName_GetString(&r.packet)
	if err := verifier.CheckUserName(name); err != nil {
		return "", fmt.Errorf("%w: %w", userNameUnusable, err)
	}
	return name, nil
}

// checkMethod returns a refusal unless the request has one User-Password and
// nothing else to authenticate with (RFC 2865 §4.1, RFC 3579 §3.3).
func (r *request) checkMethod() error {
	other := r.has(rfc2865.CHAPPassword_Type) || r.has(rfc2869.EAPMessage_Type) || r.hasMSCHAP()
	switch passwords := r.count(rfc2865.UserPassword_Type); {
	case passwords > 1, passwords == 1 && other:
		return ambiguousMethod
	case passwords == 0 && other:
		return methodNotSupported
	}
	return nil
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

// hasMSCHAP reports whether there is a response by MS-CHAP, of either version.
func (r *request) hasMSCHAP() bool {
	for _, avp := range r.packet.Attributes {
		data := avp.Attribute
		if avp.Type != rfc2865.VendorSpecific_Type || len(data) < vendorDataOffset || binary.BigEndian.Uint32(data) != vendorMicrosoft {
			continue
		}
		// RFC 2865 §5.26: type, length, value, … A length that leads out ends it.
		for data = data[vendorDataOffset:]; len(data) >= 2 && data[1] >= 2 && int(data[1]) <= len(data); data = data[data[1]:] {
			if data[0] == msCHAPResponse || data[0] == msCHAP2Response {
				return true
			}
		}
	}
	return false
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

package radius

import (
	"errors"
	"fmt"
	"log/slog"
)

// reason is why a packet was dropped: the label in otpgate_radius_dropped_total.
// As an error it says so in a sentence, with what to do where that is known.
type reason string

// The reasons. The set is closed; README and dashboards name them.
const (
	unknownClient          reason = "unknown_client"
	malformed              reason = "malformed"
	tooManyAttributes      reason = "too_many_attributes"
	unexpectedCode         reason = "unexpected_code"
	authenticatorMissing   reason = "message_authenticator_missing"
	authenticatorMalformed reason = "message_authenticator_malformed"
	authenticatorWrong     reason = "message_authenticator_wrong"
	proxyStateUnprotected  reason = "proxy_state_unprotected"
	passwordGarbled        reason = "password_garbled"
	passwordUnusable       reason = "password_unusable"
	duplicate              reason = "duplicate"
	duplicateAltered       reason = "duplicate_altered"
	replayed               reason = "replayed"
	superseded             reason = "superseded"
	tokenReused            reason = "token_reused"
	queueFull              reason = "queue_full"
	stale                  reason = "stale"
	clientTooFast          reason = "client_rate"
	userTooFast            reason = "user_rate"
	accountingOff          reason = "accounting_off"
	accountingWrong        reason = "accounting_authenticator_wrong"
	accountingMalformed    reason = "accounting_malformed"
	notKept                reason = "accounting_not_kept"
	noDecision             reason = "no_decision"
	firstFactorUnavailable reason = "first_factor_unavailable"
	eapIgnored             reason = "eap_ignored"
	writeFailed            reason = "write_failed"
	internalError          reason = "internal_error"
)

// sameSecret is what to do about the commonest fault in the field.
const sameSecret = "the shared secret here and at the client probably differ: put the same one, without a space or line end too many, in the client's secret_file (gateway.yaml) and in the client's own settings"

func (r reason) Error() string {
	switch r {
	case unknownClient:
		return "no client in gateway.yaml has this address: add it under radius.clients if it is yours"
	case malformed:
		return "it is not a RADIUS packet"
	case tooManyAttributes:
		return fmt.Sprintf("it has more than %d attributes, and no gear sends so many: a proxy may have added some", maxAttributes)
	case unexpectedCode:
		return "only Access-Request, Accounting-Request and Status-Server are answered here"
	case authenticatorMissing:
		return "it has no Message-Authenticator: turn that on at the client, by an update if need be; only for gear that can't, and asks by PAP, put require_message_authenticator: false in its entry in gateway.yaml"
	case authenticatorMalformed:
		return "its Message-Authenticator has a wrong length, or there is more than one"
	case authenticatorWrong:
		return "its Message-Authenticator is wrong: " + sameSecret
	case proxyStateUnprotected:
		return "it has a Proxy-State but no Message-Authenticator, as in an attack (BlastRADIUS, CVE-2024-3596): turn Message-Authenticator on at the client or proxy"
	case passwordGarbled:
		return "its password is unreadable: " + sameSecret
	case passwordUnusable:
		return "it has no Message-Authenticator, and not exactly one User-Password of a right length, so nothing shows that it comes from the client: anybody can have made it"
	case duplicate:
		return "it is a resend of one that is being answered"
	case duplicateAltered:
		return "it reuses the identifier and authenticator of another packet"
	case replayed:
		return "it was answered before, and comes again from another port or long after: the network repeats packets, or somebody has captured it"
	case superseded:
		return "the client gave its identifier to a new request before this one was answered"
	case tokenReused:
		return "the client gave its Token to a new request before this connection had answered the last one: RADIUS/1.1 forbids that"
	case queueFull:
		return "too many requests are waiting: the gateway is overloaded, or its disk is slow"
	case stale:
		return "it waited longer than a client does: the gateway is overloaded, or its disk is slow"
	case clientTooFast:
		return "the client sends more requests a second than its rate in gateway.yaml allows: raise it if they are people's, else look what the client does"
	case userTooFast:
		return "the client asks too often for one user: a machine guesses codes there, or logs in without end"
	case accountingOff:
		return "it is accounting, which the client's entry in gateway.yaml doesn't ask for: set accounting: true there, or turn it off at the client"
	case accountingWrong:
		return "its authenticator is wrong: " + sameSecret
	case accountingMalformed:
		return "it is not an Accounting-Request as RFC 2866 has it"
	case notKept:
		return "the accounting could not be written to the audit log"
	case noDecision:
		return "the gate could not decide"
	case firstFactorUnavailable:
		return "the password could not be checked, because the directory or the other RADIUS server of the client's first_factor could not be asked, or too many wait for one or for the check of a PIN"
	case eapIgnored:
		return "its EAP packet is not the answer to the last one"
	case writeFailed:
		return "the reply could not be sent"
	case internalError:
		return "a fault in otpgate: please report it with this line"
	}
	return string(r)
}

// level is how loud the log line is.
func (r reason) level() slog.Level {
	if r == duplicate || r == superseded { // what resending gear does all day
		return slog.LevelDebug
	}
	if r == noDecision || r == firstFactorUnavailable || r == notKept || r == writeFailed || r == internalError {
		return slog.LevelError
	}
	return slog.LevelWarn
}

// drop counts a packet that gets no reply, and says why, rate-limited; over
// RADIUS/1.1 also to the client, which else had to wait. err is a reason, or wraps
// one.
func (s *Server) drop(d *datagram, err error) {
	why := internalError
	errors.As(err, &why)
	name := "" // of an unknown client: one line and one counter for all of them
	if d.client != nil {
		name = d.client.Name
		d.client.tally.dropped(why)
	} else {
		s.unknown.seen(d.from.Addr(), d.at)
	}
	s.Metrics.droppedFor(name, why)
	if told := protocolError(d, why); told == nil || d.via.send(told, d.from) != nil {
		d.via.dropped(why)
	}
	if suppressed, ok := s.notices.allow(name, string(why)); ok {
		s.Log.LogAttrs(s.ctx, why.level(), "RADIUS: packet dropped: "+err.Error(),
			slog.String("client", name), slog.Any("from", d.from), slog.String("user", d.user),
			slog.String("reason", string(why)), slog.Int("suppressed", suppressed))
	}
}

package radius

import (
	"errors"
	"log/slog"
)

// refusal is why the door rejects a request that the gate would not: the label in
// otpgate_radius_refused_total. As an error it says so in a sentence, with what to
// do where that is known. It goes to the log, never to the client.
type refusal string

// The refusals. The set is closed.
const (
	noUserName             refusal = "no_user_name"
	userNameUnusable       refusal = "user_name_unusable"
	noPassword             refusal = "no_password"
	emptyPassword          refusal = "password_empty"
	passwordMislengthed    refusal = "password_mislengthed"
	methodNotSupported     refusal = "method_not_supported"
	methodNotPossible      refusal = "method_not_possible"
	ambiguousMethod        refusal = "method_ambiguous"
	chapMislengthed        refusal = "chap_mislengthed"
	chapChallengeMissing   refusal = "chap_challenge_missing"
	msCHAPMislengthed      refusal = "mschap_mislengthed"
	msCHAPChallengeMissing refusal = "mschap_challenge_missing"
	noRoom                 refusal = "no_room"
	nameTooLong            refusal = "name_too_long"
	sameCode               refusal = "same_code"
	stateAmbiguous         refusal = "state_ambiguous"
	stateForged            refusal = "state_forged"
	stateForeign           refusal = "state_foreign"
	stateExpired           refusal = "state_expired"
	stateReplayed          refusal = "state_replayed"
	upstreamTooLong        refusal = "upstream_too_long"
	pinNotChosen           refusal = "pin_not_chosen"
	eapSessionUnknown      refusal = "eap_session_unknown"
	eapSessionForeign      refusal = "eap_session_foreign"
	eapMethodUnwanted      refusal = "eap_method_unwanted"
	eapCertificateRefused  refusal = "eap_certificate_refused"
	eapFailed              refusal = "eap_failed"
	eapBusy                refusal = "eap_busy"
	eapCrowded             refusal = "eap_crowded"
)

func (r refusal) Error() string {
	switch r {
	case noUserName:
		return "there is not exactly one User-Name"
	case userNameUnusable:
		return "no user can have this User-Name"
	case noPassword:
		return "there is no password"
	case emptyPassword:
		return "the password is empty"
	case passwordMislengthed:
		return "the User-Password has a wrong length"
	case methodNotSupported:
		return "method not supported: set the client to PAP, CHAP or MS-CHAPv2, or to EAP if gateway.yaml has radius.eap"
	case methodNotPossible:
		return "the method can't do what the client's mode in gateway.yaml takes"
	case ambiguousMethod:
		return "there is more than one password, or more than one method"
	case chapMislengthed:
		return "the CHAP-Password or the CHAP-Challenge has a wrong length"
	case chapChallengeMissing:
		return "there is a CHAP-Password, but no CHAP-Challenge, which RADIUS/1.1 needs"
	case msCHAPMislengthed:
		return "the MS-CHAP2-Response or the MS-CHAP-Challenge has a wrong length"
	case msCHAPChallengeMissing:
		return "there is an MS-CHAP2-Response, but not exactly one MS-CHAP-Challenge"
	case noRoom:
		return "the packet is too long for what the answer has to carry"
	case nameTooLong:
		return "the User-Name is too long for an attribute of the answer"
	case sameCode:
		return "the code that was refused just now, by another method"
	default:
		return r.ofDialogue()
	}
}

// ofDialogue is the sentence of a refusal after a challenge.
func (r refusal) ofDialogue() string {
	switch r {
	case stateAmbiguous:
		return "there is more than one State"
	case stateForged:
		return "its State is none of ours: the client sends one to a server that didn't give it, or a proxy has altered it, or the gateway was restored, or was killed in a rotation"
	case stateForeign:
		return "its State was given to another client or for another user, or the client's entry in gateway.yaml has changed meanwhile"
	case stateExpired:
		return "its State has expired: the answer to the challenge took too long"
	case stateReplayed:
		return "its State was answered before, with something else"
	case upstreamTooLong:
		return "the State of the other RADIUS server is too long to be passed through"
	case pinNotChosen:
		return "the code was right, but no PIN has been chosen: it was mistyped too often, or the method can't ask for it; the user logs in by PAP, or a clerk sets it (otpgate user pin)"
	case eapSessionUnknown:
		return "it goes on with an EAP session that isn't there: it took too long, too many of the client's are open, or another server began it"
	case eapSessionForeign:
		return "it goes on with an EAP session of another client or user"
	case eapMethodUnwanted:
		return "the person's device wants none of the EAP methods that are offered: set it to one of radius.eap's methods in gateway.yaml, or add its own there"
	case eapCertificateRefused:
		return "the person's device refused the certificate of radius.eap: put the authority that it comes from, and the name that is in it, into the device's settings; or renew it, if it has expired"
	case eapFailed:
		return "EAP failed before a code was shown, or after it was accepted: the person's device broke off, broke the protocol, or has no TLS 1.2 with RFC 7627; update it, check its inner method, or set it to another method"
	case eapCrowded:
		return "too many EAP sessions of this station, or of this User-Name, are open at the client: a device begins them and never goes on, or somebody floods"
	case eapBusy:
		return "there are too many EAP sessions of other clients"
	default:
		return string(r)
	}
}

// logRefusal counts a request that the door rejects, and tells
// why, rate-limited. err is a refusal, or wraps one.
func (s *Server) logRefusal(d *datagram, err error) {
	var why refusal
	errors.As(err, &why)
	d.client.tally.refused(why)
	s.Metrics.refusedFor(d.client.Name, why)
	if suppressed, ok := s.notices.allow(d.client.Name, string(why)); ok {
		s.Log.LogAttrs(s.ctx, slog.LevelInfo, "RADIUS: rejected by the door: "+err.Error(),
			slog.String("client", d.client.Name), slog.Any("from", d.from), slog.String("user", d.user),
			slog.String("reason", string(why)), slog.Int("suppressed", suppressed))
	}
}

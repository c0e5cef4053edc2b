package upstream

// reason is why a reply was dropped: the label in
// otpgate_radius_upstream_dropped_total. As an error it says so in a sentence,
// with what to do where that is known.
type reason string

// The reasons. The set is closed; dashboards name them.
const (
	malformed                 reason = "malformed"
	identifierOther           reason = "identifier_other"
	unexpectedCode            reason = "unexpected_code"
	authenticatorWrong        reason = "authenticator_wrong"
	authenticatorMissing      reason = "message_authenticator_missing"
	messageAuthenticatorWrong reason = "message_authenticator_wrong"
	proxyStateUnasked         reason = "proxy_state_unasked"
)

func (r reason) Error() string {
	switch r {
	case malformed:
		return "its reply is no RADIUS packet"
	case identifierOther:
		return "its reply has the identifier of another request"
	case unexpectedCode:
		return "its reply is no Access-Accept, Access-Reject or Access-Challenge"
	case authenticatorWrong:
		return "its reply's authenticator is wrong: the shared secret here (gateway.yaml, radius.first_factors) and there probably differ"
	case authenticatorMissing:
		return "its reply has no Message-Authenticator: turn that on there, by an update if need be; only for a server that can't send one put require_message_authenticator: false in its entry under radius.first_factors in gateway.yaml"
	case messageAuthenticatorWrong:
		return "its reply's Message-Authenticator is wrong"
	case proxyStateUnasked:
		return "its reply has a Proxy-State that nobody has sent, as in an attack (BlastRADIUS, CVE-2024-3596)"
	}
	return string(r)
}

package mschap

// The value of an MS-CHAP2-Response (RFC 2548 §2.3.2). TTLS has the same in an
// AVP (RFC 5281 §11.2.4).
const (
	valueLength           = 50 // identifier, flags, peer's challenge, 8 reserved, NT-Response
	valueChallengeOffset  = 2
	valueNTResponseOffset = 26
)

// ParseResponse returns the response in the value of an MS-CHAP2-Response, of
// somebody by that name to that challenge, and its identifier, which the answer
// repeats. ok says that both have the length that they have to have.
func ParseResponse(value, challenge []byte, name string) (r *Response, identifier byte, ok bool) {
	if len(value) != valueLength || len(challenge) != ChallengeLength {
		return nil, 0, false
	}
	r = NewResponse([ChallengeLength]byte(challenge), [ChallengeLength]byte(value[valueChallengeOffset:]), name,
		[NTResponseLength]byte(value[valueNTResponseOffset:]))
	return r, value[0], true
}

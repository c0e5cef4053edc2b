package eap

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"

	"otpgate/radius/mschap"
)

// The packets of draft-kamath-pppext-eap-mschapv2-00 §2.
const (
	opChallenge = 1
	opResponse  = 2
	opSuccess   = 3
	opFailure   = 4

	msHeaderLength = 4 // OpCode, MS-CHAPv2-ID, MS-Length
	msValueSize    = 49
	msValueOffset  = msHeaderLength + 1
	msNTOffset     = msValueOffset + mschap.ChallengeLength + 8 // behind the peer's challenge and the reserved
	msNameOffset   = msValueOffset + msValueSize

	// ourName is who sends the challenge. It has no meaning to the peer.
	ourName = "otpgate"
)

// mschapv2 is MS-CHAPv2 in EAP: challenge, response, then the result, which the
// peer acknowledges.
type mschapv2 struct {
	challenge  [mschap.ChallengeLength]byte
	identifier byte // MS-CHAPv2-ID
	// After the response:
	result byte // opSuccess or opFailure; 0: before it
	msk    []byte
}

func newMSCHAPv2() *mschapv2 {
	m := &mschapv2{}
	var id [1]byte
	_, _ = rand.Read(m.challenge[:]) // never fails
	_, _ = rand.Read(id[:])
	m.identifier = id[0]
	return m
}

func (m *mschapv2) start() []byte {
	value := append([]byte{mschap.ChallengeLength}, m.challenge[:]...)
	return m.message(opChallenge, append(value, ourName...))
}

func (m *mschapv2) respond(ctx context.Context, data []byte, decide Decide) (move, error) {
	if m.result != 0 {
		// §2.4: the acknowledgement is the OpCode alone.
		if m.result == opSuccess && len(data) > 0 && data[0] == opSuccess {
			return move{status: Success, msk: m.msk}, nil
		}
		return move{status: Failure}, nil
	}
	response := m.response(data)
	if response == nil {
		return move{status: Failure}, nil
	}
	v, err := decide(ctx, &Proof{Method: MSCHAPv2.String(), MSCHAPv2: response})
	if err != nil {
		return move{}, err
	}
	if v.Kind != Accept {
		m.result = opFailure
		return move{data: m.message(opFailure, []byte(mschap.Failure()))}, nil
	}
	m.result = opSuccess
	send, recv := response.Keys()
	m.msk = append(recv[:], send[:]...)
	return move{data: m.message(opSuccess, []byte(response.Success()+" M=OK"))}, nil
}

func (*mschapv2) close() {}

// response returns that in a Response packet (§2.2), or nil. The name is hashed
// as it stands in there, whatever the identity is: it proves nothing.
func (m *mschapv2) response(data []byte) *mschap.Response {
	if len(data) < msNameOffset || len(data)-msNameOffset > maxIdentity {
		return nil
	}
	head := []byte{opResponse, m.identifier, 0, 0, msValueSize}
	binary.BigEndian.PutUint16(head[2:], uint16(len(data)))
	if subtle.ConstantTimeCompare(head, data[:msValueOffset]) != 1 {
		return nil
	}
	return mschap.NewResponse(m.challenge, [mschap.ChallengeLength]byte(data[msValueOffset:]), string(data[msNameOffset:]),
		[mschap.NTResponseLength]byte(data[msNTOffset:]))
}

// message has the header that all of ours have.
func (m *mschapv2) message(op byte, body []byte) []byte {
	b := []byte{op, m.identifier}
	b = binary.BigEndian.AppendUint16(b, uint16(msHeaderLength+len(body)))
	return append(b, body...)
}

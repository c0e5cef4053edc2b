package eap

import (
	"encoding/binary"
	"errors"
)

// The flags of a TLS-based method (RFC 5216 §3.1, RFC 5281 §9.1), before the
// version.
const (
	flagLength = 1 << 7
	flagMore   = 1 << 6
	flagStart  = 1 << 5
	versionBit = 1<<3 - 1

	lengthField = 4
)

const (
	// minFragment is the smallest packet that is made: RFC 2865 §5.12 has no
	// Framed-MTU below it.
	minFragment = 64
	// maxMessage is the octets that a peer may send as one message: one record
	// of TLS, and its fragments' headers are not counted. A peer without a
	// certificate needs no more than a tenth.
	maxMessage = 1 << 14
)

var (
	errVersion     = errors.New("eap: another version of the method")
	errFragment    = errors.New("eap: fragments that don't fit together")
	errMessageSize = errors.New("eap: a message of more octets than a peer needs")
)

// fragments joins the messages of a peer and splits ours (RFC 5281 §9.2.2). At
// any time at most one of the two is under way.
type fragments struct {
	in       []byte
	expected int    // octets of in, once it is all there; 0: the peer didn't say
	out      []byte // what is still to be sent
	begun    bool   // a part of it was
}

// receive takes the type-data of a response. whole says that message is one, maybe
// without octets; else the peer has more to send, or is to have more.
func (f *fragments) receive(data []byte) (message []byte, whole bool, err error) {
	if len(data) == 0 {
		return nil, false, errFragment
	}
	flags, data := data[0], data[1:]
	if flags&versionBit != 0 {
		return nil, false, errVersion
	}
	declared := 0
	if flags&flagLength != 0 {
		if len(data) < lengthField {
			return nil, false, errFragment
		}
		length := binary.BigEndian.Uint32(data)
		if length > maxMessage {
			return nil, false, errMessageSize
		}
		declared, data = int(length), data[lengthField:]
	}
	switch {
	case len(f.out) > 0: // an acknowledgement, and nothing else
		if len(data) > 0 || flags != 0 {
			return nil, false, errFragment
		}
		return nil, false, nil
	case len(f.in)+len(data) > maxMessage:
		return nil, false, errMessageSize
	case len(f.in) == 0:
		f.expected = declared
	case declared != 0 && declared != f.expected: // some repeat it in each fragment
		return nil, false, errFragment
	}
	f.in = append(f.in, data...)
	if flags&flagMore != 0 {
		if f.expected == 0 || len(data) == 0 || len(f.in) >= f.expected {
			return nil, false, errFragment
		}
		return nil, false, nil
	}
	message, f.in = f.in, nil
	if f.expected != 0 && len(message) != f.expected {
		return nil, false, errFragment
	}
	return message, true, nil
}

// send queues a message.
func (f *fragments) send(message []byte) { f.out, f.begun = message, false }

// next is the type-data of the next request, in a packet of at most size octets:
// a part of what is queued, or, if nothing is, an acknowledgement.
func (f *fragments) next(size int) []byte {
	room := size - headerLength - 1 - 1 // type and flags
	if len(f.out) <= room {
		data := append([]byte{0}, f.out...)
		f.out = nil
		return data
	}
	data := []byte{flagMore}
	if !f.begun {
		data[0] |= flagLength
		data = binary.BigEndian.AppendUint32(data, uint32(len(f.out)))
		room -= lengthField
	}
	data = append(data, f.out[:room]...)
	f.out, f.begun = f.out[room:], true
	return data
}

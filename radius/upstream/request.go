package upstream

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strings"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
)

const (
	headerLength = 20 // RFC 2865 §3: also the shortest packet
	// authenticatorOffset is where a request's Message-Authenticator has its
	// value: it is the first attribute.
	authenticatorOffset = headerLength + 2
	maxValue            = 253 // octets of an attribute's value (RFC 2865 §5)
	maxPassword         = 128 // octets of a password (RFC 2865 §5.2)
	// ourName is the NAS-Identifier of what has none: RFC 2865 §4.1 wants a
	// NAS-IP-Address or a NAS-Identifier.
	ourName = "otpgate"
)

// encode returns the Access-Request that asks q. ok is false if none can. It has
// no Proxy-State: the servers see a NAS, and what comes back with one isn't an
// answer.
func encode(q Question, secret Secret) (request []byte, ok bool, err error) {
	if !q.fits() {
		return nil, false, nil
	}
	b := make([]byte, headerLength, codec.MaxPacketLength)
	b[0] = byte(codec.CodeAccessRequest)
	_, _ = rand.Read(b[1:2])
	// RFC 2865 §3: unpredictable and unique.
	_, _ = rand.Read(b[4:headerLength])
	b = add(b, rfc2869.MessageAuthenticator_Type, make([]byte, authenticatorLength))

	password, err := codec.NewUserPassword([]byte(q.Password), secret, b[4:headerLength])
	if err != nil {
		return nil, false, fmt.Errorf("hiding the password for another RADIUS server: %w", err)
	}
	b = add(b, rfc2865.UserName_Type, []byte(q.User))
	b = add(b, rfc2865.UserPassword_Type, password)
	b = add(b, rfc2865.NASIdentifier_Type, []byte(q.gear()))
	if q.CallingStationID != "" {
		b = add(b, rfc2865.CallingStationID_Type, []byte(q.CallingStationID))
	}
	if len(q.State) > 0 {
		b = add(b, rfc2865.State_Type, q.State)
	}
	binary.BigEndian.PutUint16(b[2:4], uint16(len(b)))
	copy(b[authenticatorOffset:], messageAuthenticator(b, authenticatorOffset, secret))
	return b, true, nil
}

// fits reports whether a request can ask q. A NUL at the end of a password would
// be taken for padding (RFC 2865 §5.2), and another password be checked.
func (q Question) fits() bool {
	for _, value := range []int{len(q.User), len(q.gear()), len(q.CallingStationID), len(q.State)} {
		if value > maxValue {
			return false
		}
	}
	return q.User != "" && len(q.Password) <= maxPassword && !strings.Contains(q.Password, "\x00")
}

func (q Question) gear() string {
	if q.NASIdentifier == "" {
		return ourName
	}
	return q.NASIdentifier
}

func add(b []byte, kind codec.Type, value []byte) []byte {
	return append(append(b, byte(kind), byte(len(value)+2)), value...)
}

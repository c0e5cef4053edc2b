package seal

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Envelope seals what isn't stored, but leaves the gateway and comes back within
// Settle: any node that has the data keys opens it, before a restart or after.
//
// Its keys are derived from the data keys (HKDF, RFC 5869), one for each of them and
// each use, and not those that seal records: what comes from outside in any number
// must not wear those out. A derived key, too, is good for 2³² values (newAEAD): 50
// days of a thousand a second, until the next rotation.
//
// A rotation breaks nothing that is under way: the old data key is there for Settle
// after the last value that could have been sealed under it. Only a process that is
// killed in a rotation, started, and started again within Settle opens less: what
// was on its way is refused then.
type Envelope struct {
	box *Box
	use string
}

// Envelope returns the Envelope of one use. Two uses don't open each other's values;
// use has a version in it, which changes with the meaning of what is sealed.
func (b *Box) Envelope(use string) *Envelope { return &Envelope{b, use} }

// envelopeBytes is how much longer than its plaintext a sealed value is: the data
// key's number, a nonce and a tag.
const envelopeBytes = numberBytes + 12 + 16

// Seal returns plaintext sealed under the newest data key's derived key.
func (e *Envelope) Seal(plaintext []byte) []byte {
	r := e.box.ring.Load()
	sealed := make([]byte, numberBytes, envelopeBytes+len(plaintext))
	binary.BigEndian.PutUint32(sealed, r.newest)
	return e.derive(r.keys[r.newest]).Seal(sealed, nil, plaintext, nil)
}

// Open returns what was sealed for the same use, else ErrSealed.
func (e *Envelope) Open(sealed []byte) ([]byte, error) {
	if len(sealed) < envelopeBytes {
		return nil, fmt.Errorf("%w: it is %d bytes short", ErrSealed, envelopeBytes-len(sealed))
	}
	number := binary.BigEndian.Uint32(sealed)
	key, ok := e.box.ring.Load().keys[number]
	if !ok {
		return nil, fmt.Errorf("%w: there is no data key %d", ErrSealed, number)
	}
	plaintext, err := e.derive(key).Open(nil, nil, sealed[numberBytes:], nil)
	if err != nil {
		return nil, fmt.Errorf("%w: changed, or for another use", ErrSealed)
	}
	return plaintext, nil
}

// derive returns the AEAD of this use under a data key. It takes a microsecond,
// which is less than keeping it would cost in care.
func (e *Envelope) derive(from dataKey) cipher.AEAD {
	key, err := hkdf.Expand(sha256.New, from.root, e.use, keyBytes) // RFC 5869 §2.3
	if err != nil {
		panic("seal: deriving a key: " + err.Error()) // 32 bytes can always be had of SHA-256
	}
	aead, err := newAEAD(key)
	if err != nil {
		panic("seal: deriving a key: " + err.Error()) // it has the length that was asked for
	}
	return aead
}

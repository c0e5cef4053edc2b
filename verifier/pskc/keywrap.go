package pskc

import (
	"bytes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
)

// unwrap undoes the AES Key Wrap of RFC 3394 §2.2.2.
func unwrap(block cipher.Block, wrapped []byte) ([]byte, error) {
	initial, plain, err := unwrapBlocks(block, wrapped)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(initial, bytes.Repeat([]byte{0xa6}, 8)) != 1 { // §2.2.3.1
		return nil, errDecrypt
	}
	return plain, nil
}

// unwrapPadded undoes the AES Key Wrap with Padding of RFC 5649 §4.2, for more
// than eight octets: no token's key is as short.
func unwrapPadded(block cipher.Block, wrapped []byte) ([]byte, error) {
	initial, plain, err := unwrapBlocks(block, wrapped)
	if err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(initial[4:])
	if subtle.ConstantTimeCompare(initial[:4], []byte{0xa6, 0x59, 0x59, 0xa6}) != 1 ||
		uint64(size) > uint64(len(plain)) || uint64(size)+8 <= uint64(len(plain)) {
		return nil, errDecrypt
	}
	if padding := plain[size:]; subtle.ConstantTimeCompare(padding, make([]byte, len(padding))) != 1 {
		return nil, errDecrypt
	}
	return plain[:size], nil
}

// unwrapBlocks is the common part: it returns the integrity value and what was
// wrapped.
func unwrapBlocks(block cipher.Block, wrapped []byte) (initial, plain []byte, err error) {
	if len(wrapped) < 24 || len(wrapped)%8 != 0 {
		return nil, nil, errDecrypt
	}
	n := len(wrapped)/8 - 1
	plain = bytes.Clone(wrapped[8:])
	var b [16]byte
	copy(b[:8], wrapped)
	for t := uint64(6 * n); t > 0; t-- {
		r := plain[(t-1)%uint64(n)*8:][:8]
		binary.BigEndian.PutUint64(b[:8], binary.BigEndian.Uint64(b[:8])^t)
		copy(b[8:], r)
		block.Decrypt(b[:], b[:])
		copy(r, b[8:])
	}
	return b[:8], plain, nil
}

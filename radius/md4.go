package radius

import (
	"encoding/binary"
	"math/bits"
)

const (
	md4Size  = 16
	md4Block = 64
)

// md4Sum is the MD4 of b (RFC 1320), which RFC 2759 §8.3 and §8.4 need and the
// standard library doesn't have. It stands for the password there and is
// no protection; it must not be used for anything else.
func md4Sum(b []byte) (sum [md4Size]byte) {
	state := [4]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}
	length := uint64(len(b))
	for ; len(b) >= md4Block; b = b[md4Block:] {
		md4Compress(&state, b)
	}
	// §3.1, §3.2: a one bit, zeros, and the length in bits at a block's end.
	var tail [2 * md4Block]byte
	n := copy(tail[:], b)
	tail[n] = 0x80
	end := md4Block
	if n+1+8 > md4Block {
		end = 2 * md4Block
	}
	binary.LittleEndian.PutUint64(tail[end-8:], length*8)
	for rest := tail[:end]; len(rest) > 0; rest = rest[md4Block:] {
		md4Compress(&state, rest)
	}
	for i, word := range state {
		binary.LittleEndian.PutUint32(sum[4*i:], word)
	}
	return sum
}

// md4Compress takes one block into the state (RFC 1320 §3.4).
func md4Compress(state *[4]uint32, block []byte) {
	var x [16]uint32
	for i := range x {
		x[i] = binary.LittleEndian.Uint32(block[4*i:])
	}
	a, b, c, d := state[0], state[1], state[2], state[3]
	for i := range 16 { // in turn: a, d, c, b
		f := b&c | ^b&d
		a, b, c, d = d, bits.RotateLeft32(a+f+x[i], [4]int{3, 7, 11, 19}[i%4]), b, c
	}
	for i := range 16 {
		g := b&c | b&d | c&d
		k := i%4*4 + i/4 // 0 4 8 12, 1 5 9 13, …
		a, b, c, d = d, bits.RotateLeft32(a+g+x[k]+0x5a827999, [4]int{3, 5, 9, 13}[i%4]), b, c
	}
	for i := range 16 {
		h := b ^ c ^ d
		k := int(bits.Reverse8(uint8(i)) >> 4) // 0 8 4 12, 2 10 6 14, …
		a, b, c, d = d, bits.RotateLeft32(a+h+x[k]+0x6ed9eba1, [4]int{3, 9, 11, 15}[i%4]), b, c
	}
	state[0], state[1], state[2], state[3] = state[0]+a, state[1]+b, state[2]+c, state[3]+d
}

package radius

import (
	"bytes"
	"crypto/md5" //nolint:gosec // RFC 2865 §5.2 hides the password under MD5.
	"crypto/subtle"
	"unicode"
	"unicode/utf8"

	"layeh.com/radius/rfc2865"
)

// The lengths of a User-Password's value (RFC 2865 §5.2).
const (
	passwordBlock = md5.Size
	maxPassword   = 128
)

// userPassword returns what was typed, or the reason why the packet has nothing
// that could be. It is valid as long as r.
func (r *request) userPassword() ([]byte, error) {
	value, ok := r.packet.Lookup(rfc2865.UserPassword_Type)
	if !ok {
		return nil, noPassword
	}
	if r.format == version11 && len(value) > 0 && len(value) <= maxPassword { // RFC 9765 §5.1.1: as it is
		return append(r.password[:0], value...), nil
	}
	if r.format == version11 || len(value) == 0 || len(value) > maxPassword || len(value)%passwordBlock != 0 {
		return nil, passwordMislengthed // rejected, not dropped: RFC 2865 §5
	}
	h := r.client.hashes.Get().(*hashes)
	defer r.client.hashes.Put(h)
	return h.reveal(r.password[:0], value, r.packet.Authenticator[:]), nil
}

// reveal undoes the hiding of a User-Password (RFC 2865 §5.2) and appends the
// password to dst. Only the padding at the end is cut: a NUL within is part of
// the password, or the mark of another secret.
func (h *hashes) reveal(dst, value, authenticator []byte) []byte {
	before := authenticator
	for len(value) > 0 {
		block := value[:passwordBlock]
		h.md5.Reset()
		h.md5.Write(h.secret)
		h.md5.Write(before)
		mask := h.md5.Sum(h.sum[:0])
		subtle.XORBytes(mask, mask, block)
		dst = append(dst, mask...)
		before, value = block, value[passwordBlock:]
	}
	return bytes.TrimRight(dst, "\x00")
}

// isText reports whether b is something that a person can type.
func isText(b []byte) bool {
	return utf8.Valid(b) && !bytes.ContainsFunc(b, func(r rune) bool { return !unicode.IsGraphic(r) })
}

package verifier

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds on names from outside, in bytes. A RADIUS attribute holds 253; an
// OpenID subject 255 (OpenID Connect Core §2).
const (
	MaxUserName = 255
	MaxSerial   = 64
)

// CheckUserName returns a Refusal unless name can be a user's: 1 to
// MaxUserName bytes of valid UTF-8 without control characters and without
// space at its ends. Control characters would let one name reach into
// another's records (store.Key).
func CheckUserName(name string) error {
	switch {
	case name == "":
		return refuse("give NAME@REALM", "the user name is empty")
	case len(name) > MaxUserName:
		return refuse("shorten it", "the user name has %d bytes; %d are allowed", len(name), MaxUserName)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsGraphic(r) }):
		return refuse("type it anew", "the user name has characters that can't be printed")
	case strings.TrimSpace(name) != name:
		return refuse("type it anew", "the user name begins or ends with a space")
	}
	return nil
}

// CheckSerial returns a Refusal unless serial is 1 to MaxSerial half-width
// letters, digits, dots, hyphens or underscores.
func CheckSerial(serial string) error {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
	if serial == "" || len(serial) > MaxSerial || strings.Trim(serial, allowed) != "" {
		return refuse("use 1 to 64 half-width letters, digits, dots, hyphens or underscores", "%.70q is no serial number", serial)
	}
	return nil
}

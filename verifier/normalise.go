package verifier

import (
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// Normalise undoes, once, what keyboards do to codes and serials that people
// type: full-width characters become half-width; spaces and the hyphens that
// people group digits with are dropped. What is left is compared strictly.
func Normalise(input string) string {
	if isDigits(input) {
		return input // nothing to undo, as with most codes
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		switch r {
		case '-', '‐', '‑', '‒', '–', '—', '―', '−', 'ー':
			return -1
		}
		return r
	}, width.Fold.String(input))
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

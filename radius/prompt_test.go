package radius

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// Each question fits into one Reply-Message, and a client without UTF-8 can show
// the English ones.
func TestQuestionsFit(t *testing.T) {
	for m := promptCode; m <= promptPINNotAllowed; m++ {
		english, japanese := m.english(), m.japanese()
		if len(english) > maxText || len(japanese) > maxText {
			t.Errorf("%d and %d octets: %s %s", len(english), len(japanese), english, japanese)
		}
		if strings.ContainsFunc(english, func(c rune) bool { return c >= utf8.RuneSelf }) {
			t.Errorf("%s isn't ASCII", english)
		}
		if m > 0 && (english == (m-1).english() || japanese == (m-1).japanese()) {
			t.Errorf("asked twice: %s", english)
		}
	}
}

func TestReplyMessagesCutNoCharacter(t *testing.T) {
	long := strings.Repeat("大", 200) // 600 octets
	shown := printable(long + "\x1b[2J\xff")
	if len(shown) > maxPassedText || !utf8.ValidString(shown) {
		t.Errorf("%d octets: %q", len(shown), shown)
	}
	whole := ""
	for _, value := range replyMessages(shown, false) {
		if len(value) > maxText || !utf8.Valid(value) {
			t.Errorf("%d octets: %q", len(value), value)
		}
		whole += string(value)
	}
	if whole != shown || len(replyMessages(shown, false)) > 3 {
		t.Errorf("%q became %q", shown, whole)
	}
	if got := printable("a\x1b[2Jb\xff\u202ec\n"); got != "a[2Jbc\n" {
		t.Errorf("%q", got)
	}
	if values := replyMessages("é大", true); len(values) != 1 || string(values[0]) != "\xe9?" {
		t.Errorf("%q", values)
	}
}

// What the operator reads is a sentence, not the label.
func TestRefusalsAreSaidInWords(t *testing.T) {
	for _, r := range []refusal{
		noUserName, userNameUnusable, noPassword, emptyPassword, passwordMislengthed, methodNotSupported, methodNotPossible,
		ambiguousMethod, chapMislengthed, chapChallengeMissing, msCHAPMislengthed, msCHAPChallengeMissing, noRoom, nameTooLong,
		sameCode, stateAmbiguous, stateForged, stateForeign, stateExpired, stateReplayed, upstreamTooLong, pinNotChosen,
		eapSessionUnknown, eapSessionForeign, eapMethodUnwanted, eapCertificateRefused, eapFailed, eapBusy,
	} {
		if s := r.Error(); s == string(r) || !strings.Contains(s, " ") {
			t.Errorf("%s: %q", r, s)
		}
	}
}

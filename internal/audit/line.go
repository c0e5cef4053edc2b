package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

const (
	// maxFieldBytes holds every name that the gateway itself accepts; longer
	// ones come from whoever tries names at a door.
	maxFieldBytes = 256
	// maxDetailBytes holds a reason in words.
	maxDetailBytes = 1 << 10
	// maxLineBytes is above the longest line: ten short fields and one long,
	// at up to six bytes for each (a control character in JSON).
	maxLineBytes = 32 << 10
)

// bound cuts e's strings to their lengths and sets its time to UTC.
func bound(e *Entry) {
	e.Time = e.Time.UTC()
	for _, field := range []*string{
		&e.Event, &e.Outcome, &e.Realm, &e.User, &e.Serial, &e.Door, &e.Client, &e.From, &e.Receipt, &e.Form,
	} {
		*field = cut(*field, maxFieldBytes)
	}
	e.Detail = cut(e.Detail, maxDetailBytes)
}

// cut shortens s to at most limit bytes, at the start of a rune, and says how
// much is missing.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	at := limit
	for at > limit-utf8.UTFMax && !utf8.RuneStart(s[at]) {
		at--
	}
	return fmt.Sprintf("%s…(%d bytes more)", s[:at], len(s)-at)
}

// encode returns e's line, without a newline. Bytes that aren't UTF-8 become
// U+FFFD, control characters escapes.
func encode(e Entry) ([]byte, error) { return json.Marshal(e) }

// decode is the inverse of encode. It takes nothing but a line of this layout.
func decode(line []byte) (Entry, error) {
	var e Entry
	if err := json.Unmarshal(line, &e); err != nil {
		return Entry{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	hash, err := hex.DecodeString(e.Prev)
	switch {
	case e.Seq == 0 || e.Time.IsZero():
		return Entry{}, fmt.Errorf("%w: no number or time", ErrDamaged)
	case err != nil || len(hash) != sha256.Size && (e.Seq != 1 || e.Prev != ""):
		return Entry{}, fmt.Errorf("%w: no hash of the line before", ErrDamaged)
	}
	return e, nil
}

func hashOf(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:])
}

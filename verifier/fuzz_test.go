package verifier

import (
	"bytes"
	"strings"
	"testing"
)

// Whatever is typed: normalising is done once, and a code matches only if its
// very digits were typed, in whatever width and grouping.
func FuzzTyped(f *testing.F) {
	for _, s := range []string{"", "287082", "２８７０８２", " 287 082\n", "287-082", "287ー082", "28708", "0287082", "²87082", "٢٨٧٠٨٢", "287\x00082", "\xff87082", "２8７0８2\u3000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, input string) {
		once := Normalise(input)
		if again := Normalise(once); again != once {
			t.Errorf("%q becomes %q, and that %q", input, once, again)
		}
		matches := Typed(input)("287082")
		digits := strings.Map(func(r rune) rune {
			switch {
			case r >= '0' && r <= '9':
				return r
			case r >= '０' && r <= '９':
				return r - '０' + '0'
			}
			return -1
		}, input)
		if matches && digits != "287082" {
			t.Errorf("%q was taken for 287082", input)
		}
		if Typed(input)("") {
			t.Errorf("%q matches an empty code", input)
		}
	})
}

// Whatever stands in the database where a hot record should be: it is decoded
// to what encodes to the same bytes, or refused.
func FuzzHotRecords(f *testing.F) {
	f.Add(encodeHot(tokenState{Last: noStep}))
	f.Add(encodeHot(userState{Row: counter{Failures: 3}, LongRun: longRun{Week: 2900}}))
	f.Add(encodeHot(realmState{Refused: 7}))
	f.Add([]byte{1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{hotVersion + 1})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		token, ok := decodeHot(b, func(v tokenStateV1) tokenState { return tokenState{Row: v.Row, Last: v.Last, UsedAt: v.UsedAt} })
		same(t, b, token, ok)
		user, ok := decodeHot(b, func(v userStateV1) userState { return userState{Row: v.Row} })
		same(t, b, user, ok)
		realm, ok := decodeHot(b, func(v realmStateV1) realmState { return realmState{Refused: v.Refused} })
		same(t, b, realm, ok)
	})
}

func same[T tokenState | userState | realmState](t *testing.T, b []byte, state T, ok bool) {
	t.Helper()
	if again := encodeHot(state); ok && b[0] == hotVersion && !bytes.Equal(again, b) {
		t.Errorf("% x is decoded to what encodes to % x", b, again)
	}
}

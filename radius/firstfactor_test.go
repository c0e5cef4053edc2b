package radius

import "testing"

func TestSplit(t *testing.T) {
	for _, test := range []struct {
		typed          string
		digits         int
		first          bool
		password, code string
		ok             bool
	}{
		{"secret123456", 6, false, "secret", "123456", true},
		{"123456secret", 6, true, "secret", "123456", true},
		{"secret12345678", 8, false, "secret", "12345678", true},
		{"secret2026123456", 6, false, "secret2026", "123456", true},
		{"1234562026secret", 6, true, "2026secret", "123456", true},
		{"1111111", 6, false, "1", "111111", true},
		{"123456", 6, false, "", "123456", true},
		{"123456", 6, true, "", "123456", true},
		{"大吟醸123456", 6, false, "大吟醸", "123456", true},
		{"\uff11\uff12\uff13\uff14\uff15\uff16大吟醸", 6, true, "大吟醸", "\uff11\uff12\uff13\uff14\uff15\uff16", true},
		{"pass\uff11\uff12\uff13\uff14\uff15\uff16", 6, false, "pass", "\uff11\uff12\uff13\uff14\uff15\uff16", true},
		{"pass\uff17123456", 6, false, "pass\uff17", "123456", true}, // the password's stay
		{"secret", 6, false, "", "", false},
		{"secret12345", 6, false, "", "", false},
		{"12345", 6, false, "", "", false},
		{"12345", 6, true, "", "", false},
		{"", 6, false, "", "", false},
		{"", 6, true, "", "", false},
		{"secret123456", 6, true, "", "", false},
		{"secret123 456", 6, false, "", "", false},
		{"secret\xff23456", 6, false, "", "", false},
	} {
		password, code, ok := split(test.typed, test.digits, test.first)
		if password != test.password || code != test.code || ok != test.ok {
			t.Errorf("%q, %d, %t: %q, %q, %t", test.typed, test.digits, test.first, password, code, ok)
		}
	}
}

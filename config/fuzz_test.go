package config

import (
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// Whatever the bytes, there is an answer: a whole Config, or faults that are
// bounded and stand inside the file.
func FuzzParse(f *testing.F) {
	f.Add(Shipped())
	f.Add([]byte("realms: &a [*a]\n"))
	f.Add([]byte("a: 1\na: 2\n? [x]\n: y\n"))
	f.Add([]byte("oidc: {issuer: \"https://[::1\", clients: [{redirect_uris: [\"%\"]}]}\n"))
	f.Add([]byte("radius: {udp: [\":\"], clients: [{address: ::ffff:1.2.3.4/1, secret_file: \"\\0\"}]}\n"))
	f.Add([]byte("realms: [{lockout: {unlock_after: 9999999h}, theme: {accent: \"#zzzzzz\"}}]\n"))
	f.Add([]byte(strings.Repeat("[", 100)))
	f.Add([]byte("\xff"))
	file := filepath.Join(f.TempDir(), "gateway.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		c, faults := parse(data, file)
		if len(faults) == 0 {
			if c.DataDir == "" || c.Listen.HTTPS == "" || c.OIDC.Issuer == "" || len(c.Realms) == 0 {
				t.Errorf("accepted, and not whole: %+v", c)
			}
			return
		}
		if len(faults) > maxFaults+1 {
			t.Errorf("%d faults", len(faults))
		}
		lines := strings.Count(string(data), "\n") + strings.Count(string(data), "\r") +
			strings.Count(string(data), "\u0085") + strings.Count(string(data), "\u2028") + strings.Count(string(data), "\u2029") +
			2 // the parser ends a last line that has no line break
		for _, fault := range faults {
			if fault.Line > lines || fault.Line > 0 && fault.Column < 1 {
				t.Errorf("in a file of %d lines: %s", lines, fault)
			}
			if fault.Problem == "" || !utf8.ValidString(fault.String()) || strings.ContainsAny(fault.String(), "\n\r") {
				t.Errorf("no plain sentence: %q", fault)
			}
		}
	})
}

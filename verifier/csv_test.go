package verifier_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"otpgate/verifier"
	"otpgate/verifier/otp"
)

func TestReadCSV(t *testing.T) {
	key := []byte("12345678901234567890")
	file := "\uFEFFMade,user, algorithm ,period,digits,type,secret_base32,serial\r\n" +
		"2026-01-02,\"kato, jiro\",sha256,30,8,TOTP,gezdgnbvgy3tqojqgezdgnbvgy3tqojq,A1\r\n" +
		",,SHA1,,6,hotp,GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ,\"A2\"\r\n"
	want := []verifier.Imported{
		{
			Line: 2, Serial: "A1", Key: key, User: "kato, jiro", Made: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC),
			Params: otp.Params{Type: otp.TOTP, Algorithm: otp.SHA256, Digits: 8, Period: 30},
		},
		{Line: 3, Serial: "A2", Key: key, Params: otp.Params{Type: otp.HOTP, Algorithm: otp.SHA1, Digits: 6}},
	}
	var got []verifier.Imported
	for token, err := range verifier.ReadCSV(strings.NewReader(file)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, token)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestCSVHeader(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"no header":     {"A1,3132333435363738393031323334353637383930,totp,6,60,SHA1\n", `a column "a1"`},
		"plain secret":  {"serial,secret,type,digits,period,algorithm\n", `a column "secret"`},
		"no secret":     {"serial,type,digits,period,algorithm\n", "no column secret_hex or secret_base32"},
		"both secrets":  {"serial,secret_hex,secret_base32,type,digits,period,algorithm\n", "the secrets twice"},
		"column twice":  {"serial,serial,secret_hex,type,digits,period,algorithm\n", `a column "serial"`},
		"no algorithm":  {"serial,secret_hex,type,digits,period\n", "no column algorithm"},
		"semicolons":    {"serial;secret_hex;type;digits;period;algorithm\n", "a column"},
		"a long line":   {"serial," + strings.Repeat("x", 1<<20), "longer than"},
		"an open quote": {fileHeader + `"` + strings.Repeat(fileLine(1, ""), 1000), "longer than"},
		"UTF-16":        {"\xff\xfes\x00e\x00r\x00", "a column"},
		"empty":         {"", "the file is empty"},
	} {
		err := error(nil)
		for _, e := range verifier.ReadCSV(strings.NewReader(c.file)) {
			err = e
		}
		var refusal *verifier.Refusal
		if !errors.As(err, &refusal) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// The encoding is what the column says: a key that is valid in both ways isn't
// taken for the other.
func TestCSVSecretIsNeverGuessed(t *testing.T) {
	const both = "23456723456723456723456723456722" // hexadecimal as well as base32
	keys := map[string][]byte{}
	for _, column := range []string{"secret_hex", "secret_base32"} {
		file := "serial," + column + ",type,digits,period,algorithm\nA1," + both + ",totp,6,60,SHA1\n"
		for token, err := range verifier.ReadCSV(strings.NewReader(file)) {
			if err != nil {
				t.Fatal(err)
			}
			keys[column] = token.Key
		}
	}
	if len(keys["secret_hex"]) != 16 || len(keys["secret_base32"]) != 20 {
		t.Error(keys)
	}
}

func FuzzReadCSV(f *testing.F) {
	f.Add([]byte(tokenFile(3, 2)))
	f.Add([]byte("\uFEFFserial,secret_base32,type,digits,algorithm,counter,made\nA,GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ,hotp,6,SHA1,1,2026-01-01\n"))
	f.Add([]byte("serial,secret_hex,type,digits,algorithm\n\"a\"\"b"))
	f.Fuzz(func(t *testing.T, file []byte) {
		lines := 0
		for token, err := range verifier.ReadCSV(bytes.NewReader(file)) {
			lines++
			if err == nil && token.Params.Check() != nil {
				t.Errorf("%+v", token)
			}
			if err != nil && errors.Is(err, io.EOF) {
				t.Error(err)
			}
		}
		if most := bytes.Count(file, []byte("\n")) + bytes.Count(file, []byte("\r")) + 1; lines > most {
			t.Errorf("%d tokens in %d lines", lines, most)
		}
	})
}

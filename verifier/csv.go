package verifier

import (
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"otpgate/verifier/otp"
)

// The columns of a token file. Those of the first row must be there, and one of
// the secrets.
var (
	csvNeeded  = []string{"serial", "type", "digits", "algorithm"}
	csvSecrets = []string{"secret_hex", "secret_base32"}
	csvOthers  = []string{"period", "user", "counter", "made"}
)

// ReadCSV yields the tokens of a CSV file in UTF-8. Its first line names the
// columns, in any order:
//
//	serial                  half-width letters, digits, - _ .
//	secret_hex              or secret_base32: the key; the column says which it is
//	type                    totp or hotp
//	digits                  6 to 8
//	period                  seconds; TOTP only
//	algorithm               SHA1, SHA256 or SHA512
//	user      (optional)    whose it is: within the realm, made if missing
//	counter   (optional)    the first that may be used; HOTP only
//	made      (optional)    day of manufacture, 2026-11-24
//
// The errors of a pair are an *EntryError, after which there may be more, or the
// last: a *Refusal, or what r returned.
func ReadCSV(r io.Reader) iter.Seq2[Imported, error] {
	return func(yield func(Imported, error) bool) {
		table, err := openCSV(r, slices.Concat(csvNeeded, csvSecrets, csvOthers), csvNeeded)
		if err != nil {
			yield(Imported{}, err)
			return
		}
		secret, err := secretColumn(table)
		if err != nil {
			yield(Imported{}, err)
			return
		}
		for {
			var t Imported
			line, err := table.next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err == nil {
				t, err = readTokenLine(table, line, secret)
			}
			fault := (*EntryError)(nil)
			if !yield(t, err) || err != nil && !errors.As(err, &fault) {
				return
			}
		}
	}
}

// secretColumn is the name of the column with the keys, which says how they are
// written.
func secretColumn(table *csvTable) (name string, err error) {
	for _, column := range csvSecrets {
		if _, there := table.at[column]; !there {
			continue
		}
		if name != "" {
			return "", refuse("leave one of them out", "the file has the secrets twice, as %s and %s", name, column)
		}
		name = column
	}
	if name == "" {
		return "", refuse("the column's name says how they are written", "the file has no column secret_hex or secret_base32")
	}
	return name, nil
}

// readTokenLine reads the line that table is at.
func readTokenLine(table *csvTable, line int, secret string) (Imported, error) {
	field := table.field
	t := Imported{Line: line, Serial: strings.Clone(field("serial")), User: strings.Clone(field("user"))}
	for _, read := range []func() error{
		func() error { return t.readKey(secret, field(secret)) },
		func() error { return t.readParams(field) },
		func() error { return t.readHistory(field) },
	} {
		if err := read(); err != nil {
			return Imported{}, &EntryError{Line: line, Serial: t.Serial, Problem: err.Error()}
		}
	}
	return t, nil
}

// readKey decodes the secret as its column says: many are valid in both ways.
func (t *Imported) readKey(column, text string) (err error) {
	if column == "secret_hex" {
		t.Key, err = hex.DecodeString(text)
	} else {
		t.Key, err = base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.TrimRight(strings.ToUpper(text), "="))
	}
	if err != nil {
		return fmt.Errorf("its secret is not what the column %s must hold", column)
	}
	return nil
}

func (t *Imported) readParams(field func(string) string) error {
	digits, err := csvNumber("digits", field("digits"))
	if err != nil {
		return err
	}
	t.Params = otp.Params{
		Type: otp.Type(strings.ToLower(field("type"))), Algorithm: otp.Algorithm(strings.ToUpper(field("algorithm"))), Digits: int(digits),
	}
	if t.Params.Type == otp.HOTP {
		if field("period") != "" {
			return errors.New("it has a period, which a hotp token hasn't")
		}
		return t.Params.Check()
	}
	period, err := csvNumber("period", field("period"))
	if err != nil {
		return err
	}
	t.Params.Period = int(period)
	return t.Params.Check()
}

func (t *Imported) readHistory(field func(string) string) (err error) {
	if text := field("counter"); text != "" {
		if t.Params.Type != otp.HOTP {
			return errors.New("it has a counter, which a totp token hasn't")
		}
		if t.First, err = csvNumber("counter", text); err != nil {
			return err
		}
	}
	if text := field("made"); text != "" {
		if t.Made, err = time.Parse(time.DateOnly, text); err != nil {
			return fmt.Errorf("made is %.20q, and must be a day like 2026-11-24", text)
		}
	}
	return nil
}

// csvNumber reads a number that isn't negative.
func csvNumber(column, text string) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 62)
	if err != nil {
		return 0, fmt.Errorf("%s is %.20q, and must be a number", column, text)
	}
	return int64(n), nil
}

package verifier

import (
	"bufio"
	"encoding/base32"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"otpgate/verifier/otp"
)

// maxTokenLine bounds a line of a token file in bytes: the longest key in
// hexadecimal has 256 digits, and a name 255 bytes.
const maxTokenLine = 4 << 10

// csvRead is what the CSV reader may read ahead of the line it returns.
const csvRead = 4 << 10

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
		in := &lineLimit{r: skipBOM(r), left: maxTokenLine + csvRead}
		rows := csv.NewReader(in)
		rows.FieldsPerRecord, rows.ReuseRecord = -1, true // said below in our own words
		c, err := readCSVHeader(rows)
		if err != nil {
			yield(Imported{}, csvFault(err))
			return
		}
		for {
			in.left = maxTokenLine + csvRead
			row, err := rows.Read()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(Imported{}, csvFault(err))
				return
			}
			line, _ := rows.FieldPos(0)
			if !yield(c.token(line, row)) {
				return
			}
		}
	}
}

// skipBOM drops the mark that spreadsheets put before UTF-8.
func skipBOM(r io.Reader) io.Reader {
	b := bufio.NewReader(r)
	if head, err := b.Peek(3); err == nil && string(head) == "\uFEFF" {
		_, _ = b.Discard(3) // they are there
	}
	return b
}

var errLongLine = errors.New("line too long")

// lineLimit lets at most left bytes through: the CSV reader holds a whole line,
// and a quoted field may run on over many.
type lineLimit struct {
	r    io.Reader
	left int
}

// Read implements io.Reader.
func (l *lineLimit) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, errLongLine
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// csvFault says in words why the file can't be read on.
func csvFault(err error) error {
	var broken *csv.ParseError
	switch {
	case errors.Is(err, errLongLine):
		return refuse("a quote that isn't closed makes one of many", "a line of the file is longer than %d bytes", maxTokenLine)
	case errors.As(err, &broken):
		return refuse("nothing behind it can be read", "line %d: the quotes are not those of a CSV file", broken.Line)
	}
	return err
}

// csvColumns is the place of each column, and how many there are.
type csvColumns struct {
	at     map[string]int
	width  int
	secret string
}

func readCSVHeader(rows *csv.Reader) (csvColumns, error) {
	c := csvColumns{at: map[string]int{}}
	head, err := rows.Read()
	if errors.Is(err, io.EOF) {
		return c, refuse("its first line names the columns", "the file is empty")
	}
	if err != nil {
		return c, err
	}
	c.width = len(head)
	known := slices.Concat(csvNeeded, csvSecrets, csvOthers)
	for i, name := range head {
		name = strings.ToLower(strings.TrimSpace(name))
		if _, twice := c.at[name]; twice || !slices.Contains(known, name) {
			return c, refuse("the columns are "+strings.Join(known, ", ")+", each once", "the first line has a column %.40q", name)
		}
		c.at[name] = i
		if slices.Contains(csvSecrets, name) {
			if c.secret != "" {
				return c, refuse("leave one of them out", "the file has the secrets twice, as %s and %s", c.secret, name)
			}
			c.secret = name
		}
	}
	for _, name := range csvNeeded {
		if _, ok := c.at[name]; !ok {
			return c, refuse("the first line names the columns", "the file has no column %s", name)
		}
	}
	if c.secret == "" {
		return c, refuse("the column's name says how they are written", "the file has no column secret_hex or secret_base32")
	}
	return c, nil
}

// token reads one line.
func (c csvColumns) token(line int, row []string) (Imported, error) {
	if len(row) != c.width {
		return Imported{}, &EntryError{Line: line, Problem: fmt.Sprintf("it has %d fields, and the first line %d", len(row), c.width)}
	}
	field := func(name string) string {
		if i, ok := c.at[name]; ok {
			return strings.TrimSpace(row[i])
		}
		return ""
	}
	t := Imported{Line: line, Serial: strings.Clone(field("serial")), User: strings.Clone(field("user"))}
	for _, read := range []func() error{
		func() error { return t.readKey(c.secret, field(c.secret)) },
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
	if !utf8.ValidString(t.User) {
		return errors.New("its user is no UTF-8 text: save the file as CSV UTF-8")
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

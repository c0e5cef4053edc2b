package oidc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	josejson "github.com/go-jose/go-jose/v4/json"
	"golang.org/x/text/currency"
)

// The limits of authorization_details, and of what describes them. All of it
// stands above the code, on a phone, and must be read before it is confirmed.
const (
	maxDetailsBytes  = 4 << 10
	maxDetails       = 4
	maxDetailTypes   = 32
	maxDetailFields  = 12
	maxDetailName    = 64  // octets of a type or a field
	maxDetailText    = 140 // characters of a text: a remittance line (ISO 20022, Max140Text)
	maxCombiningRun  = 2   // marks on one letter; more paint over the lines around it
	maxAccountLength = 34  // ISO 13616: an IBAN
	maxWholeDigits   = 15
)

// DetailKind is what the value of a field is.
type DetailKind string

// The kinds. Values are JSON strings.
const (
	DetailText     DetailKind = "text"     // a line that can be read
	DetailAmount   DetailKind = "amount"   // 150000 or 1234.50
	DetailCurrency DetailKind = "currency" // ISO 4217: JPY
	DetailAccount  DetailKind = "account"  // digits, capitals, hyphens and single spaces
	DetailDate     DetailKind = "date"     // ISO 8601: 2026-11-25
)

// DetailType is a type of authorization_details (RFC 9396 §2) that a client may
// ask for: a transaction that its customer confirms with the code.
type DetailType struct {
	Type   string
	Fields []DetailField
}

// DetailField is a member that an object of the type may have, besides type.
type DetailField struct {
	Name     string
	Kind     DetailKind
	Required bool
	// MaxLength of a DetailText, in characters; of others it is 0.
	MaxLength int
}

// Detail is one transaction of a request, checked.
type Detail struct {
	Type   string
	Values map[string]string // by the names of its type's fields
}

func checkDetailTypes(types []DetailType) error {
	if len(types) > maxDetailTypes {
		return fmt.Errorf("details: must be at most %d types", maxDetailTypes)
	}
	taken := make(map[string]bool)
	for i := range types {
		if err := types[i].check(); err != nil {
			return fmt.Errorf("details: type %q: %w", types[i].Type, err)
		}
		if taken[types[i].Type] {
			return fmt.Errorf("details: type %q is there twice", types[i].Type)
		}
		taken[types[i].Type] = true
	}
	return nil
}

func (t *DetailType) check() error {
	if !printable(t.Type, maxDetailName) || len(t.Fields) == 0 || len(t.Fields) > maxDetailFields {
		return fmt.Errorf("must have a name of at most %d octets, and 1 to %d fields", maxDetailName, maxDetailFields)
	}
	taken, currencies, amounts := map[string]bool{"type": true}, 0, 0
	for _, f := range t.Fields {
		text := f.Kind == DetailText
		switch {
		case !printable(f.Name, maxDetailName) || taken[f.Name]:
			return fmt.Errorf("field %q: must have a name of its own of at most %d octets", f.Name, maxDetailName)
		case detailChecks()[f.Kind] == nil:
			return fmt.Errorf("field %q: there is no kind %q", f.Name, f.Kind)
		case text != (f.MaxLength > 0) || f.MaxLength > maxDetailText:
			return fmt.Errorf("field %q: a text has a maximum length of 1 to %d, and nothing else has", f.Name, maxDetailText)
		}
		taken[f.Name] = true
		switch f.Kind {
		case DetailCurrency:
			currencies++
		case DetailAmount:
			amounts++
		case DetailText, DetailAccount, DetailDate:
		}
	}
	if currencies > 1 || amounts > 0 && currencies == 0 {
		return errors.New("must have one currency for its amounts: what they are in couldn't be told")
	}
	return nil
}

// parseDetails reads authorization_details of the types; "" has none. It returns
// what is kept of them too: the same JSON without spaces.
func parseDetails(types []DetailType, raw string) (kept json.RawMessage, err error) {
	if raw == "" {
		return nil, nil
	}
	refused := func(cause error) (json.RawMessage, error) {
		return nil, refuse(invalidAuthorizations, "authorization_details are not as this realm describes them: "+cause.Error())
	}
	if len(raw) > maxDetailsBytes {
		return refused(fmt.Errorf("longer than %d bytes", maxDetailsBytes))
	}
	if err := checkJSON([]byte(raw)); err != nil {
		return refused(err)
	}
	details, err := decodeDetails([]byte(raw))
	if err != nil {
		return refused(errors.New("must be a list of objects whose members are strings"))
	}
	if len(details) == 0 || len(details) > maxDetails {
		return refused(fmt.Errorf("must be 1 to %d objects", maxDetails))
	}
	for i, d := range details {
		if err := d.check(types); err != nil {
			return refused(fmt.Errorf("object %d: %w", i+1, err))
		}
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(raw)); err != nil {
		return refused(err)
	}
	return compact.Bytes(), nil
}

// decodeDetails reads what has passed checkJSON.
func decodeDetails(raw []byte) ([]Detail, error) {
	var objects []map[string]*string
	if err := josejson.Unmarshal(raw, &objects); err != nil {
		return nil, err
	}
	details := make([]Detail, len(objects))
	for i, members := range objects {
		details[i].Values = make(map[string]string, len(members))
		for name, value := range members {
			switch {
			case value == nil:
				return nil, errors.New("null")
			case name == "type":
				details[i].Type = *value
			default:
				details[i].Values[name] = *value
			}
		}
	}
	return details, nil
}

// check reports the first thing about d that its type doesn't allow. The messages
// repeat nothing of d: they go into logs.
func (d *Detail) check(types []DetailType) error {
	i := slices.IndexFunc(types, func(t DetailType) bool { return t.Type == d.Type })
	if i < 0 {
		return errors.New("its type isn't one of this realm's")
	}
	known := 0
	for _, f := range types[i].Fields {
		value, there := d.Values[f.Name]
		if !there && f.Required {
			return fmt.Errorf("%s is missing", f.Name)
		}
		if !there {
			continue
		}
		known++
		if !detailChecks()[f.Kind](value) || f.Kind == DetailText && len([]rune(value)) > f.MaxLength {
			return fmt.Errorf("%s isn't a %s as it must be", f.Name, f.Kind)
		}
	}
	if known < len(d.Values) {
		return errors.New("it has a member that its type hasn't")
	}
	return d.checkAmounts(types[i].Fields)
}

// checkAmounts refuses amounts that have no currency, or more decimals than it has.
func (d *Detail) checkAmounts(fields []DetailField) error {
	if !slices.ContainsFunc(fields, func(f DetailField) bool { return f.Kind == DetailAmount && d.Values[f.Name] != "" }) {
		return nil
	}
	i := slices.IndexFunc(fields, func(f DetailField) bool { return f.Kind == DetailCurrency })
	if i < 0 || d.Values[fields[i].Name] == "" {
		return errors.New("it has an amount without a currency")
	}
	unit, err := currency.ParseISO(d.Values[fields[i].Name])
	if err != nil {
		return err
	}
	scale, _ := currency.Standard.Rounding(unit)
	for _, f := range fields {
		_, decimals, _ := strings.Cut(d.Values[f.Name], ".")
		if f.Kind == DetailAmount && len(decimals) > scale {
			return fmt.Errorf("%s has more decimals than its currency", f.Name)
		}
	}
	return nil
}

// detailChecks say of each kind whether a value is one.
func detailChecks() map[DetailKind]func(string) bool {
	return map[DetailKind]func(string) bool{
		DetailText:     readableLine,
		DetailAmount:   amountForm.MatchString,
		DetailCurrency: isCurrency,
		DetailAccount:  func(s string) bool { return len(s) <= maxAccountLength && accountForm.MatchString(s) },
		DetailDate: func(s string) bool {
			_, err := time.Parse(time.DateOnly, s)
			return err == nil
		},
	}
}

var (
	amountForm  = regexp.MustCompile(fmt.Sprintf(`^(0|[1-9][0-9]{0,%d})(\.[0-9]{1,4})?$`, maxWholeDigits-1))
	accountForm = regexp.MustCompile(`^[0-9A-Z]+([ -][0-9A-Z]+)*$`)
)

func isCurrency(s string) bool {
	unit, err := currency.ParseISO(s)
	return err == nil && unit.String() == s
}

// readableLine reports whether s is one line that shows all that is in it, and
// nothing else: no control characters or direction marks, no letters that can't be
// seen, no spaces that could push words into another line.
func readableLine(s string) bool {
	const ideographicSpace = '\u3000'
	marks, space := 0, true // as at the beginning, where there must be none
	for _, r := range s {
		switch {
		case r == ' ' || r == ideographicSpace:
			if space {
				return false
			}
			marks, space = 0, true
			continue
		case unicode.Is(unicode.M, r):
			if marks++; space || marks > maxCombiningRun {
				return false
			}
		default:
			marks = 0
		}
		if !unicode.IsPrint(r) || unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r) ||
			unicode.Is(unicode.Variation_Selector, r) || r == '\u2800' || r == unicode.ReplacementChar {
			return false
		}
		space = false
	}
	return !space
}

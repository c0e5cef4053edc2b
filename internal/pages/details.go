package pages

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Detail is a transaction that the customer confirms with the code, as the portal
// has described it. Its door has checked that all of it can be read.
type Detail struct {
	Type   string
	Values map[string]string // by name of the type's fields
}

// DetailType is how a realm's transactions of one type are shown.
type DetailType struct {
	Title  map[string]string // by language
	Fields []DetailField     // in the order in which they are shown
}

// DetailField is a line of a transaction.
type DetailField struct {
	Name  string
	Kind  DetailKind
	Label map[string]string // by language
}

// DetailKind is how a value is written.
type DetailKind string

// The kinds.
const (
	DetailText     DetailKind = "text"     // as it is
	DetailAmount   DetailKind = "amount"   // 1500000, with the transaction's currency
	DetailCurrency DetailKind = "currency" // ISO 4217: part of the amount
	DetailAccount  DetailKind = "account"  // as it is, in tabular figures
	DetailDate     DetailKind = "date"     // 2026-11-30
)

// transaction is a Detail as the page shows it.
type transaction struct {
	Title string
	Rows  []detailRow
}

type detailRow struct {
	Label, Value string
	Figures      bool // in tabular figures
}

// transactions are what v's customer confirms. An error: one of them can't be shown,
// and then no code may be asked for.
func (v *visit) transactions() ([]transaction, error) {
	shown := make([]transaction, 0, len(v.Details))
	for _, d := range v.Details {
		described, ok := v.realm.Details[d.Type]
		if !ok {
			return nil, fmt.Errorf("realm %q doesn't describe a transaction of that type", v.Realm)
		}
		for name := range d.Values {
			if !slices.ContainsFunc(described.Fields, func(f DetailField) bool { return f.Name == name }) {
				return nil, fmt.Errorf("realm %q doesn't describe all of a transaction", v.Realm)
			}
		}
		if described.hasAmount(d) && described.currency(d) == "" {
			return nil, fmt.Errorf("realm %q has an amount to show that is in no currency", v.Realm)
		}
		shown = append(shown, transaction{Title: inLanguage(described.Title, v.lang), Rows: described.rows(d, v.lang)})
	}
	return shown, nil
}

// hasAmount reports whether d has an amount.
func (t DetailType) hasAmount(d Detail) bool {
	return slices.ContainsFunc(t.Fields, func(f DetailField) bool { return f.Kind == DetailAmount && d.Values[f.Name] != "" })
}

// currency is what d's amounts are in; "" if it doesn't say.
func (t DetailType) currency(d Detail) string {
	i := slices.IndexFunc(t.Fields, func(f DetailField) bool { return f.Kind == DetailCurrency })
	if i < 0 {
		return ""
	}
	return d.Values[t.Fields[i].Name]
}

// rows are the lines that d has.
func (t DetailType) rows(d Detail, lang string) []detailRow {
	currency, amounts := t.currency(d), t.hasAmount(d)
	var rows []detailRow
	for _, f := range t.Fields {
		value, there := d.Values[f.Name]
		if !there || f.Kind == DetailCurrency && amounts {
			continue
		}
		row := detailRow{Label: inLanguage(f.Label, lang), Value: value, Figures: f.Kind != DetailText}
		switch f.Kind {
		case DetailAmount:
			row.Value = amount(value, currency, lang)
		case DetailDate:
			row.Value = date(value, lang)
		case DetailText, DetailAccount, DetailCurrency:
		}
		rows = append(rows, row)
	}
	return rows
}

// amount is 1,500,000円 or JPY 1,500,000; both languages part thousands by commas.
func amount(value, currency, lang string) string {
	whole, decimals, fraction := strings.Cut(value, ".")
	var b strings.Builder
	for i, digit := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(digit)
	}
	if fraction {
		b.WriteString("." + decimals)
	}
	if currency == "JPY" && lang == "ja" {
		return b.String() + "円"
	}
	return currency + "\u00a0" + b.String() // not to be parted at the end of a line
}

// date is 2026年11月30日 or 30 November 2026.
func date(value, lang string) string {
	day, err := time.Parse(time.DateOnly, value)
	switch {
	case err != nil:
		return value
	case lang == "ja":
		return day.Format("2006年1月2日")
	}
	return day.Format("2 January 2006")
}

// inLanguage is the text in lang, or else in Japanese.
func inLanguage(text map[string]string, lang string) string {
	if in := text[lang]; in != "" {
		return in
	}
	return text[defaultLanguage]
}

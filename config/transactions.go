package config

import "fmt"

// Values of kind that a transaction's other fields depend upon.
const (
	textKind     = "text"
	currencyKind = "currency"
)

// checkTransactions finds what would make two transactions, or two of their fields,
// one.
func checkTransactions(transactions []Transaction, d *decoder, at string) {
	types := d.unique()
	for i, t := range transactions {
		at := fmt.Sprintf("%s[%d]", at, i)
		types(t.Type, at+".type")
		names, currencies := d.unique(), 0
		for j, f := range t.Fields {
			at := fmt.Sprintf("%s.fields[%d]", at, j)
			names(f.Name, at+".name")
			if f.Name == "type" {
				d.fault(at+".name", "type is the transaction's own: take another name")
			}
			if d.has(at+".max_length") && f.Kind != textKind && f.Kind != "" {
				d.fault(at+".max_length", "is for texts, and the field's kind is %s: leave it out", f.Kind)
			}
			if f.Kind != currencyKind {
				continue
			}
			if currencies++; currencies > 1 {
				d.fault(at+".kind", "is currency a second time: nobody could tell which amount is in which")
			}
		}
	}
}

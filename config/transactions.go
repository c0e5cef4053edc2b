package config

import "fmt"

// Values of kind that a transaction's other fields depend upon.
const (
	textKind     = "text"
	currencyKind = "currency"
	amountKind   = "amount"
)

// checkTransactions finds what would make two transactions, or two of their fields,
// one, and amounts of which nobody could tell what they are in.
func checkTransactions(transactions []Transaction, d *decoder, at string) {
	types := d.unique()
	for i, t := range transactions {
		at := fmt.Sprintf("%s[%d]", at, i)
		types(t.Type, at+".type")
		names, currencies, amounts := d.unique(), 0, 0
		for j, f := range t.Fields {
			at := fmt.Sprintf("%s.fields[%d]", at, j)
			names(f.Name, at+".name")
			if f.Name == "type" {
				d.fault(at+".name", "type is the transaction's own: take another name")
			}
			if d.has(at+".max_length") && f.Kind != textKind && f.Kind != "" {
				d.fault(at+".max_length", "is for texts, and the field's kind is %s: leave it out", f.Kind)
			}
			switch f.Kind {
			case amountKind:
				amounts++
			case currencyKind:
				if currencies++; currencies > 1 {
					d.fault(at+".kind", "is currency a second time: nobody could tell which amount is in which")
				}
			}
		}
		if amounts > 0 && currencies == 0 {
			d.fault(at+".fields", "have an amount and no currency that it is in: add a field of kind currency")
		}
	}
}

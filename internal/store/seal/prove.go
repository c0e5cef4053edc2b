package seal

import (
	"context"
	"maps"
	"slices"

	"otpgate/internal/store"
)

// Trial opens what a Box would seal anew, and changes nothing. Handed to a
// record's owner in place of a Box, it proves that the record can be read.
type Trial struct {
	Box    *Box
	Opened int // values that could be opened
}

// Reseal opens the value and reports no change.
func (t *Trial) Reseal(recordKey, purpose string, sealed []byte) (again []byte, changed bool, err error) {
	plaintext, err := t.Box.Open(recordKey, purpose, sealed)
	if err != nil {
		return nil, false, err
	}
	clear(plaintext)
	t.Opened++
	return sealed, false, nil
}

// Prove runs every record of owners through its Reseal and returns the first
// error.
func Prove(ctx context.Context, records store.Records, owners map[string]Reseal) error {
	return records.View(ctx, func(r store.Reader) error {
		for _, prefix := range slices.Sorted(maps.Keys(owners)) {
			err := r.Scan(prefix, func(key string, value []byte) error {
				_, _, err := owners[prefix](key, value)
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

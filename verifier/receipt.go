package verifier

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"otpgate/internal/audit"
	"otpgate/internal/store"
)

// By says who asks for a step, and why, for the audit log.
type By struct {
	Who    string // an operator or clerk, by the kernel's word
	Reason string // in their words
	Form   string // the paper form's number, if there is one
}

// Receipt is what a step leaves in somebody's hands: its number finds the step
// in the audit log.
type Receipt struct {
	Number string    `json:"receipt"` // 受付番号, seven digits or more, unique
	At     time.Time `json:"at"`      // 受付時刻
}

// firstReceipt makes the numbers seven digits long from the first on.
const firstReceipt = 1_000_000

func receiptKey() string { return store.Key("receipt") }

// Used reports whether anything was decided on these records, or done by a clerk:
// the audit log must know of it. It doesn't tell of records that only the first
// version has written.
func Used(r store.Reader) (bool, error) {
	receipt, err := r.Get(receiptKey())
	if err != nil || receipt != nil {
		return receipt != nil, err
	}
	decided, err := r.Get(clockKey())
	return decided != nil, err
}

// nextReceipt takes a number. It belongs to the transaction: if that fails, so
// does the step, and the number is given again.
func nextReceipt(tx store.Txn, now time.Time) (Receipt, error) {
	key := receiptKey()
	b, err := tx.Get(key)
	if err != nil {
		return Receipt{}, err
	}
	n := uint64(firstReceipt)
	if len(b) == 8 {
		n = binary.BigEndian.Uint64(b)
	} else if b != nil {
		return Receipt{}, fmt.Errorf("%w %q: %d bytes", errHotRecord, key, len(b))
	}
	n++
	if err := tx.Put(key, binary.BigEndian.AppendUint64(nil, n)); err != nil {
		return Receipt{}, err
	}
	return Receipt{Number: strconv.FormatUint(n, 10), At: now.UTC().Truncate(time.Second)}, nil
}

// record writes a step that is done to the audit log. It is committed: a caller
// who goes away can't keep it out of the log.
func (v *Verifier) record(ctx context.Context, by By, r Receipt, e audit.Entry) error {
	e.Time, e.Outcome, e.Door, e.Client, e.Receipt, e.Form = r.At, "done", "admin", by.Who, r.Number, by.Form
	if e.Detail == "" {
		e.Detail = by.Reason
	}
	if err := v.Audit.Append(context.WithoutCancel(ctx), e); err != nil {
		return fmt.Errorf("%w: %w", ErrNotLogged, err)
	}
	return nil
}

// ErrNotLogged means that a step was done, but couldn't be written to the audit
// log.
var ErrNotLogged = errors.New("done, but not in the audit log")

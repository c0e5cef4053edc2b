package verifier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"otpgate/internal/audit"
	"otpgate/internal/store"
	"otpgate/verifier/otp"
)

const (
	stepCheckBatch   step = "batch.check"
	stepReleaseBatch step = "batch.release"
	stepDiscardBatch step = "batch.discard"
)

const (
	// MinChecked tokens of a batch must have shown two codes before it is
	// released; all of them if it has fewer. A file of the wrong algorithm,
	// period or secrets is seen at the first, a mixed one at the third.
	MinChecked = 3
	// maxChecked bounds the checked tokens that a batch's record names.
	maxChecked = 100
)

// BatchState is where a batch of tokens is in its life.
type BatchState string

// The states of a batch.
const (
	BatchImporting  BatchState = "importing" // or being undone
	batchLanding    BatchState = "landing"   // in, and on its way to its place
	BatchChecking   BatchState = "checking"  // a sample is to show codes
	BatchReleased   BatchState = "released"  // its tokens can be assigned
	batchDiscarding BatchState = "discarding"
	BatchDiscarded  BatchState = "discarded" // its tokens in stock are forgotten
)

// Batch is the record of the tokens that one file brought.
type Batch struct {
	V        int        `json:"v"` // layout version, 1
	ID       string     `json:"id"`
	Realm    string     `json:"realm,omitempty"` // "": any
	File     string     `json:"file"`
	State    BatchState `json:"state"`
	Tokens   int        `json:"tokens"`
	Stock    int        `json:"stock"`             // of them, for stock; the others had users
	Checked  []string   `json:"checked,omitempty"` // serials that showed two right codes
	Failed   int        `json:"failed,omitempty"`  // checks that went wrong
	By       string     `json:"by"`                // who imported it
	Receipt  string     `json:"receipt"`           // of the import
	Imported time.Time  `json:"imported"`
	Released time.Time  `json:"released,omitzero"`
}

// Wanted is how many tokens must still be checked before the batch can be
// released.
func (b Batch) Wanted() int { return max(0, min(MinChecked, b.Stock)-len(b.Checked)) }

func batchKey(id string) string { return store.Key("batch", id) }

// Batches calls fn for each batch, the oldest first, until fn returns an error.
func (v *Verifier) Batches(ctx context.Context, fn func(Batch) error) error {
	return v.Records.View(ctx, func(r store.Reader) error { return eachBatch(r, fn) })
}

// Batch returns one batch. A *Refusal if there is none.
func (v *Verifier) Batch(ctx context.Context, id string) (b Batch, err error) {
	err = v.Records.View(ctx, func(r store.Reader) error {
		b, err = readBatch(r, id)
		return err
	})
	return b, err
}

// BatchCheck is what two codes of a token have shown.
type BatchCheck struct {
	Batch   Batch
	Offset  int64 // steps that the token is ahead of what is expected
	Receipt Receipt
}

// CheckBatch checks a token of a batch that isn't released yet: first and second
// are two codes that it showed in a row. They are used up by that, and what they
// say of its clock is kept. A *Refusal if they don't fit; that is counted and
// logged as well.
func (v *Verifier) CheckBatch(ctx context.Context, by By, serial string, first, second Match) (BatchCheck, error) {
	if err := by.check(); err != nil {
		return BatchCheck{}, err
	}
	sample, err := v.seeSample(ctx, serial)
	if err != nil {
		return BatchCheck{}, err
	}
	now := v.Now()
	shown, why, err := v.matchSample(sample, first, second, now)
	if err != nil {
		return BatchCheck{}, err
	}
	check := BatchCheck{Offset: shown - sample.expected(now)}
	check.Receipt, err = v.do(ctx, by, func(tx store.Txn, _ time.Time) (entry audit.Entry, err error) {
		if err := tick(tx, now); err != nil {
			return entry, err
		}
		if check.Batch, err = sample.unmoved(tx); err != nil {
			return entry, err
		}
		b := &check.Batch
		detail := fmt.Sprintf("batch %s: right codes, %+d from ours", b.ID, check.Offset)
		if shown == noStep {
			b.Failed++
			detail = fmt.Sprintf("batch %s: wrong codes%s", b.ID, why)
		} else {
			if !slices.Contains(b.Checked, serial) && len(b.Checked) < maxChecked {
				b.Checked = append(b.Checked, serial)
			}
			if err := tx.Put(tokenStateKey(serial), encodeHot(sample.after(shown, now))); err != nil {
				return entry, err
			}
		}
		return stepCheckBatch.on(sample.Token, by.andWhy(detail)), putJSON(tx, batchKey(b.ID), b)
	})
	if err == nil && shown == noStep {
		err = refuse("type two codes that it shows one after the other; if other tokens of the batch fail too, the file doesn't fit them: otpgate batch discard",
			"token %s doesn't show these codes%s", serial, why)
	}
	return check, err
}

// ReleaseBatch puts a checked batch in stock: its tokens can be assigned. A
// *Refusal if not enough of them were checked.
func (v *Verifier) ReleaseBatch(ctx context.Context, by By, id string) (b Batch, receipt Receipt, err error) {
	receipt, err = v.do(ctx, by, func(tx store.Txn, now time.Time) (entry audit.Entry, err error) {
		if b, err = readBatch(tx, id); err != nil {
			return entry, err
		}
		if err := b.mustBeChecking(); err != nil {
			return entry, err
		}
		if n := b.Wanted(); n > 0 {
			return entry, refuse("otpgate batch check SERIAL CODE1 CODE2, with tokens taken from the box at random",
				"%d more of the tokens in batch %s must show their codes first", n, id)
		}
		b.State, b.Released = BatchReleased, now
		detail := fmt.Sprintf("batch %s, %d tokens; %d were checked, %d checks failed", id, b.Stock, len(b.Checked), b.Failed)
		return audit.Entry{Event: string(stepReleaseBatch), Realm: b.Realm, Detail: by.andWhy(detail)}, putJSON(tx, batchKey(id), b)
	})
	return b, receipt, err
}

// DiscardBatch takes a batch that isn't released out again: its tokens in stock
// are forgotten, serials and keys, so that a better file can be imported. Tokens
// that came with a user stay.
func (v *Verifier) DiscardBatch(ctx context.Context, by By, id string) (b Batch, receipt Receipt, err error) {
	if err := by.because(stepDiscardBatch); err != nil {
		return b, receipt, err
	}
	receipt, err = v.do(ctx, by, func(tx store.Txn, _ time.Time) (entry audit.Entry, err error) {
		if b, err = readBatch(tx, id); err != nil {
			return entry, err
		}
		if err := b.mustBeChecking(); err != nil {
			return entry, err
		}
		b.State = batchDiscarding
		detail := fmt.Sprintf("batch %s, %d tokens", id, b.Stock)
		return audit.Entry{Event: string(stepDiscardBatch), Realm: b.Realm, Detail: by.andWhy(detail)}, putJSON(tx, batchKey(id), b)
	})
	if err != nil {
		return b, receipt, err
	}
	err = v.discard(context.WithoutCancel(ctx), &b)
	return b, receipt, err
}

// errStuck means that a record which can't be read keeps a batch from its end.
var errStuck = errors.New("a token's record can't be read")

// FinishBatches ends what a kill has cut off: an import that wasn't in is
// undone, one that was, or a discard, is carried out. It is called before
// anything is served. A batch with a record that can't be read is left as it is:
// that keeps nobody else from logging in.
func (v *Verifier) FinishBatches(ctx context.Context) error {
	var all []Batch
	err := v.Batches(ctx, func(b Batch) error {
		all = append(all, b)
		return nil
	})
	for _, b := range all {
		if err != nil {
			return err
		}
		switch b.State {
		case BatchImporting:
			v.Log.Warn("an import was cut off, and is undone", "batch", b.ID)
			err = v.dropStaged(ctx, b.ID)
		case batchLanding:
			v.Log.Warn("an import was cut off when its tokens were in, and is carried out", "batch", b.ID)
			if err = v.land(ctx, &b, func(int, int) {}); err == nil {
				by := By{Who: b.By, Reason: "carried out after a restart"}
				err = v.record(ctx, by, Receipt{Number: b.Receipt, At: v.Now()}, b.imported(by))
			}
		case batchDiscarding:
			v.Log.Warn("discarding a batch was cut off, and is carried out", "batch", b.ID)
			err = v.discard(ctx, &b)
		case BatchChecking, BatchReleased, BatchDiscarded:
		}
		if errors.Is(err, errStuck) {
			v.Log.Error("a batch could not be ended; the next start tries again", "batch", b.ID, "state", b.State, "err", err)
			err = nil
		}
	}
	return err
}

// batchReleased says whether the tokens of a batch may be given to users. A
// token that never was in one is asked for as batch "".
func batchReleased(r store.Reader, id string) (bool, error) {
	if id == "" {
		return true, nil
	}
	b, err := readBatch(r, id)
	return b.State == BatchReleased, err
}

func eachBatch(r store.Reader, fn func(Batch) error) error {
	return r.Scan(store.Prefix("batch"), func(key string, value []byte) error {
		var b Batch
		if err := decodeJSON(key, value, &b); err != nil {
			return err
		}
		return fn(b)
	})
}

func readBatch(r store.Reader, id string) (Batch, error) {
	var b Batch
	if err := CheckSerial(id); err != nil { // the same letters
		return b, refuse("otpgate batch list shows them", "there is no batch %.70q", id)
	}
	found, err := getJSON(r, batchKey(id), &b)
	if err == nil && !found {
		err = refuse("otpgate batch list shows them", "there is no batch %s", id)
	}
	return b, err
}

func (b Batch) mustBeChecking() error {
	switch b.State {
	case BatchChecking:
		return nil
	case BatchReleased:
		return refuse("its tokens can be assigned", "batch %s was released already", b.ID)
	case BatchDiscarded:
		return refuse("import its file anew", "batch %s was discarded", b.ID)
	case BatchImporting, batchLanding, batchDiscarding:
	}
	return refuse("wait for its end", "batch %s is %s", b.ID, b.State)
}

// openBatch notes that an import begins, and gives the batch its name: the day,
// and a number within it. A *Refusal while another is under way.
func (v *Verifier) openBatch(ctx context.Context, b *Batch) error {
	return v.Records.Update(ctx, func(tx store.Txn) error {
		day := b.Imported.UTC().Format("20060102")
		n := 1
		err := eachBatch(tx, func(other Batch) error {
			if other.State == BatchImporting || other.State == batchLanding {
				return refuse("wait for its end; if the gateway was started since, its log says what keeps it", "%s is importing %s", other.By, other.File)
			}
			if other.ID == batchName(day, n) { // they come in this order
				n++
			}
			return nil
		})
		if err != nil {
			return err
		}
		b.ID = batchName(day, n)
		return putJSON(tx, batchKey(b.ID), b)
	})
}

func batchName(day string, n int) string { return fmt.Sprintf("B%s-%03d", day, n) }

// discard forgets the tokens in stock of a batch. Its record stays: a batch's
// name is never given again.
func (v *Verifier) discard(ctx context.Context, b *Batch) error {
	fingerprint, err := v.fingerprinter(ctx)
	if err != nil {
		return err
	}
	var serials []string // at most MaxImport
	if err := v.Records.View(ctx, func(r store.Reader) error {
		serials = serials[:0]
		return r.Scan(store.Prefix("token"), func(key string, value []byte) error {
			var t Token
			if err := decodeJSON(key, value, &t); err != nil {
				return fmt.Errorf("%w: %w", errStuck, err)
			}
			if t.Batch == b.ID && t.State == InStock {
				serials = append(serials, t.Serial)
			}
			return nil
		})
	}); err != nil {
		return err
	}
	for slice := range slices.Chunk(serials, importSlice) {
		err := v.Records.Update(ctx, func(tx store.Txn) error {
			for _, serial := range slice {
				if err := v.forget(tx, serial, fingerprint); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	b.State = BatchDiscarded
	return v.Records.Update(ctx, func(tx store.Txn) error { return putJSON(tx, batchKey(b.ID), b) })
}

// forget removes a token that was nobody's, and frees its serial and key.
func (v *Verifier) forget(tx store.Txn, serial string, fingerprint func([]byte) string) error {
	t, err := readToken(tx, serial)
	if err != nil {
		return err
	}
	if t.State != InStock { // released meanwhile
		return nil
	}
	key, err := v.openKey(&t)
	if err != nil {
		return fmt.Errorf("%w: %w", errStuck, err)
	}
	defer clear(key)
	return errors.Join(tx.Delete(fingerprintKey(fingerprint(key))), tx.Delete(tokenStateKey(serial)), tx.Delete(tokenKey(serial)))
}

// sample is a token of a batch that is being checked, as it was read.
type sample struct {
	seenToken
	states []byte // the hot record as it was read
}

func (v *Verifier) seeSample(ctx context.Context, serial string) (s sample, err error) {
	err = v.Records.View(ctx, func(r store.Reader) error {
		if s.Token, err = readToken(r, serial); err != nil {
			return err
		}
		if err := s.read(r); err != nil {
			return err
		}
		s.state, err = readTokenState(r, serial)
		return err
	})
	return s, err
}

// read notes the records, and checks that the token may be checked.
func (s *sample) read(r store.Reader) error {
	raw, err := r.Get(tokenKey(s.Serial))
	if err != nil {
		return err
	}
	states, err := r.Get(tokenStateKey(s.Serial))
	if err != nil {
		return err
	}
	s.raw, s.states = bytes.Clone(raw), bytes.Clone(states)
	if s.Batch == "" || s.State != InStock {
		return refuse("take one that came with a batch and is still in stock", "token %s is %s", s.Serial, s.State.words())
	}
	b, err := readBatch(r, s.Batch)
	if err != nil {
		return err
	}
	return b.mustBeChecking()
}

// unmoved returns the batch if nothing has changed since the token was read.
func (s *sample) unmoved(tx store.Txn) (Batch, error) {
	again := *s
	if err := again.read(tx); err != nil {
		return Batch{}, err
	}
	if !bytes.Equal(again.raw, s.raw) || !bytes.Equal(again.states, s.states) {
		return Batch{}, refuse("try again", "token %s was changed at the same moment", s.Serial)
	}
	return readBatch(tx, s.Batch)
}

// matchSample looks for two steps in a row that show the two codes, as far off as
// a token is looked for when its holder registers it. It returns the second, or
// noStep and what would have made the codes right.
func (v *Verifier) matchSample(s sample, first, second Match, now time.Time) (shown int64, why string, err error) {
	key, err := v.openKey(&s.Token)
	if err != nil {
		return noStep, "", err
	}
	defer clear(key)
	g := otp.NewGenerator(key, s.Params)
	from, to := s.search(now.Unix())
	for at := max(from, s.state.Last+1); at <= to; at++ {
		if !first(g.Code(at)) {
			continue
		}
		for next := at + 1; next <= at+s.nextSteps(); next++ {
			if second(g.Code(next)) {
				return next, "", nil
			}
		}
	}
	return noStep, s.misconfigured(key, second, now.Unix()), nil
}

// after is the token's state behind a check: the steps are used up, and the clock
// is known.
func (s *sample) after(shown int64, now time.Time) tokenState {
	state := s.state
	state.Last = shown
	if !s.hotp() {
		state.Clock, _ = s.clock().learn(s.Params, shown, now.Unix())
	}
	return state
}

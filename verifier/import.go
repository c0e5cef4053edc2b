package verifier

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"iter"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"otpgate/internal/audit"
	"otpgate/internal/store"
	"otpgate/verifier/otp"
	"otpgate/verifier/pskc"
)

// An import is all or nothing, and takes flat memory, and keeps nobody waiting:
// so it is no single transaction.
//
//	stage   each token is checked and put aside, a slice at a time, where nobody
//	        but an import looks; its serial and key are taken
//	commit  one small transaction: the batch is importing no more, but landing
//	land    a slice at a time, the tokens come where they belong
//
// Before the commit a fault, or a kill, undoes everything; behind it, a kill is
// made up for at the next start (FinishBatches). One import runs at a time.

const (
	// MaxImport bounds the tokens of a file: twice the largest that is known.
	MaxImport = 250_000
	// importSlice is how many tokens share a transaction: a few milliseconds for
	// whoever logs in meanwhile.
	importSlice = 128
	// maxFileName bounds the file's name, which is for people.
	maxFileName = 200
	// maxFirst bounds a HOTP token's counter: nobody presses it as often.
	maxFirst = 1 << 32
)

// Imported is one token of a file.
type Imported struct {
	Line   int // in the file
	Serial string
	Key    []byte
	Params otp.Params
	First  int64         // the first step or counter that may be used
	Drift  time.Duration // how far its clock was ahead when it was last known
	Made   time.Time     // zero: not known

	// The key may be used between these times; zero: no limit.
	NotBefore, NotAfter time.Time

	User string // whose it is; "": it goes to stock
}

// EntryError is what is wrong with one token of a file.
type EntryError struct {
	Line    int
	Serial  string // may be empty
	Problem string
}

func (e *EntryError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Problem) }

// ImportOptions say how a file is taken in. The functions must be set.
type ImportOptions struct {
	File   string // its name, for people
	Realm  string // whose the tokens are; "": any realm may assign them
	DryRun bool   // check, and write nothing
	// Carrier is what holds the keys. Unknown: hardware for stock, which is what
	// is sent by post; with a user it stays unknown.
	Carrier Carrier

	// Each is told of every token, in order: what is in the way, or "" for
	// nothing. The token's key is gone, and a name that can't be one is left out.
	// Its error ends the import.
	Each func(t Imported, problem string) error
	// Progress is told how many of how many tokens have landed.
	Progress func(landed, tokens int)
}

// ImportReport is what an import did, or on a dry run would do.
type ImportReport struct {
	Tokens  int // read
	Faults  int // of them, can't be taken; if there are any, none is
	Users   int // of them, for a user
	Batch   Batch
	Receipt Receipt // zero if nothing was imported
}

// ReadPSKC yields the tokens of a PSKC file (RFC 6030), as ReadCSV does. key or
// password open what is encrypted.
func ReadPSKC(r io.Reader, key, password []byte) iter.Seq2[Imported, error] {
	return func(yield func(Imported, error) bool) {
		for k, err := range pskc.Read(r, pskc.Options{Key: key, Password: password}) {
			var entry *pskc.KeyError
			var file *pskc.FileError
			switch {
			case errors.As(err, &entry):
				err = &EntryError{entry.Line, entry.Serial, entry.Problem}
			case errors.As(err, &file):
				err = refuse(file.Hint, "line %d: %s", file.Line, file.Problem)
			}
			if !yield(Imported{
				Line: k.Line, Serial: k.Serial, Key: k.Secret, Params: k.Params, First: k.First, Drift: k.Drift,
				NotBefore: k.NotBefore, NotAfter: k.NotAfter,
			}, err) {
				return
			}
		}
	}
}

// Import takes in the tokens of a file: all of them, or none. Those with a user
// are in service at once; the others are a batch, and go to stock once it is
// released (ReleaseBatch). The error is a *Refusal if the file, or a token in it,
// can't be taken: the report says how many.
func (v *Verifier) Import(ctx context.Context, by By, source iter.Seq2[Imported, error], o ImportOptions) (ImportReport, error) {
	i, err := v.newImport(ctx, by, o)
	if err != nil {
		return ImportReport{}, err
	}
	if !o.DryRun {
		if err := v.openBatch(ctx, &i.report.Batch); err != nil {
			return ImportReport{}, err
		}
	}
	if err = i.stage(ctx, source); err == nil {
		err = i.verdict()
	}
	if o.DryRun {
		return i.report, err
	}
	if err == nil {
		i.report.Receipt, err = i.commit(ctx)
	}
	// What was begun is ended, though the caller has gone.
	ctx = context.WithoutCancel(ctx)
	batch := i.report.Batch
	if err != nil {
		i.report.Batch = Batch{}
		return i.report, errors.Join(err, v.dropStaged(ctx, batch.ID))
	}
	if err := v.land(ctx, &i.report.Batch, o.Progress); err != nil {
		return i.report, err
	}
	return i.report, v.record(ctx, by, i.report.Receipt, i.report.Batch.imported(by))
}

// imported is the audit entry of a batch that has come in.
func (b Batch) imported(by By) audit.Entry {
	detail := fmt.Sprintf("%d tokens from %s as batch %s, %d of them for users", b.Tokens, b.File, b.ID, b.Tokens-b.Stock)
	return audit.Entry{Event: string(stepImport), Realm: b.Realm, Detail: by.andWhy(detail)}
}

// importing is one import under way.
type importing struct {
	*Verifier
	by          By
	options     ImportOptions
	realm       Realm // zero: any
	now         time.Time
	fingerprint func([]byte) string
	// seen holds a hash of each serial and key of the file: a few MiB for the
	// largest. That two of 500,000 clash by accident has odds of 10⁻⁸; one is
	// then refused as a duplicate.
	seen   map[uint64]struct{}
	users  map[uint64]int // tokens of the file by user, if the realm bounds them
	hash   maphash.Seed
	slice  []candidate
	report ImportReport
}

// candidate is a token of the file on its way.
type candidate struct {
	Imported
	problem string // found in the file alone
	before  int    // tokens of its user in the file so far, if the realm bounds them
	staged  stagedToken
}

// stagedToken is the record of a token that was put aside. Its key is sealed as
// it will be where it lands.
type stagedToken struct {
	Token       Token  `json:"token"`
	State       []byte `json:"state,omitempty"` // hot record, if it isn't the zero one
	Fingerprint string `json:"fingerprint"`
}

func stagedKey(serial string) string { return store.Key("staged", serial) }

func (v *Verifier) newImport(ctx context.Context, by By, o ImportOptions) (*importing, error) {
	if err := by.check(); err != nil {
		return nil, err
	}
	i := &importing{
		Verifier: v, by: by, options: o, now: v.Now(), hash: maphash.MakeSeed(), seen: map[uint64]struct{}{}, users: map[uint64]int{},
	}
	i.options.File = printable(o.File)
	if o.Realm != "" {
		realm, err := v.realm(o.Realm)
		if err != nil {
			return nil, err
		}
		i.realm = realm
	}
	i.report.Batch = Batch{V: 1, Realm: o.Realm, File: i.options.File, State: BatchImporting, By: by.Who, Imported: i.now}
	var err error
	i.fingerprint, err = v.fingerprinter(ctx)
	return i, err
}

// printable is name, cut between two characters where it is too long, without
// what could move a cursor.
func printable(name string) string {
	end := min(len(name), maxFileName)
	for end > 0 && end < len(name) && !utf8.RuneStart(name[end]) {
		end--
	}
	name = name[:end]
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsGraphic(r) {
			return '?'
		}
		return r
	}, name)
}

// verdict is a *Refusal if what was read can't be taken.
func (i *importing) verdict() error {
	switch r := i.report; {
	case r.Tokens == 0:
		return refuse("is it the right one?", "the file has no tokens")
	case r.Faults > 0:
		return refuse("take them out of the file, or put them right, and import it again",
			"%d of %d tokens can't be taken, so none was", r.Faults, r.Tokens)
	}
	return nil
}

// stage reads the file to its end.
func (i *importing) stage(ctx context.Context, source iter.Seq2[Imported, error]) error {
	defer i.tidy()
	for t, err := range source {
		var entry *EntryError
		c := candidate{Imported: t}
		if errors.As(err, &entry) {
			c.Line, c.Serial, c.problem = entry.Line, entry.Serial, entry.Problem
		} else if err != nil {
			return errors.Join(err, i.flush(ctx))
		}
		if i.report.Tokens++; i.report.Tokens > MaxImport {
			return refuse("split it", "the file has more than %d tokens", MaxImport)
		}
		if c.problem == "" {
			c.problem = i.prepare(&c)
		}
		if i.slice = append(i.slice, c); len(i.slice) == importSlice {
			if err := i.flush(ctx); err != nil {
				return err
			}
		}
	}
	return i.flush(ctx)
}

// tidy leaves what may be told of the tokens in the slice.
func (i *importing) tidy() {
	for n := range i.slice {
		c := &i.slice[n]
		clear(c.Key)
		c.Key = nil
		if CheckSerial(c.Serial) != nil {
			c.Serial = ""
		}
		if CheckUserName(c.User) != nil {
			c.User = ""
		}
	}
}

// prepare checks what the file alone can show, and makes the token, all but its
// sealed key.
func (i *importing) prepare(c *candidate) (problem string) {
	if problem := i.checkFile(c); problem != "" {
		return problem
	}
	c.staged.Fingerprint = i.fingerprint(c.Key)
	for _, taken := range []struct{ kind, value string }{{"serial", c.Serial}, {"secret", c.staged.Fingerprint}} {
		h := i.hashOf(taken.kind, taken.value)
		if _, twice := i.seen[h]; twice {
			return "its " + taken.kind + " is in the file already"
		}
		i.seen[h] = struct{}{}
	}
	t := Token{
		Serial: c.Serial, Realm: i.options.Realm, User: c.User, Carrier: i.options.Carrier, Params: c.Params,
		Batch: i.report.Batch.ID, Made: c.Made, NotAfter: c.NotAfter, Created: i.now,
	}
	to := InService
	if c.User == "" {
		to = InStock
		if t.Carrier == CarrierUnknown {
			t.Carrier = Hardware
		}
	} else {
		i.report.Users++
		if i.realm.TokensPerUser > 0 {
			h := i.hashOf("user", c.User)
			c.before = i.users[h]
			i.users[h]++
		}
	}
	if err := t.move(stepImport, to, i.now); err != nil {
		return err.Error()
	}
	c.staged.Token, c.staged.State = t, importedState(c.Imported, i.now)
	return ""
}

func (i *importing) hashOf(kind, value string) uint64 {
	return maphash.String(i.hash, store.Key(kind, value))
}

// importedState is the hot record that a token begins with; nil: none is needed.
func importedState(t Imported, now time.Time) []byte {
	if t.First == 0 && t.Drift == 0 {
		return nil
	}
	state := tokenState{Last: t.First - 1} // noStep if none was used
	if t.Drift != 0 {
		state.Clock = newClock(t.Params, t.Drift.Seconds(), now.Unix())
	}
	return encodeHot(state)
}

// checkFile checks one token by itself.
func (i *importing) checkFile(c *candidate) (problem string) {
	if err := CheckSerial(c.Serial); err != nil {
		return err.Error()
	}
	if err := c.Params.Check(); err != nil {
		return err.Error()
	}
	switch {
	case len(c.Key) < otp.MinKey || len(c.Key) > otp.MaxKey:
		return fmt.Sprintf("its secret has %d octets: it must have from %d to %d", len(c.Key), otp.MinKey, otp.MaxKey)
	case i.realm.ID != "" && c.Params.Digits != i.realm.OTP.Digits:
		return fmt.Sprintf("its codes have %d digits, and those in realm %s have %d", c.Params.Digits, i.realm.ID, i.realm.OTP.Digits)
	case !c.NotBefore.IsZero() && i.now.Before(c.NotBefore):
		return "it may not be used before " + c.NotBefore.Format(time.DateTime)
	case !c.NotAfter.IsZero() && i.now.After(c.NotAfter):
		return "it may not be used after " + c.NotAfter.Format(time.DateTime)
	case c.Params.Type == otp.HOTP && c.First > maxFirst:
		return fmt.Sprintf("its counter stands at %d, more than %d", c.First, maxFirst)
	case c.Params.Type == otp.TOTP && c.First > stepAt(c.Params, float64(i.now.Unix()+maxSearch)):
		return "its time lies in the future"
	case c.Made.After(i.now.AddDate(0, 0, 1)): // somewhere it is tomorrow
		return "it was made in the future"
	case c.User == "":
		return ""
	case i.realm.ID == "":
		return "it has a user, and the import no realm: give --realm"
	}
	if err := CheckUserName(c.User); err != nil {
		return err.Error()
	}
	return ""
}

// flush checks the slice against what is stored, puts it aside if all is well so
// far, and tells.
func (i *importing) flush(ctx context.Context) error {
	problems := make([]string, len(i.slice))
	check := func(r store.Reader) (err error) {
		for n, c := range i.slice {
			if problems[n] = c.problem; c.problem == "" {
				if problems[n], err = i.checkStored(r, c); err != nil {
					return err
				}
			}
		}
		return nil
	}
	var err error
	if i.options.DryRun || i.report.Faults > 0 {
		err = i.Records.View(ctx, check)
	} else {
		err = i.Records.Update(ctx, func(tx store.Txn) error {
			if err := check(tx); err != nil {
				return err
			}
			return i.put(tx, problems)
		})
	}
	if err != nil {
		return err
	}
	i.tidy()
	for n, c := range i.slice {
		if problems[n] != "" {
			i.report.Faults++
		}
		if err := i.options.Each(c.Imported, problems[n]); err != nil {
			return err
		}
	}
	i.slice = i.slice[:0]
	return nil
}

// checkStored says what there is already that is in a token's way.
func (i *importing) checkStored(r store.Reader, c candidate) (problem string, err error) {
	if taken, err := serialTaken(r, c.Serial); taken || err != nil {
		return fmt.Sprintf("there is a token %s already", c.Serial), err
	}
	owner, err := r.Get(fingerprintKey(c.staged.Fingerprint))
	if owner != nil || err != nil {
		return fmt.Sprintf("its secret is, or was, that of token %s", owner), err
	}
	limit := i.realm.TokensPerUser
	if c.User == "" || limit == 0 {
		return "", nil
	}
	live, err := liveTokens(r, i.realm.ID, c.User, i.now)
	if has := len(live) + c.before; has >= limit {
		problem = fmt.Sprintf("%s@%s has %d with those of the file, and realm %s allows %d (tokens_per_user)", c.User, i.realm.ID, has, i.realm.ID, limit)
	}
	return problem, err
}

// serialTaken says whether a token, or one that is being imported, has serial.
func serialTaken(r store.Reader, serial string) (bool, error) {
	for _, key := range []string{tokenKey(serial), stagedKey(serial)} {
		if b, err := r.Get(key); b != nil || err != nil {
			return true, err
		}
	}
	return false, nil
}

// put puts the slice aside. Keys are sealed here and not when they are read: a
// file may come slowly, and what was sealed long ago a rotation of keys no longer
// waits for.
func (i *importing) put(tx store.Txn, problems []string) error {
	for n, c := range i.slice {
		if problems[n] != "" {
			return nil // nothing of the file will be taken
		}
		if err := claimKey(tx, c.staged.Fingerprint, c.Serial); err != nil {
			return err
		}
		i.sealKey(&c.staged.Token, c.Key)
		if err := putJSON(tx, stagedKey(c.Serial), c.staged); err != nil {
			return err
		}
	}
	return nil
}

// commit is the moment from which the batch is in.
func (i *importing) commit(ctx context.Context) (receipt Receipt, err error) {
	b := &i.report.Batch
	b.State, b.Tokens, b.Stock = batchLanding, i.report.Tokens, i.report.Tokens-i.report.Users
	err = i.Records.Update(ctx, func(tx store.Txn) error {
		if receipt, err = nextReceipt(tx, i.now); err != nil {
			return err
		}
		b.Receipt = receipt.Number
		return putJSON(tx, batchKey(b.ID), b)
	})
	return receipt, err
}

// land brings what was staged to where it belongs, and b to its next state.
func (v *Verifier) land(ctx context.Context, b *Batch, progress func(landed, tokens int)) error {
	for landed := 0; ; {
		n := 0
		err := v.Records.Update(ctx, func(tx store.Txn) error {
			staged, err := someStaged(tx)
			if err != nil {
				return err
			}
			for _, s := range staged {
				if err := v.landOne(tx, s); err != nil {
					return err
				}
			}
			n = len(staged)
			if n > 0 {
				return nil
			}
			if b.State = BatchChecking; b.Stock == 0 { // nothing is waiting to be given out
				b.State = BatchReleased
			}
			return putJSON(tx, batchKey(b.ID), b)
		})
		if err != nil || n == 0 {
			return err
		}
		landed += n
		progress(landed, b.Tokens)
	}
}

// someStaged returns the next slice of what is staged.
func someStaged(r store.Reader) (staged []stagedToken, err error) {
	err = r.Scan(store.Prefix("staged"), func(key string, value []byte) error {
		var s stagedToken
		if err := decodeJSON(key, value, &s); err != nil {
			return fmt.Errorf("%w: %w", errStuck, err)
		}
		if key != stagedKey(s.Token.Serial) { // it would stay, and come again
			return fmt.Errorf("%w: record %q is that of token %q", errStuck, key, s.Token.Serial)
		}
		if staged = append(staged, s); len(staged) == importSlice {
			return store.ErrStopScan
		}
		return nil
	})
	return staged, err
}

// landOne brings one token to where it belongs. A clerk may have given its user
// another token since it was staged: it lands all the same.
func (v *Verifier) landOne(tx store.Txn, s stagedToken) error {
	t := s.Token
	// Sealed anew, it can't be missed by a rotation of keys that has been here.
	key, err := v.openKey(&t)
	if err != nil {
		return fmt.Errorf("%w: %w", errStuck, err)
	}
	v.sealKey(&t, key)
	clear(key)
	if t.User != "" {
		if err := receiveImported(tx, t); err != nil {
			return err
		}
	}
	if s.State != nil {
		if err := tx.Put(tokenStateKey(t.Serial), s.State); err != nil {
			return err
		}
	}
	if err := putToken(tx, t); err != nil {
		return err
	}
	return tx.Delete(stagedKey(t.Serial))
}

// receiveImported makes t's user if there is none, and t theirs.
func receiveImported(tx store.Txn, t Token) error {
	u := User{V: 1, Realm: t.Realm, Name: t.User, Created: t.Created}
	if _, err := getJSON(tx, userKey(t.Realm, t.User), &u); err != nil {
		return err
	}
	u.Applied, u.Form = time.Time{}, "" // what was applied for is here
	if err := putJSON(tx, userKey(t.Realm, t.User), u); err != nil {
		return err
	}
	return tx.Put(userTokenKey(t.Realm, t.User, t.Serial), userTokenMark)
}

// dropStaged undoes what an import has staged, and forgets its batch.
func (v *Verifier) dropStaged(ctx context.Context, batch string) error {
	for left := true; left; {
		err := v.Records.Update(ctx, func(tx store.Txn) error {
			staged, err := someStaged(tx)
			if err != nil {
				return err
			}
			if left = len(staged) > 0; !left {
				return tx.Delete(batchKey(batch))
			}
			for _, s := range staged {
				if err := errors.Join(tx.Delete(fingerprintKey(s.Fingerprint)), tx.Delete(stagedKey(s.Token.Serial))); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("undoing the import: %w", err)
		}
	}
	return nil
}

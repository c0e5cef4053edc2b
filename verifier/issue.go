package verifier

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"time"

	"otpgate/internal/audit"
	"otpgate/internal/store"
	"otpgate/verifier/otp"
)

// NewToken says what token to make.
type NewToken struct {
	Realm, User string
	Serial      string // "": one is made
	Params      otp.Params
	Key         []byte // nil: one is made
	Carrier     Carrier
	InService   bool // skip the first code of its holder
}

// CreateToken makes a token for an existing user and returns it with its key in
// clear, for the one time that it can be shown. The error is a *Refusal if the
// request can't be met.
func (v *Verifier) CreateToken(ctx context.Context, by By, n NewToken) (Token, []byte, Receipt, error) {
	realm, err := v.realm(n.Realm)
	if err != nil {
		return Token{}, nil, Receipt{}, err
	}
	software := n.software()
	if err := n.complete(); err != nil {
		return Token{}, nil, Receipt{}, err
	}
	fingerprint, err := v.fingerprinter(ctx)
	if err != nil {
		return Token{}, nil, Receipt{}, err
	}
	var t Token
	receipt, err := v.do(ctx, by, func(tx store.Txn, now time.Time) (audit.Entry, error) {
		var err error
		if t, err = v.create(tx, realm, n, fingerprint, software, now); err != nil {
			return audit.Entry{}, err
		}
		return stepCreate.on(t, by.andWhy(t.State.words())), nil
	})
	if err != nil {
		return Token{}, nil, receipt, err
	}
	return t, n.Key, receipt, nil
}

// Assign gives a token in stock to an existing user: it goes there by post. The
// error is a *Refusal if it can't be theirs.
func (v *Verifier) Assign(ctx context.Context, by By, serial, realm, user string) (Token, Receipt, error) {
	rl, err := v.realm(realm)
	if err != nil {
		return Token{}, Receipt{}, err
	}
	var t Token
	receipt, err := v.do(ctx, by, func(tx store.Txn, now time.Time) (audit.Entry, error) {
		var err error
		if t, err = v.assign(tx, rl, serial, user, now); err != nil {
			return audit.Entry{}, err
		}
		return stepAssign.on(t, by.Reason), nil
	})
	return t, receipt, err
}

// Reissue replaces a user's token by next, a hardware token in stock, or by a
// new software token if next is "". The old one is released; a lost one stays
// lost, so that its use is still seen. It returns the new token, and its key in
// clear if it was made. Both entries in the audit log carry the receipt.
func (v *Verifier) Reissue(ctx context.Context, by By, serial, next string) (Token, []byte, Receipt, error) {
	if err := by.because(stepReissue); err != nil {
		return Token{}, nil, Receipt{}, err
	}
	seen, err := v.Token(ctx, serial)
	if err != nil {
		return Token{}, nil, Receipt{}, err
	}
	heir, err := v.successor(ctx, seen.Token, next)
	if err != nil {
		return Token{}, nil, Receipt{}, err
	}
	var made Token
	receipt, err := v.do(ctx, by, func(tx store.Txn, now time.Time) (entry audit.Entry, err error) {
		old, err := readToken(tx, serial)
		if err != nil {
			return entry, err
		}
		if err := old.replace(tx, by, now); err != nil {
			return entry, err
		}
		if made, err = heir.write(tx, now); err != nil {
			return entry, err
		}
		return stepReissue.on(old, by.andWhy("replaced by "+made.Serial)), nil
	})
	if err == nil {
		err = v.record(ctx, by, receipt, heir.step.on(made, by.andWhy("in place of "+serial)))
	}
	if err != nil {
		return Token{}, nil, receipt, err
	}
	return made, heir.key, receipt, nil
}

// ShowKey returns an issued token with its key in clear once more, for a holder
// who could not read it the first time. Once a token is started, and of a
// hardware token, no key is shown.
func (v *Verifier) ShowKey(ctx context.Context, by By, serial string) (Token, []byte, Receipt, error) {
	var t Token
	var key []byte
	receipt, err := v.do(ctx, by, func(tx store.Txn, _ time.Time) (entry audit.Entry, err error) {
		if t, err = readToken(tx, serial); err != nil {
			return entry, err
		}
		if err := checkStep(stepShowKey, t); err != nil {
			return entry, err
		}
		if t.hardware() {
			return entry, refuse("its maker put the key in; otpgate token reissue replaces it", "token %s is a hardware token", serial)
		}
		if key, err = v.openKey(&t); err != nil {
			return entry, err
		}
		return stepShowKey.on(t, by.andWhy("the key was shown again")), nil
	})
	if err != nil {
		return Token{}, nil, receipt, err
	}
	return t, key, receipt, nil
}

// successor is the token that comes in place of another.
type successor struct {
	step  step
	key   []byte // in clear, if it is made
	write func(store.Txn, time.Time) (Token, error)
}

// successor prepares what replaces old.
func (v *Verifier) successor(ctx context.Context, old Token, next string) (successor, error) {
	if err := checkStep(stepReissue, old); err != nil {
		return successor{}, err
	}
	realm, err := v.realm(old.Realm)
	if err != nil {
		return successor{}, err
	}
	if next != "" {
		return successor{step: stepAssign, write: func(tx store.Txn, now time.Time) (Token, error) {
			return v.assign(tx, realm, next, old.User, now)
		}}, nil
	}
	if old.hardware() {
		return successor{}, refuse("name a token in stock with --to", "token %s is a hardware token", old.Serial)
	}
	n := NewToken{Realm: old.Realm, User: old.User, Params: realm.OTP, Carrier: old.Carrier}
	if err := n.complete(); err != nil {
		return successor{}, err
	}
	fingerprint, err := v.fingerprinter(ctx)
	if err != nil {
		return successor{}, err
	}
	return successor{step: stepCreate, key: n.Key, write: func(tx store.Txn, now time.Time) (Token, error) {
		return v.create(tx, realm, n, fingerprint, true, now)
	}}, nil
}

// software says whether the key goes to an app: so it was said, or it isn't
// said and the key is made here and shown on a screen.
func (n NewToken) software() bool {
	return n.Carrier == Software || n.Carrier == CarrierUnknown && n.Key == nil
}

// hardware says whether the key came with the token.
func (t Token) hardware() bool { return t.Carrier == Hardware || t.Batch != "" }

// complete checks n and makes the serial and the key if they are to be made.
func (n *NewToken) complete() error {
	if err := n.Params.Check(); err != nil {
		return refuse("", "%s", err)
	}
	if n.Key == nil {
		n.Key = make([]byte, keySize(n.Params.Algorithm))
		_, _ = rand.Read(n.Key) // crypto/rand.Read never fails
	}
	if len(n.Key) < otp.MinKey || len(n.Key) > otp.MaxKey {
		return refuse("", "the secret has %d octets: it must have from %d to %d", len(n.Key), otp.MinKey, otp.MaxKey)
	}
	if n.Serial == "" {
		n.Serial = newSerial()
	}
	return CheckSerial(n.Serial)
}

// create writes the token that n asks for.
func (v *Verifier) create(tx store.Txn, realm Realm, n NewToken, fingerprint func([]byte) string, software bool, now time.Time) (Token, error) {
	if taken, err := serialTaken(tx, n.Serial); err != nil {
		return Token{}, err
	} else if taken {
		return Token{}, refuse("choose another serial", "there is a token %s already", n.Serial)
	}
	if err := claimKey(tx, fingerprint(n.Key), n.Serial); err != nil {
		return Token{}, err
	}
	t := Token{Serial: n.Serial, Realm: n.Realm, User: n.User, Carrier: n.Carrier, Params: n.Params, Created: now}
	v.sealKey(&t, n.Key)
	to := Issued
	if n.InService {
		to = InService
	}
	if err := t.move(stepCreate, to, now); err != nil {
		return Token{}, err
	}
	return t, give(tx, realm, t, software, now)
}

// assign takes the token from stock for user.
func (v *Verifier) assign(tx store.Txn, realm Realm, serial, user string, now time.Time) (Token, error) {
	t, err := readToken(tx, serial)
	if err != nil {
		return t, err
	}
	if err := t.move(stepAssign, Assigned, now); err != nil {
		return t, err
	}
	if released, err := batchReleased(tx, t.Batch); err != nil {
		return t, err
	} else if !released {
		return t, refuse("otpgate batch check and release come first", "token %s is in batch %s, which isn't released yet", serial, t.Batch)
	}
	if t.Realm != "" && t.Realm != realm.ID {
		return t, refuse("take one of the realm's own stock", "token %s was imported for realm %s", serial, t.Realm)
	}
	key, err := v.openKey(&t)
	if err != nil {
		return t, err
	}
	t.Realm, t.User = realm.ID, user
	v.sealKey(&t, key)
	clear(key)
	return t, give(tx, realm, t, false, now)
}

// replace ends t, which is reissued.
func (t *Token) replace(tx store.Txn, by By, now time.Time) error {
	to := Released
	if t.State == Lost {
		to = Lost
	}
	if err := t.move(stepReissue, to, now); err != nil {
		return err
	}
	if to == Released {
		t.Reason = by.Reason
	}
	return putToken(tx, *t)
}

// give writes t as its user's, who must exist and may have one more by the
// realm's policy. software says that its key is issued to an app now.
func give(tx store.Txn, realm Realm, t Token, software bool, now time.Time) error {
	if t.Params.Digits != realm.OTP.Digits { // the pages ask for so many
		return refuse("choose a token with as many, or change the realm's in gateway.yaml",
			"codes in realm %s have %d digits", realm.ID, realm.OTP.Digits)
	}
	u, err := readUser(tx, realm.ID, t.User)
	if err != nil {
		return err
	}
	live, err := liveTokens(tx, realm.ID, t.User, now)
	if err != nil {
		return err
	}
	if err := realm.room(u, live); err != nil {
		return err
	}
	if software {
		if err := realm.cooledDown(u, live, now); err != nil {
			return err
		}
		u.SoftwareIssued = now
	}
	u.Applied, u.Form = time.Time{}, "" // what was applied for is here
	if err := putJSON(tx, userKey(u.Realm, u.Name), u); err != nil {
		return err
	}
	if err := tx.Put(userTokenKey(t.Realm, t.User, t.Serial), userTokenMark); err != nil {
		return err
	}
	return putToken(tx, t)
}

// liveTokens are the tokens that a user has.
func liveTokens(r store.Reader, realm, user string, now time.Time) ([]Token, error) {
	serials, err := serialsOf(r, realm, user)
	if err != nil {
		return nil, err
	}
	var live []Token
	for _, serial := range serials {
		t, err := readToken(r, serial)
		if err != nil {
			return nil, err
		}
		if t.stateAt(now).live() {
			live = append(live, t)
		}
	}
	return live, nil
}

// room returns a *Refusal if the user can't have one more token.
func (r Realm) room(u User, live []Token) error {
	if r.TokensPerUser == 0 || len(live) < r.TokensPerUser {
		return nil
	}
	t := live[0]
	return refuse("otpgate token reissue replaces it; otpgate token release ends it",
		"%s@%s has token %s already, which is %s; realm %s allows %d for each user (tokens_per_user)",
		u.Name, u.Realm, t.Serial, t.State.words(), r.ID, r.TokensPerUser)
}

// cooledDown returns a *Refusal if a software token was issued to the user so
// short a time ago that another in its place must wait. A second one beside one
// that is still there is no reissue: that is for TokensPerUser to allow.
func (r Realm) cooledDown(u User, live []Token, now time.Time) error {
	for _, t := range live {
		if !t.hardware() {
			return nil
		}
	}
	until := u.SoftwareIssued.Add(r.ReissueCooldown)
	if u.SoftwareIssued.IsZero() || !now.Before(until) || u.SoftwareIssued.After(now) { // the last: our clock was ahead then
		return nil
	}
	return refuse("wait until then; reissue_cooldown in gateway.yaml is the policy",
		"%s@%s was issued a software token at %s; the next one can be issued from %s", u.Name, u.Realm,
		u.SoftwareIssued.In(now.Location()).Format(time.DateTime), until.In(now.Location()).Format(time.DateTime+" MST"))
}

// keySize is the size of the keys that we make, in octets: the size of the
// hash (RFC 6238 Appendix B; RFC 4226 §4 R6 recommends 160 bits).
func keySize(a otp.Algorithm) int {
	switch a {
	case otp.SHA256:
		return 32
	case otp.SHA512:
		return 64
	case otp.SHA1:
	}
	return 20
}

// newSerial makes a serial of 50 random bits; a clash with an existing one is
// refused where it is stored. The alphabet leaves out what people misread.
func newSerial() string {
	var b [7]byte
	_, _ = rand.Read(b[:])
	return "SW" + base32.NewEncoding("23456789ABCDEFGHJKLMNPQRSTUVWXYZ").WithPadding(base32.NoPadding).EncodeToString(b[:])[:10]
}

package verifier

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"otpgate/internal/audit"
	"otpgate/internal/store"
	"otpgate/verifier/otp"
	"slices"
	"time"
)

// step is one change of a token's state. Its value is the audit event.
type step string

const (
	stepStart   step = "token.start"
	stepSuspend step = "token.suspend"
	stepResume  step = "token.resume"
	stepRelease step = "token.release"
)

// steps says which step is allowed in which states. Where it leads is the
// step's own business: resuming goes back to where the token was.
var steps = map[step][]TokenState{
	stepStart:   {Issued},
	stepSuspend: {Issued, InService},
	stepResume:  {TokenSuspended},
	stepRelease: {Issued, InService, TokenSuspended},
}

// hints say how to go on when a step isn't allowed in a state.
var hints = map[TokenState]string{
	Issued:         "its holder starts it with a code first",
	InService:      "it is in service already",
	TokenSuspended: "resume or release it first",
	Released:       "its key is destroyed; create a new token",
}

func checkStep(s step, t Token) error {
	if slices.Contains(steps[s], t.State) {
		return nil
	}
	return refuse(hints[t.State], "token %s is %s", t.Serial, t.State)
}

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
// clear, for the one time that it can be shown. by is who asked, for the audit
// log. The error is a *Refusal if the request can't be met.
func (v *Verifier) CreateToken(ctx context.Context, by string, n NewToken) (Token, []byte, error) {
	realm, err := v.realm(n.Realm)
	if err != nil {
		return Token{}, nil, err
	}
	if err := checkNewToken(realm, &n); err != nil {
		return Token{}, nil, err
	}
	now := v.Now()
	t := Token{
		V: 1, Serial: n.Serial, Realm: n.Realm, User: n.User, State: Issued, Carrier: n.Carrier, Params: n.Params,
		Key: v.Seal.Seal(tokenKey(n.Serial), purposeTokenKey, n.Key), Created: now, Changed: now,
	}
	if n.InService {
		t.State = InService
	}
	err = v.Records.Update(ctx, func(tx store.Txn) error {
		if found, err := tx.Get(userKey(n.Realm, n.User)); err != nil {
			return err
		} else if found == nil {
			return noUser(n.Realm, n.User)
		}
		if found, err := tx.Get(tokenKey(n.Serial)); err != nil {
			return err
		} else if found != nil {
			return refuse("choose another serial", "there is a token %s already", n.Serial)
		}
		if err := tx.Put(userTokenKey(n.Realm, n.User, n.Serial), userTokenMark); err != nil {
			return err
		}
		return putJSON(tx, tokenKey(n.Serial), t)
	})
	if err != nil {
		return Token{}, nil, err
	}
	return t, n.Key, v.record(ctx, "token.create", by, t, string(t.State))
}

// checkNewToken checks n and fills in the serial and the key if they are to be
// made.
func checkNewToken(realm Realm, n *NewToken) error {
	if n.Params.Type != otp.TOTP {
		return refuse("use totp", "tokens of type %q are not supported", n.Params.Type)
	}
	if err := n.Params.Check(); err != nil {
		return refuse("", "%s", err)
	}
	if n.Params.Digits != realm.OTP.Digits {
		return refuse("leave digits out, or change the realm's in gateway.yaml",
			"codes in realm %s have %d digits", realm.ID, realm.OTP.Digits)
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

// Start puts an issued token in service: its holder has shown a code. A wrong
// code counts like any other. The error is a *Refusal if the token can't be
// started, else an ErrNoDecision.
func (v *Verifier) Start(ctx context.Context, by, serial string, code Match) (Result, error) {
	t, err := v.Token(ctx, serial)
	if err != nil {
		return Result{}, err
	}
	if err := checkStep(stepStart, t.Token); err != nil {
		return Result{}, err
	}
	return v.pass(ctx, Attempt{Realm: t.Realm, User: t.User, Match: code, Door: "admin", Client: by}, passage{
		event:    string(stepStart),
		eligible: func(t Token) bool { return t.Serial == serial && checkStep(stepStart, t) == nil },
		granted: func(tx store.Txn, t Token, now time.Time) error {
			t.State, t.Changed = InService, now
			return putJSON(tx, tokenKey(serial), t)
		},
	})
}

// Suspend takes a token out of use until it is resumed.
func (v *Verifier) Suspend(ctx context.Context, by, serial, reason string) (Token, error) {
	return v.change(ctx, stepSuspend, by, serial, reason, func(tx store.Txn, t *Token) error {
		t.Before, t.State = t.State, TokenSuspended
		return nil
	})
}

// Resume takes a suspended token back to where it was, and opens a lock that
// wrong codes have set on it and its user: suspend and resume by a clerk is
// the way out of a lock.
func (v *Verifier) Resume(ctx context.Context, by, serial, reason string) (Token, error) {
	return v.change(ctx, stepResume, by, serial, reason, func(tx store.Txn, t *Token) error {
		t.Before, t.State = "", t.Before
		if err := openLock(tx, t.Serial); err != nil {
			return err
		}
		return tx.Put(userStateKey(t.Realm, t.User), userState{}.encode())
	})
}

// Release ends a token for good and destroys its key.
func (v *Verifier) Release(ctx context.Context, by, serial, reason string) (Token, error) {
	return v.change(ctx, stepRelease, by, serial, reason, func(tx store.Txn, t *Token) error {
		t.Before, t.State, t.Key = "", Released, nil
		return nil
	})
}

// change makes one step in a token's life and writes it to the audit log.
func (v *Verifier) change(ctx context.Context, s step, by, serial, reason string, apply func(store.Txn, *Token) error) (Token, error) {
	if reason == "" {
		return Token{}, refuse("give --reason", "%s needs a reason", s)
	}
	var t Token
	err := v.Records.Update(ctx, func(tx store.Txn) error {
		var err error
		if t, err = readToken(tx, serial); err != nil {
			return err
		}
		if err := checkStep(s, t); err != nil {
			return err
		}
		if err := apply(tx, &t); err != nil {
			return err
		}
		t.Reason, t.Changed = reason, v.Now()
		return putJSON(tx, tokenKey(serial), t)
	})
	if err != nil {
		return Token{}, err
	}
	return t, v.record(ctx, string(s), by, t, reason)
}

// openLock clears a token's count of wrong codes and the lock. The last step
// stays: it never falls.
func openLock(tx store.Txn, serial string) error {
	state, err := readTokenState(tx, serial)
	if err != nil {
		return err
	}
	state.counter = counter{}
	return tx.Put(tokenStateKey(serial), state.encode())
}

// Token returns what is known of a token, its key still sealed. A *Refusal if
// there is none.
func (v *Verifier) Token(ctx context.Context, serial string) (info TokenInfo, err error) {
	err = v.Records.View(ctx, func(r store.Reader) error {
		t, err := readToken(r, serial)
		if err != nil {
			return err
		}
		info, err = readTokenInfo(r, v.Realms[t.Realm], t, v.Now())
		return err
	})
	return info, err
}

// Tokens calls fn for each token, by serial, until fn returns an error.
func (v *Verifier) Tokens(ctx context.Context, fn func(TokenInfo) error) error {
	now := v.Now()
	return v.Records.View(ctx, func(r store.Reader) error {
		return r.Scan(store.Prefix("token"), func(key string, _ []byte) error {
			var t Token
			if _, err := getJSON(r, key, &t); err != nil {
				return err
			}
			info, err := readTokenInfo(r, v.Realms[t.Realm], t, now)
			if err != nil {
				return err
			}
			return fn(info)
		})
	})
}

func readToken(r store.Reader, serial string) (Token, error) {
	var t Token
	if err := CheckSerial(serial); err != nil {
		return t, err
	}
	found, err := getJSON(r, tokenKey(serial), &t)
	if err == nil && !found {
		err = refuse("otpgate token list shows the serials", "there is no token %s", serial)
	}
	return t, err
}

// record writes a step by an operator to the audit log.
func (v *Verifier) record(ctx context.Context, event, by string, t Token, detail string) error {
	err := v.Audit.Append(context.WithoutCancel(ctx), audit.Entry{
		Event: event, Outcome: "done", Realm: t.Realm, User: t.User, Serial: t.Serial, Door: "admin", Client: by, Detail: detail,
	})
	if err != nil {
		return fmt.Errorf("done, but not in the audit log: %w", errors.Join(ErrNoDecision, err))
	}
	return nil
}

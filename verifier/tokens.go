package verifier

import (
	"context"
	"fmt"
	"slices"
	"time"

	"otpgate/internal/store"
)

// TokenInfo is a token with what the gate has learnt at its tries.
type TokenInfo struct {
	Token
	Failures int
	LockedAt time.Time
	UsedAt   time.Time // last acceptance; zero: never
	TriedAt  time.Time // when it last showed a right code that was refused, since it was lost or suspended; zero: never
}

// TokenFilter says which tokens are meant. Its zero value means all.
type TokenFilter struct {
	Realm string
	User  string // within Realm
	State TokenState
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

// Tokens calls fn for each token that f means, by serial, until fn returns an
// error. A *Refusal if there can be no such token.
func (v *Verifier) Tokens(ctx context.Context, f TokenFilter, fn func(TokenInfo) error) error {
	if f.Realm != "" {
		if _, err := v.realm(f.Realm); err != nil {
			return err
		}
	}
	if f.State != "" && !slices.Contains(tokenStates, f.State) {
		return refuse(fmt.Sprintf("the states are %s", tokenStates), "there is no state %.70q", string(f.State))
	}
	now := v.Now()
	show := func(r store.Reader, t Token) error {
		if f.Realm != "" && t.Realm != f.Realm || f.State != "" && t.State != f.State {
			return nil
		}
		info, err := readTokenInfo(r, v.Realms[t.Realm], t, now)
		if err != nil {
			return err
		}
		return fn(info)
	}
	return v.Records.View(ctx, func(r store.Reader) error {
		if f.User == "" {
			return r.Scan(store.Prefix("token"), func(key string, value []byte) error {
				var t Token
				if err := decodeJSON(key, value, &t); err != nil {
					return err
				}
				return show(r, t)
			})
		}
		if _, err := readUser(r, f.Realm, f.User); err != nil {
			return err
		}
		serials, err := serialsOf(r, f.Realm, f.User)
		if err != nil {
			return err
		}
		for _, serial := range serials {
			t, err := readToken(r, serial)
			if err != nil {
				return err
			}
			if err := show(r, t); err != nil {
				return err
			}
		}
		return nil
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

func readTokenInfo(r store.Reader, realm Realm, t Token, now time.Time) (TokenInfo, error) {
	info := TokenInfo{Token: t}
	info.State = t.stateAt(now)
	state, err := readTokenState(r, t.Serial)
	info.Failures, info.LockedAt = state.Row.afterTime(realm.Lockout, now).shown()
	info.UsedAt, info.TriedAt = unixTime(state.UsedAt), unixTime(state.TriedAt)
	return info, err
}

func (c counter) shown() (failures int, lockedAt time.Time) {
	return int(c.Failures), unixTime(c.LockedAt)
}

// unixTime is the time of unix seconds, zero for 0.
func unixTime(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0).UTC()
}

package verifier

import (
	"context"
	"errors"
	"otpgate/internal/store"
	"time"
)

// AddUser makes a user. by is who asked, for the audit log. A *Refusal if the
// name can't be one or exists.
func (v *Verifier) AddUser(ctx context.Context, by, realm, name string) (User, error) {
	if _, err := v.realm(realm); err != nil {
		return User{}, err
	}
	if err := CheckUserName(name); err != nil {
		return User{}, err
	}
	u := User{V: 1, Realm: realm, Name: name, Created: v.Now()}
	err := v.Records.Update(ctx, func(tx store.Txn) error {
		found, err := tx.Get(userKey(realm, name))
		if err != nil {
			return err
		}
		if found != nil {
			return refuse("otpgate user show tells more", "%s@%s exists already", name, realm)
		}
		return putJSON(tx, userKey(realm, name), u)
	})
	if err != nil {
		return User{}, err
	}
	return u, v.record(ctx, "user.add", by, Token{Realm: realm, User: name}, "")
}

// Users calls fn for each user of a realm, by name, until fn returns an error;
// of every realm if realm is "".
func (v *Verifier) Users(ctx context.Context, realm string, fn func(User) error) error {
	prefix := store.Prefix("user")
	if realm != "" {
		if _, err := v.realm(realm); err != nil {
			return err
		}
		prefix = store.Prefix("user", realm)
	}
	return v.Records.View(ctx, func(r store.Reader) error {
		return r.Scan(prefix, func(key string, _ []byte) error {
			var u User
			if _, err := getJSON(r, key, &u); err != nil {
				return err
			}
			return fn(u)
		})
	})
}

// Account is a user with all that the gate knows of them.
type Account struct {
	User
	Service  ServiceState
	Failures int       // wrong codes in a row
	LockedAt time.Time // zero: not locked
	Tokens   []TokenInfo
}

// TokenInfo is a token with what the gate has learnt at its tries.
type TokenInfo struct {
	Token
	Failures int
	LockedAt time.Time
	UsedAt   time.Time // last acceptance; zero: never
}

// Account returns a user's account as it stands now. A *Refusal if there is no
// such user.
func (v *Verifier) Account(ctx context.Context, realm, name string) (Account, error) {
	rl, err := v.realm(realm)
	if err != nil {
		return Account{}, err
	}
	var a Account
	err = v.Records.View(ctx, func(r store.Reader) (err error) {
		a, err = readAccount(r, rl, name, v.Now())
		return err
	})
	return a, err
}

// State returns what a portal may know of a user. A user who doesn't exist has
// ServiceNone.
func (v *Verifier) State(ctx context.Context, realm, name string) (ServiceState, error) {
	a, err := v.Account(ctx, realm, name)
	if refusal := (*Refusal)(nil); errors.As(err, &refusal) {
		return ServiceNone, nil
	}
	return a.Service, err
}

// UnlockUser opens the lock that wrong codes have set on a user and on the
// user's tokens.
func (v *Verifier) UnlockUser(ctx context.Context, by, realm, name, reason string) error {
	if _, err := v.realm(realm); err != nil {
		return err
	}
	err := v.Records.Update(ctx, func(tx store.Txn) error {
		found, err := tx.Get(userKey(realm, name))
		if err != nil {
			return err
		}
		if found == nil {
			return noUser(realm, name)
		}
		serials, err := serialsOf(tx, realm, name)
		if err != nil {
			return err
		}
		for _, serial := range serials {
			if err := openLock(tx, serial); err != nil {
				return err
			}
		}
		return tx.Put(userStateKey(realm, name), userState{}.encode())
	})
	if err != nil {
		return err
	}
	return v.record(ctx, "user.unlock", by, Token{Realm: realm, User: name}, reason)
}

func readAccount(r store.Reader, realm Realm, name string, now time.Time) (Account, error) {
	var a Account
	found, err := getJSON(r, userKey(realm.ID, name), &a.User)
	if err != nil {
		return a, err
	}
	if !found {
		return a, noUser(realm.ID, name)
	}
	user, err := readUserState(r, realm.ID, name)
	if err != nil {
		return a, err
	}
	a.Failures, a.LockedAt = user.afterTime(realm.Lockout, now).shown()
	serials, err := serialsOf(r, realm.ID, name)
	if err != nil {
		return a, err
	}
	for _, serial := range serials {
		t, err := readToken(r, serial)
		if err != nil {
			return a, err
		}
		info, err := readTokenInfo(r, realm, t, now)
		if err != nil {
			return a, err
		}
		a.Tokens = append(a.Tokens, info)
	}
	a.Service = a.service()
	return a, nil
}

func readTokenInfo(r store.Reader, realm Realm, t Token, now time.Time) (TokenInfo, error) {
	info := TokenInfo{Token: t}
	state, err := readTokenState(r, t.Serial)
	info.Failures, info.LockedAt = state.afterTime(realm.Lockout, now).shown()
	info.UsedAt = unixTime(state.usedAt)
	return info, err
}

// service sums the tokens up: the best of them counts.
func (a Account) service() ServiceState {
	best := ServiceNone
	rank := map[ServiceState]int{ServiceReleased: 1, ServiceSuspended: 2, ServiceIssued: 3, ServiceLocked: 4, ServiceInService: 5}
	for _, t := range a.Tokens {
		s := ServiceState(t.State)
		if t.State == InService && (!t.LockedAt.IsZero() || !a.LockedAt.IsZero()) {
			s = ServiceLocked
		}
		if rank[s] > rank[best] {
			best = s
		}
	}
	return best
}

func (c counter) shown() (failures int, lockedAt time.Time) { return c.failures, unixTime(c.lockedAt) }

// unixTime is the time of unix seconds, zero for 0.
func unixTime(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0).UTC()
}

func noUser(realm, name string) error {
	return refuse("otpgate user add makes one", "there is no user %s@%s", name, realm)
}

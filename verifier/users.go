package verifier

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"otpgate/internal/audit"
	"otpgate/internal/store"
)

// AddUser makes a user. A *Refusal if the name can't be one or exists.
func (v *Verifier) AddUser(ctx context.Context, by By, realm, name string) (User, Receipt, error) {
	if err := v.checkUser(realm, name); err != nil {
		return User{}, Receipt{}, err
	}
	if err := v.Realms[realm].checkNewUser(name); err != nil {
		return User{}, Receipt{}, err
	}
	var u User
	receipt, err := v.do(ctx, by, func(tx store.Txn, now time.Time) (audit.Entry, error) {
		found, err := tx.Get(userKey(realm, name))
		if err != nil {
			return audit.Entry{}, err
		}
		if found != nil {
			return audit.Entry{}, refuse("otpgate user show tells more", "%s@%s exists already", name, realm)
		}
		u = User{V: 1, Realm: realm, Name: name, Created: now}
		return stepAddUser.onUser(u, by.Reason), putJSON(tx, userKey(realm, name), u)
	})
	return u, receipt, err
}

// Apply registers a customer's paper form (申込済) until a token is issued or
// assigned. It makes the user if there is none. A *Refusal if the user has
// applied already, or may have no more tokens.
func (v *Verifier) Apply(ctx context.Context, by By, realm, name string) (User, Receipt, error) {
	if err := v.checkUser(realm, name); err != nil {
		return User{}, Receipt{}, err
	}
	if by.Form == "" {
		return User{}, Receipt{}, refuse("give --form", "to apply needs the number of the form")
	}
	var u User
	receipt, err := v.do(ctx, by, func(tx store.Txn, now time.Time) (entry audit.Entry, err error) {
		u = User{V: 1, Realm: realm, Name: name, Created: now}
		found, err := getJSON(tx, userKey(realm, name), &u)
		if err != nil {
			return entry, err
		}
		if !found {
			if err := v.Realms[realm].checkNewUser(name); err != nil {
				return entry, err
			}
		}
		if !u.Applied.IsZero() {
			return entry, refuse("issue or assign the token next", "%s@%s has applied already, with form %s", name, realm, u.Form)
		}
		live, err := liveTokens(tx, realm, name, now)
		if err != nil {
			return entry, err
		}
		if err := v.Realms[realm].room(u, live); err != nil {
			return entry, err
		}
		u.Applied, u.Form = now, by.Form
		return stepApply.onUser(u, by.Reason), putJSON(tx, userKey(realm, name), u)
	})
	return u, receipt, err
}

// RemoveUser forgets a user whose tokens are all released, with a card and a PIN
// if there are any. The tokens' records stay: a serial is never used for another token.
func (v *Verifier) RemoveUser(ctx context.Context, by By, realm, name string) (Receipt, error) {
	if err := v.checkUser(realm, name); err != nil {
		return Receipt{}, err
	}
	if err := by.because(stepRemoveUser); err != nil {
		return Receipt{}, err
	}
	return v.do(ctx, by, func(tx store.Txn, _ time.Time) (entry audit.Entry, err error) {
		u, err := readUser(tx, realm, name)
		if err != nil {
			return entry, err
		}
		if err := forgetTokens(tx, realm, name); err != nil {
			return entry, err
		}
		var card Card
		if found, err := getJSON(tx, cardKey(realm, name), &card); err != nil {
			return entry, err
		} else if found {
			if err := tx.Delete(cardIDKey(realm, card.ID)); err != nil {
				return entry, err
			}
		}
		if err := forgetPIN(tx, realm, name); err != nil {
			return entry, err
		}
		for _, key := range []string{
			cardKey(realm, name), cardStateKey(realm, name), fallbackKey(realm, name), userStateKey(realm, name), userKey(realm, name),
		} {
			if err := tx.Delete(key); err != nil {
				return entry, err
			}
		}
		return stepRemoveUser.onUser(u, by.Reason), nil
	})
}

// UnlockUser opens the locks that wrong codes and PINs have set on a user, the
// user's tokens and PIN, and begins their counts anew. Where there is no lock, it does
// the latter alone; wasLocked and the audit log say so.
func (v *Verifier) UnlockUser(ctx context.Context, by By, realm, name string) (wasLocked bool, receipt Receipt, err error) {
	if err := v.checkUser(realm, name); err != nil {
		return false, Receipt{}, err
	}
	receipt, err = v.do(ctx, by, func(tx store.Txn, now time.Time) (entry audit.Entry, err error) {
		a, err := readAccount(tx, v.Realms[realm], name, now)
		if err != nil {
			return entry, err
		}
		detail := by.Reason
		if wasLocked = a.Locked(); !wasLocked {
			detail = by.andWhy("there was no lock; wrong codes are counted anew")
		}
		if err := unlockPIN(tx, v.Realms[realm], name, now); err != nil {
			return entry, err
		}
		return stepUnlock.onUser(a.User, detail), openLocks(tx, realm, name)
	})
	return wasLocked, receipt, err
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
		return r.Scan(prefix, func(key string, value []byte) error {
			var u User
			if err := decodeJSON(key, value, &u); err != nil {
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
	OpensAt  time.Time // when the lock opens by itself; zero: not locked, or a clerk opens it
	Fallback time.Time // until then the card stands in for a code; zero: it doesn't
	PIN      PINInfo
	Tokens   []TokenInfo
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

// OpensAt is when the lock of a user opens by itself; zero if they aren't
// locked, or a clerk has to open it.
func (v *Verifier) OpensAt(ctx context.Context, realm, name string) (time.Time, error) {
	a, err := v.Account(ctx, realm, name)
	return a.OpensAt, err
}

func readAccount(r store.Reader, realm Realm, name string, now time.Time) (Account, error) {
	var a Account
	var err error
	if a.User, err = readUser(r, realm.ID, name); err != nil {
		return a, err
	}
	user, err := readUserState(r, realm.ID, name)
	if err != nil {
		return a, err
	}
	a.Failures, a.LockedAt = user.Row.afterTime(realm.Lockout, now).shown()
	if a.LockedAt.IsZero() {
		a.LockedAt = unixTime(user.LongRun.LockedAt)
	}
	pin, err := readPIN(r, realm, name, now)
	if err != nil {
		return a, err
	}
	a.PIN = pin.info(realm.Lockout)
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
	fallback, err := openFallback(r, realm, name, now)
	if err != nil {
		return a, err
	}
	a.Fallback = fallback.Until
	a.Service = a.service()
	if a.Service == ServiceLocked && user.LongRun.LockedAt == 0 {
		a.OpensAt = a.opensAt(realm.Lockout)
	}
	return a, nil
}

// Locked says whether wrong codes or PINs have locked the user, one of the tokens
// or the PIN.
func (a Account) Locked() bool {
	return !a.LockedAt.IsZero() || !a.PIN.LockedAt.IsZero() || slices.ContainsFunc(a.Tokens, func(t TokenInfo) bool { return !t.LockedAt.IsZero() })
}

// opensAt is when both the user's lock and that of a token in service have
// opened by themselves; zero if they don't.
func (a Account) opensAt(l Lockout) time.Time {
	if l.UnlockAfter == 0 {
		return time.Time{}
	}
	locked, found := a.LockedAt, false // since when both are
	var first time.Time                // the token that opens first
	for _, t := range a.Tokens {
		if t.State == InService && (!found || t.LockedAt.Before(first)) {
			first, found = t.LockedAt, true
		}
	}
	if first.After(locked) {
		locked = first
	}
	return locked.Add(l.UnlockAfter)
}

// service sums the user up: the best of what they have counts. Who has applied
// for a token is further than who has one that is out of use.
func (a Account) service() ServiceState {
	rank := map[ServiceState]int{
		ServiceReleased: 1, ServiceSuspended: 2, ServiceApplied: 3, ServiceIssued: 4, ServiceLocked: 5, ServiceInService: 6,
	}
	best := ServiceNone
	if !a.Applied.IsZero() {
		best = ServiceApplied
	}
	for _, t := range a.Tokens {
		s := t.State.service()
		if s == ServiceInService && (!t.LockedAt.IsZero() || !a.LockedAt.IsZero()) {
			s = ServiceLocked
		}
		if rank[s] > rank[best] {
			best = s
		}
	}
	switch {
	case a.Fallback.IsZero(): // as it is while a token is in service
		return best
	case !a.LockedAt.IsZero():
		return ServiceLocked
	}
	return ServiceCardFallback
}

// service is what a portal may know of a token in that state.
func (s TokenState) service() ServiceState {
	switch s {
	case Assigned, Issued:
		return ServiceIssued
	case InService:
		return ServiceInService
	case TokenSuspended, Lost, Broken, BatteryFlat, Expired:
		return ServiceSuspended
	case Released:
		return ServiceReleased
	case noToken, InStock: // nobody's
	}
	return ServiceNone
}

// forgetTokens takes a user's tokens from the user. A *Refusal if one of them
// isn't released.
func forgetTokens(tx store.Txn, realm, name string) error {
	serials, err := serialsOf(tx, realm, name)
	if err != nil {
		return err
	}
	for _, serial := range serials {
		t, err := readToken(tx, serial)
		if err != nil {
			return err
		}
		if t.State != Released {
			return refuse("release it first", "%s@%s has token %s, which is %s", name, realm, serial, t.State.words())
		}
		if err := tx.Delete(userTokenKey(realm, name, serial)); err != nil {
			return err
		}
	}
	return nil
}

// checkUser returns a *Refusal unless realm exists and name can be a user's.
func (v *Verifier) checkUser(realm, name string) error {
	if _, err := v.realm(realm); err != nil {
		return err
	}
	return CheckUserName(name)
}

// checkNewUser returns a *Refusal for a name that the realm's doors never find.
func (r Realm) checkNewUser(name string) error {
	if lower := strings.ToLower(name); r.LowerNames && name != lower {
		return refuse("add "+lower, "realm %s takes user names in lower case (user_names in gateway.yaml), and would never find %s", r.ID, name)
	}
	return nil
}

func readUser(r store.Reader, realm, name string) (User, error) {
	var u User
	found, err := getJSON(r, userKey(realm, name), &u)
	if err == nil && !found {
		err = noUser(realm, name)
	}
	return u, err
}

func noUser(realm, name string) error {
	return refuse("otpgate user add makes one", "there is no user %s@%s", name, realm)
}

// onUser is the audit entry of s on u.
func (s step) onUser(u User, detail string) audit.Entry {
	return audit.Entry{Event: string(s), Realm: u.Realm, User: u.Name, Detail: detail}
}

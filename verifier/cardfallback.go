package verifier

import (
	"context"
	"time"

	"otpgate/internal/store"
)

// ServiceCardFallback is the state of who has no token in service, and a card that
// is to stand in for it until a date.
const ServiceCardFallback ServiceState = "card_fallback"

// Fallback is a clerk's word that cells of a user's card complete a log-in, in
// place of a code, while the user waits for a new token. It ends at its date, by
// the clerk, or as soon as a token comes into service.
type Fallback struct {
	V      int       `json:"v"`     // layout version, 1
	Until  time.Time `json:"until"` // not at this time any more
	Opened time.Time `json:"opened"`
}

// OpenFallback lets a user's card stand in for a code until a time, at most the
// realm's FallbackMax from now. It is refused while a token is in service: mark
// that lost, broken or suspended first.
func (v *Verifier) OpenFallback(ctx context.Context, by By, realm, user string, until time.Time) (CardInfo, Receipt, error) {
	policy, err := v.cardPolicy(realm)
	if err != nil {
		return CardInfo{}, Receipt{}, err
	}
	until = until.UTC().Truncate(time.Second)
	return v.changeCard(ctx, stepOpenFallback, by, realm, user, func(tx store.Txn, info CardInfo, now time.Time) (string, error) {
		if err := tick(tx, now); err != nil {
			return "", err
		}
		switch latest := now.Add(policy.FallbackMax).UTC().Truncate(time.Second); {
		case !until.After(now):
			return "", refuse("give a later time", "the fallback would be over already, since %s", until.Format(time.RFC3339))
		case until.After(latest):
			return "", refuse("give an earlier one", "the fallback may last until %s, not until %s",
				latest.Format(time.RFC3339), until.Format(time.RFC3339))
		case info.State == CardLocked:
			return "", refuse("otpgate card unlock opens it", "card %s is locked", info.ID)
		case info.State == CardSpent:
			return "", refuse("otpgate card issue makes a new one", "card %s had too many wrong answers and is of no more use", info.ID)
		}
		if err := checkFallbackUser(tx, v.Realms[realm], user, now); err != nil {
			return "", err
		}
		detail := by.andWhy("until " + until.Format(time.RFC3339))
		return detail, putJSON(tx, fallbackKey(realm, user), Fallback{V: 1, Until: until, Opened: now})
	})
}

// CloseFallback ends a fallback before its date.
func (v *Verifier) CloseFallback(ctx context.Context, by By, realm, user string) (CardInfo, Receipt, error) {
	return v.changeCard(ctx, stepCloseFallback, by, realm, user, func(tx store.Txn, info CardInfo, _ time.Time) (string, error) {
		if info.Fallback.Until.IsZero() {
			return "", refuse("there is nothing to close", "no card fallback is open for %s@%s", user, realm)
		}
		return by.Reason, closeFallback(tx, realm, user)
	})
}

func fallbackKey(realm, user string) string { return store.Key("cardfallback", realm, user) }

// closeFallback ends a user's fallback, if there is one. Whatever puts a token in
// service calls it in the same transaction.
func closeFallback(tx store.Txn, realm, user string) error {
	return tx.Delete(fallbackKey(realm, user))
}

// openFallback is a user's fallback if it is open at now, else the zero Fallback.
// A token in service keeps it shut, however it came to be.
func openFallback(r store.Reader, realm Realm, user string, now time.Time) (Fallback, error) {
	var f Fallback
	if realm.Card == nil {
		return f, nil
	}
	if _, err := getJSON(r, fallbackKey(realm.ID, user), &f); err != nil || !now.Before(f.Until) {
		return Fallback{}, err
	}
	if f.Until.After(now.Add(realm.Card.FallbackMax)) { // opened while our clock was ahead
		return Fallback{}, nil
	}
	serial, err := inService(r, realm.ID, user, now)
	if err != nil || serial != "" {
		return Fallback{}, err
	}
	return f, nil
}

// checkFallbackUser returns a Refusal if the user has, or could have, another way
// in, or is locked.
func checkFallbackUser(r store.Reader, realm Realm, user string, now time.Time) error {
	serial, err := inService(r, realm.ID, user, now)
	if err != nil {
		return err
	}
	if serial != "" {
		return refuse("say first what became of it, such as otpgate token suspend", "token %s is in service", serial)
	}
	state, err := readUserState(r, realm.ID, user)
	if err != nil {
		return err
	}
	if state.Row.afterTime(realm.Lockout, now).locked() || state.LongRun.LockedAt != 0 {
		return refuse("otpgate user unlock opens it", "%s@%s is locked by wrong codes, and cells would be refused as well", user, realm.ID)
	}
	return nil
}

// inService returns the serial of a user's token in service, "" if there is none.
func inService(r store.Reader, realm, user string, now time.Time) (string, error) {
	serials, err := serialsOf(r, realm, user)
	if err != nil {
		return "", err
	}
	for _, serial := range serials {
		t, err := readToken(r, serial)
		if err != nil {
			return "", err
		}
		if t.stateAt(now) == InService {
			return serial, nil
		}
	}
	return "", nil
}

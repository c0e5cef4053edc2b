package verifier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"otpgate/internal/audit"
	"otpgate/internal/store"
)

// step is one step in the life of a token or user. Its value is the audit event.
type step string

const (
	stepImport   step = "token.import"
	stepCreate   step = "token.create"
	stepAssign   step = "token.assign"
	stepShowKey  step = "token.uri"
	stepStart    step = "token.start"
	stepSuspend  step = "token.suspend"
	stepResume   step = "token.resume"
	stepUnusable step = "token.unusable"
	stepReissue  step = "token.reissue"
	stepRelease  step = "token.release"
	stepResync   step = "token.resync"

	stepAddUser    step = "user.add"
	stepApply      step = "user.apply"
	stepUnlock     step = "user.unlock"
	stepGroups     step = "user.groups"
	stepRemoveUser step = "user.remove"

	stepClock step = "clock.accept"
)

// noToken is where a token comes from.
const noToken TokenState = ""

// tokenStates are all states, in the order of a token's life.
var tokenStates = []TokenState{
	InStock, Assigned, Issued, InService, TokenSuspended, Lost, Broken, BatteryFlat, Expired, Released,
}

// unusable are the states of a token that its holder can't or mustn't use again.
var unusable = []TokenState{Lost, Broken, BatteryFlat, Expired}

// steps is the life of a token: which step is allowed in which state, and where
// it may lead. docs/life.md shows it; a test compares the two. Where there is a
// choice: a token is imported for stock or for a user, made with or without a
// first code to show, resumed to where it was, and unusable for a cause. A lost
// one stays lost when it is replaced, so that its use is still seen.
var steps = map[step]map[TokenState][]TokenState{
	stepImport:  {noToken: {InStock, InService}},
	stepCreate:  {noToken: {Issued, InService}},
	stepAssign:  {InStock: {Assigned}},
	stepShowKey: {Issued: {Issued}},
	stepStart:   {Assigned: {InService}, Issued: {InService}},
	stepResync:  {InService: {InService}},
	stepSuspend: {Assigned: {TokenSuspended}, Issued: {TokenSuspended}, InService: {TokenSuspended}},
	stepResume:  {TokenSuspended: {Assigned, Issued, InService}},
	stepUnusable: {
		Assigned: unusable, Issued: unusable, InService: unusable, TokenSuspended: unusable,
	},
	stepReissue: {
		Assigned: {Released}, Issued: {Released}, InService: {Released}, TokenSuspended: {Released},
		Lost: {Lost}, Broken: {Released}, BatteryFlat: {Released}, Expired: {Released},
	},
	stepRelease: {
		InStock: {Released}, Assigned: {Released}, Issued: {Released}, InService: {Released}, TokenSuspended: {Released},
		Lost: {Released}, Broken: {Released}, BatteryFlat: {Released}, Expired: {Released},
	},
}

// hint says how to go on when s isn't allowed in a state.
func hint(s step, state TokenState) string {
	switch {
	case state == Released:
		return "its key is destroyed; otpgate token create or assign gives its user another one"
	case s == stepAssign:
		return "only a token in stock can be assigned; otpgate token list --state in_stock shows them"
	case s == stepShowKey:
		return "a key can be shown only until its holder starts the token; otpgate token reissue makes a new one"
	case state == InStock:
		return "it is nobody's; otpgate token assign gives it to a user"
	case state == TokenSuspended:
		return "resume or release it first"
	case slices.Contains(unusable, state):
		return "that is for good; otpgate token reissue replaces it, otpgate token release ends it"
	case s == stepResume:
		return "only a suspended token can be resumed; otpgate user unlock opens a lock"
	case state == InService:
		return "its holder can log in with it already"
	}
	return "its holder starts it with a code first"
}

// checkStep returns a *Refusal if s isn't allowed in t's state.
func checkStep(s step, t Token) error {
	if steps[s][t.State] != nil {
		return nil
	}
	return refuse(hint(s, t.State), "token %s is %s", t.Serial, t.State.words())
}

// words is the state for a sentence.
func (s TokenState) words() string { return strings.ReplaceAll(string(s), "_", " ") }

// live says whether the token counts as one that its user has: it works, or
// will once its holder or a clerk says so.
func (s TokenState) live() bool {
	return s == Assigned || s == Issued || s == InService || s == TokenSuspended
}

// move makes a step. Nothing else sets a token's state.
func (t *Token) move(s step, to TokenState, now time.Time) error {
	if err := checkStep(s, *t); err != nil {
		return err
	}
	if !slices.Contains(steps[s][t.State], to) {
		return fmt.Errorf("token %s: %s can't lead from %q to %q", t.Serial, s, t.State, to)
	}
	if to == t.State {
		return nil
	}
	t.Served = t.Served || to == InService || t.State == InService || t.Before == InService
	t.Before = ""
	if to == TokenSuspended {
		t.Before = t.State
	}
	if to == Released {
		t.Key = nil
	}
	t.State, t.Changed = to, now
	return nil
}

// putToken writes a token after a step. One that is in service ends a card
// fallback.
func putToken(tx store.Txn, t Token) error {
	if t.State == InService {
		if err := closeFallback(tx, t.Realm, t.User); err != nil {
			return err
		}
	}
	return putJSON(tx, tokenKey(t.Serial), t)
}

// on is the audit entry of s on t; detail is what it did, in words.
func (s step) on(t Token, detail string) audit.Entry {
	return audit.Entry{Event: string(s), Realm: t.Realm, User: t.User, Serial: t.Serial, Detail: detail}
}

// do makes one step of an operator or clerk: fn reads, decides and writes in one
// transaction, which takes the receipt as well, and says what is to be logged.
func (v *Verifier) do(ctx context.Context, by By, fn func(tx store.Txn, now time.Time) (audit.Entry, error)) (Receipt, error) {
	if err := by.check(); err != nil {
		return Receipt{}, err
	}
	var receipt Receipt
	var entry audit.Entry
	err := v.Records.Update(ctx, func(tx store.Txn) (err error) {
		now := v.Now()
		// With our clock behind, a clerk can still take a stolen token out of
		// use; steps that the time decides ask tick themselves.
		if err := tick(tx, now); err != nil && !errors.Is(err, ErrClockBehind) {
			return err
		}
		if entry, err = fn(tx, now); err != nil {
			return err
		}
		receipt, err = nextReceipt(tx, now)
		return err
	})
	if err != nil {
		return Receipt{}, err
	}
	return receipt, v.record(ctx, by, receipt, entry)
}

// change makes a step of one token. did says what it did, if the step alone
// doesn't; to, where it leads, and it writes what else follows.
func (v *Verifier) change(ctx context.Context, s step, by By, serial, did string, to func(store.Txn, Token) (TokenState, error)) (Token, Receipt, error) {
	var t Token
	receipt, err := v.do(ctx, by, func(tx store.Txn, now time.Time) (entry audit.Entry, err error) {
		if t, err = readToken(tx, serial); err != nil {
			return entry, err
		}
		if err := checkStep(s, t); err != nil {
			return entry, err
		}
		state, err := to(tx, t)
		if err != nil {
			return entry, err
		}
		if err := t.move(s, state, now); err != nil {
			return entry, err
		}
		t.Reason = by.andWhy(did)
		return s.on(t, t.Reason), putToken(tx, t)
	})
	return t, receipt, err
}

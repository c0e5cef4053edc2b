package verifier

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"

	"otpgate/internal/audit"
	"otpgate/internal/store"
)

// A confirmation card (お客様カード) is printed: rows and columns of cells with a
// few digits each. Some cells are asked for at a time; a customer reads them off.
//
//	card.go          the card: made, shown, unlocked, replaced
//	cardconfirm.go   the cells that are asked for, and what is answered
//	cardfallback.go  the card in place of a code, until a date
//	cardimport.go    cards that somebody else has printed
//
// A card is ready, locked (too many wrong answers to one challenge: a clerk
// unlocks it) or spent (too many within 13 weeks: only a new card helps).

// Bounds on a card, which gateway.yaml's are held to by a test.
const (
	MaxCardCells = 200 // a cell's place is kept in a byte; 20 columns of 10 rows are more than a purse holds
	MaxCardAsked = 4
)

// CardPolicy is how the confirmation cards of a realm look and how they are
// asked for.
type CardPolicy struct {
	Layout CardLayout // of new cards; a card in somebody's hands keeps its own
	Asked  int        // cells in a challenge, 2 to MaxCardAsked, and at most half of all cells
	Tries  int        // wrong answers to one challenge that lock the card
	// FallbackMax is how long a clerk may let cells stand in for a code.
	FallbackMax time.Duration
}

// CardLayout is what is printed on a card besides its digits.
type CardLayout struct {
	Columns []string `json:"columns"` // their headings: ア, イ, …
	Rows    int      `json:"rows"`    // numbered from 1 where there is more than one
	Digits  int      `json:"digits"`  // in each cell
}

// Cell is a place on a card; both count from 0.
type Cell struct {
	Row    int `json:"row"`
	Column int `json:"column"`
}

// Label is what people call a cell: its column's heading, and its row's number
// if there are several.
func (l CardLayout) Label(c Cell) string {
	if l.Rows == 1 {
		return l.Columns[c.Column]
	}
	return l.Columns[c.Column] + strconv.Itoa(c.Row+1)
}

func (l CardLayout) size() int { return len(l.Columns) * l.Rows }

// check returns an error unless a card can look like that.
func (l CardLayout) check() error {
	if len(l.Columns) == 0 || l.Rows < 1 || l.Rows > MaxCardCells || l.size() > MaxCardCells || l.Digits < 1 {
		return fmt.Errorf("a card can't have %d columns of %d rows, %d digits in each cell", len(l.Columns), l.Rows, l.Digits)
	}
	return nil
}

// at is the cell at a place in reading order.
func (l CardLayout) at(place uint8) Cell {
	return Cell{Row: int(place) / len(l.Columns), Column: int(place) % len(l.Columns)}
}

// Card is the record of one card; a user has at most one. What changes at every
// try is in the hot record beside it.
type Card struct {
	V       int        `json:"v"`  // layout version, 1
	ID      string     `json:"id"` // printed on it; unique in the realm
	Realm   string     `json:"realm"`
	User    string     `json:"user"`
	Layout  CardLayout `json:"layout"`
	Cells   []byte     `json:"cells"` // the digits of all cells in reading order, sealed
	Created time.Time  `json:"created"`
}

// CardState is whether a card's cells are asked for.
type CardState string

// The states of a card.
const (
	CardReady  CardState = "ready"
	CardLocked CardState = "locked" // a clerk unlocks it
	CardSpent  CardState = "spent"  // only a new card helps
)

// CardInfo is a card, without its digits, with what the gate has learnt.
type CardInfo struct {
	Card
	State       CardState
	LockedAt    time.Time // zero: neither locked nor spent
	Asked       []Cell    // the cells asked for until they are answered right
	Failures    int       // wrong answers to that challenge
	WrongOfLate int       // wrong answers within 13 weeks
	UsedAt      time.Time // last right answer; zero: never
	Fallback    Fallback  // zero: closed
}

// Card returns a user's card. A *Refusal if there is none.
func (v *Verifier) Card(ctx context.Context, realm, user string) (info CardInfo, err error) {
	if _, err := v.cardPolicy(realm); err != nil {
		return info, err
	}
	err = v.Records.View(ctx, func(r store.Reader) (err error) {
		info, err = readCardInfo(r, v.Realms[realm], user, v.Now())
		return err
	})
	return info, err
}

// NewCard says what card to make.
type NewCard struct {
	Realm, User string
	ID          string // "": one is made
}

// IssueCard makes a card for an existing user, of random digits, and returns
// these, a string for each cell in reading order, for the one time that they can
// be printed. A card that the user had stops at once; that needs a reason.
func (v *Verifier) IssueCard(ctx context.Context, by By, n NewCard) (Card, []string, Receipt, error) {
	policy, err := v.cardPolicy(n.Realm)
	if err != nil {
		return Card{}, nil, Receipt{}, err
	}
	if n.ID == "" {
		n.ID = newCardID()
	}
	if err := errors.Join(CheckUserName(n.User), checkCardID(n.ID)); err != nil {
		return Card{}, nil, Receipt{}, err
	}
	cells := randomCells(policy.Layout)
	c := v.newCard(n, policy.Layout, strings.Join(cells, ""))
	receipt, err := v.do(ctx, by, func(tx store.Txn, now time.Time) (entry audit.Entry, err error) {
		replaced, err := checkNewCard(tx, n)
		if err != nil {
			return entry, err
		}
		detail := by.Reason
		if replaced != "" {
			if by.Reason == "" {
				return entry, refuse("give --reason; the old card stops at once", "%s@%s has card %s already", n.User, n.Realm, replaced)
			}
			detail = by.andWhy("in place of card " + replaced)
		}
		c.Created = now
		return stepIssueCard.onCard(c, detail), putCard(tx, policy, c)
	})
	if err != nil {
		return Card{}, nil, receipt, err
	}
	return c, cells, receipt, nil
}

// UnlockCard opens the lock that wrong answers to one challenge have set. The
// same cells are asked for afterwards.
func (v *Verifier) UnlockCard(ctx context.Context, by By, realm, user string) (CardInfo, Receipt, error) {
	return v.changeCard(ctx, stepUnlockCard, by, realm, user, func(tx store.Txn, info CardInfo, _ time.Time) (string, error) {
		switch info.State {
		case CardReady:
			return "", refuse("otpgate card show tells how it stands", "card %s is not locked", info.ID)
		case CardSpent:
			return "", refuse("issue a new one: otpgate card issue",
				"card %s had %d wrong answers within %d weeks and is of no more use", info.ID, cardLongRun, longRunWeeks)
		case CardLocked:
		}
		state, err := readCardState(tx, realm, user)
		if err != nil {
			return "", err
		}
		state.Failures, state.LockedAt = 0, 0
		return by.Reason, tx.Put(cardStateKey(realm, user), state.encode())
	})
}

// The steps of a clerk with a card.
const (
	stepIssueCard     step = "card.issue"
	stepImportCards   step = "card.import"
	stepUnlockCard    step = "card.unlock"
	stepOpenFallback  step = "card.open_fallback"
	stepCloseFallback step = "card.close_fallback"
)

// changeCard makes one step of a clerk with a user's card. apply writes it and
// says what is to be logged.
func (v *Verifier) changeCard(
	ctx context.Context, s step, by By, realm, user string,
	apply func(tx store.Txn, info CardInfo, now time.Time) (detail string, err error),
) (info CardInfo, receipt Receipt, err error) {
	if _, err := v.cardPolicy(realm); err != nil {
		return info, receipt, err
	}
	if err := by.because(s); err != nil {
		return info, receipt, err
	}
	receipt, err = v.do(ctx, by, func(tx store.Txn, now time.Time) (entry audit.Entry, err error) {
		if info, err = readCardInfo(tx, v.Realms[realm], user, now); err != nil {
			return entry, err
		}
		detail, err := apply(tx, info, now)
		if err != nil {
			return entry, err
		}
		info, err = readCardInfo(tx, v.Realms[realm], user, now)
		return s.onCard(info.Card, detail), err
	})
	return info, receipt, err
}

// onCard is the audit entry of s on c; detail is what it did, in words.
func (s step) onCard(c Card, detail string) audit.Entry {
	return audit.Entry{Event: string(s), Realm: c.Realm, User: c.User, Serial: c.ID, Detail: detail}
}

// purpose is what a card's digits are sealed for: this card, read in this way.
// Whoever can write to the database alone can't make its cells shorter.
func (c Card) purpose() string {
	return fmt.Sprintf("card cells %s %q %d %d", c.ID, c.Layout.Columns, c.Layout.Rows, c.Layout.Digits)
}

func cardKey(realm, user string) string      { return store.Key("card", realm, user) }
func cardStateKey(realm, user string) string { return store.Key("cardstate", realm, user) }
func cardIDKey(realm, id string) string      { return store.Key("cardid", realm, id) }

func (v *Verifier) cardPolicy(realm string) (CardPolicy, error) {
	r, err := v.realm(realm)
	if err != nil {
		return CardPolicy{}, err
	}
	if r.Card == nil {
		return CardPolicy{}, refuse("add card to the realm in gateway.yaml", "realm %s has no confirmation cards", realm)
	}
	return *r.Card, nil
}

// resealCard renews a card's digits; see Reseal.
func resealCard(box Resealer, key string, value []byte) (again []byte, changed bool, err error) {
	var c Card
	if err := json.Unmarshal(value, &c); err != nil {
		return nil, false, fmt.Errorf("record %q: %w", key, err)
	}
	if c.Cells, changed, err = box.Reseal(key, c.purpose(), c.Cells); err != nil {
		return nil, false, fmt.Errorf("card %s: %w", c.ID, err)
	}
	if !changed {
		return nil, false, nil
	}
	again, err = json.Marshal(c)
	return again, true, err
}

// newCard is the record of a card that isn't stored yet.
func (v *Verifier) newCard(n NewCard, layout CardLayout, digits string) Card {
	c := Card{
		V: 1, ID: n.ID, Realm: n.Realm, User: n.User, Layout: layout,
	}
	c.Cells = v.Seal.Seal(cardKey(n.Realm, n.User), c.purpose(), []byte(digits))
	return c
}

// checkNewCard returns a Refusal unless the user can be given the card, and the
// ID of the card that it would replace.
func checkNewCard(r store.Reader, n NewCard) (replaces string, err error) {
	found, err := r.Get(userKey(n.Realm, n.User))
	if err != nil {
		return "", err
	}
	if found == nil {
		return "", noUser(n.Realm, n.User)
	}
	owner, err := r.Get(cardIDKey(n.Realm, n.ID))
	if err != nil {
		return "", err
	}
	if owner != nil {
		return "", refuse("each card has a number of its own", "there is a card %s already: %s@%s has it", n.ID, owner, n.Realm)
	}
	var old Card
	_, err = getJSON(r, cardKey(n.Realm, n.User), &old)
	return old.ID, err
}

// putCard stores a new card in place of the user's old one, with a first
// challenge. Challenges are numbered on, so that a page which shows the old card
// can't answer the new one's.
func putCard(tx store.Txn, policy CardPolicy, c Card) error {
	var old Card
	if found, err := getJSON(tx, cardKey(c.Realm, c.User), &old); err != nil {
		return err
	} else if found {
		if err := tx.Delete(cardIDKey(c.Realm, old.ID)); err != nil {
			return err
		}
	}
	before, err := readCardState(tx, c.Realm, c.User)
	if err != nil {
		return err
	}
	state := cardState{}.next(drawCells(c.Layout.size(), policy.Asked, nil))
	state.Challenge = before.Challenge + 1
	if err := tx.Put(cardStateKey(c.Realm, c.User), state.encode()); err != nil {
		return err
	}
	if err := tx.Put(cardIDKey(c.Realm, c.ID), []byte(c.User)); err != nil {
		return err
	}
	return putJSON(tx, cardKey(c.Realm, c.User), c)
}

func readCardInfo(r store.Reader, realm Realm, user string, now time.Time) (info CardInfo, err error) {
	if err := CheckUserName(user); err != nil {
		return info, err
	}
	found, err := getJSON(r, cardKey(realm.ID, user), &info.Card)
	switch {
	case err != nil:
		return info, err
	case !found:
		return info, noCard(r, realm.ID, user)
	}
	if err := info.Layout.check(); err != nil {
		return info, fmt.Errorf("card of %s@%s: %w", user, realm.ID, err)
	}
	state, err := readCardState(r, realm.ID, user)
	if err != nil {
		return info, err
	}
	info.State, info.LockedAt = state.locked()
	info.Asked = state.asked(info.Layout)
	info.Failures, info.WrongOfLate = int(state.Failures), state.LongRun.turn(now.Unix()/week).sum()
	info.UsedAt = unixTime(state.UsedAt)
	info.Fallback, err = openFallback(r, realm, user, now)
	return info, err
}

// noCard says why there is no card to show.
func noCard(r store.Reader, realm, user string) error {
	found, err := r.Get(userKey(realm, user))
	switch {
	case err != nil:
		return err
	case found == nil:
		return noUser(realm, user)
	}
	return refuse("otpgate card issue makes one", "%s@%s has no confirmation card", user, realm)
}

// checkCardID returns a Refusal unless id is of the form of a serial number.
func checkCardID(id string) error {
	if CheckSerial(id) != nil {
		return refuse("use 1 to 64 half-width letters, digits, dots, hyphens or underscores", "%.70q is no card number", id)
	}
	return nil
}

// newCardID makes a number for a card; see newSerial.
func newCardID() string { return "C" + strings.TrimPrefix(newSerial(), "SW") }

// randomCells makes the digits of every cell.
func randomCells(l CardLayout) []string {
	cells := make([]string, l.size())
	for i := range cells {
		for range l.Digits {
			cells[i] += strconv.Itoa(randomBelow(10))
		}
	}
	return cells
}

// drawCells draws n of size cells, in reading order, and not the same ones as
// before. size is at least 2n.
func drawCells(size, n int, before []uint8) []uint8 {
	for {
		var drawn []uint8
		for len(drawn) < n {
			if c := uint8(randomBelow(size)); !slices.Contains(drawn, c) {
				drawn = append(drawn, c)
			}
		}
		slices.Sort(drawn)
		if !slices.Equal(drawn, before) {
			return drawn
		}
	}
}

func randomBelow(n int) int {
	i, err := rand.Int(rand.Reader, big.NewInt(int64(n)))
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	return int(i.Int64())
}

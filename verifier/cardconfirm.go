package verifier

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"otpgate/internal/store"
)

// ErrNoCard means that the user has no confirmation card, or the realm has none,
// or there is no such user.
var ErrNoCard = errors.New("verifier: the user has no confirmation card")

// The outcomes of Confirm besides Accepted, Wrong, Locked and NoUser. Replayed
// means that the challenge was answered right before, or is another card's:
// nothing was compared, and the open one is to be shown.
const (
	NoCard     Outcome = "no_card"     // the user has none
	NoFallback Outcome = "no_fallback" // cells don't stand in for a code: no clerk has said so, or a token is in service
)

// cardLongRun wrong answers within 13 weeks, right ones between or not, make a
// card useless: each is worth 1 %, where two cells of one digit are asked for.
const cardLongRun = 10

// maxAnswer bounds one typed cell, in bytes: the digits of a cell in full width,
// and the spaces around them.
const maxAnswer = 64

// Challenge is which cells of a card are asked for. It stays, through wrong
// answers, reloads and restarts, until it is answered right.
type Challenge struct {
	Number    uint64 // to be given back with the answers
	Layout    CardLayout
	Asked     []Cell // in reading order: ①, ②
	State     CardState
	TriesLeft int // 0 unless the card is ready
}

// CardPurpose is what cells are asked for.
type CardPurpose string

// The purposes.
const (
	// CardConfirm is a step that the customer takes, besides the log-in
	// (確認用パスワード).
	CardConfirm CardPurpose = "confirm"
	// CardFallback is a log-in, in place of a code; see Fallback.
	CardFallback CardPurpose = "fallback"
)

// CardAttempt is one try to answer a challenge.
type CardAttempt struct {
	Realm     string // the realm's id
	User      string // exact name within the realm
	Purpose   CardPurpose
	Challenge uint64   // Challenge.Number, as it was shown
	Answers   []string // as typed, in the order of Challenge.Asked

	Door   string // for the audit log, as in Attempt
	Client string
	From   string
}

// Challenge returns the cells that a user is asked for. ErrNoCard if there is no
// card; any other error is an ErrNoDecision.
func (v *Verifier) Challenge(ctx context.Context, realm, user string) (c Challenge, err error) {
	r, ok := v.Realms[realm]
	if !ok {
		return c, fmt.Errorf("%w: no realm %q", ErrNoDecision, realm)
	}
	if r.Card == nil {
		return c, ErrNoCard
	}
	err = v.Records.View(ctx, func(tx store.Reader) error {
		seen, err := lookCard(tx, realm, user)
		if err != nil {
			return err
		}
		if seen.raw == nil {
			return ErrNoCard
		}
		c = Challenge{Number: seen.state.Challenge, Layout: seen.Layout, Asked: seen.state.asked(seen.Layout)}
		if c.State, _ = seen.state.locked(); c.State == CardReady {
			c.TriesLeft = seen.state.triesLeft(*r.Card, v.Now())
		}
		return nil
	})
	if err != nil && !errors.Is(err, ErrNoCard) {
		err = fmt.Errorf("%w: %w", ErrNoDecision, err)
	}
	return c, err
}

// Confirm decides one attempt, as Verify does for a code: the answer is on disk,
// and in the audit log, when it returns, and the error is always an
// ErrNoDecision. A locked user isn't accepted here either.
func (v *Verifier) Confirm(ctx context.Context, a CardAttempt) (Result, error) {
	realm, ok := v.Realms[a.Realm]
	if !ok {
		return Result{}, fmt.Errorf("%w: no realm %q", ErrNoDecision, a.Realm)
	}
	now := v.Now()
	d, err := settle(func() (decision, error) { return v.tryCard(ctx, realm, a, now) })
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrNoDecision, err)
	}
	v.Metrics.cardTries.WithLabelValues(realm.ID, a.Door, string(d.Outcome)).Inc()
	if err := v.publish(ctx, realm, a.attempt(), passage{event: "card.confirm"}, d, now); err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrNoDecision, err)
	}
	return d.Result, nil
}

func (a CardAttempt) attempt() Attempt {
	return Attempt{Realm: a.Realm, User: a.User, Door: a.Door, Client: a.Client, From: a.From}
}

func (v *Verifier) tryCard(ctx context.Context, realm Realm, a CardAttempt, now time.Time) (d decision, err error) {
	seen := &cardSight{}
	if err := v.Records.View(ctx, func(r store.Reader) (err error) {
		seen, err = lookCard(r, a.Realm, a.User)
		return err
	}); err != nil {
		return d, err
	}
	if err := v.matchCard(seen, a.Answers); err != nil {
		return d, err
	}
	err = v.Records.Update(ctx, func(tx store.Txn) (err error) {
		c := confirming{
			deciding: deciding{tx: tx, realm: realm, attempt: a.attempt(), seen: &sight{}, now: now},
			attempt:  a, seen: seen,
		}
		d, err = c.decide()
		return err
	})
	return d, err
}

// cardSight is what look found of a user's card.
type cardSight struct {
	Card
	userExists bool
	raw        []byte // the record as it was read; nil: no card
	state      cardState
	right      bool // the answers fit the cells that state asks for
}

func lookCard(r store.Reader, realm, user string) (*cardSight, error) {
	seen := &cardSight{}
	if CheckUserName(user) != nil {
		return seen, nil //nolint:nilerr // nobody can have this name: a user who doesn't exist
	}
	u, err := r.Get(userKey(realm, user))
	if err != nil {
		return nil, err
	}
	seen.userExists = u != nil
	raw, err := r.Get(cardKey(realm, user))
	if err != nil || raw == nil {
		return seen, err
	}
	seen.raw = bytes.Clone(raw)
	if err := json.Unmarshal(raw, &seen.Card); err != nil {
		return nil, fmt.Errorf("card of %s@%s: %w", user, realm, err)
	}
	if err := seen.Layout.check(); err != nil {
		return nil, fmt.Errorf("card of %s@%s: %w", user, realm, err)
	}
	seen.state, err = readCardState(r, realm, user)
	return seen, err
}

// matchCard compares the answers with the cells that are asked for. Without a
// card it does the same for a made-up one.
func (v *Verifier) matchCard(seen *cardSight, answers []string) error {
	if seen.raw == nil {
		key := cardKey("", "")
		sealed := v.Seal.Seal(key, Card{}.purpose(), []byte("00"))
		digits, err := v.Seal.Open(key, Card{}.purpose(), sealed)
		sameCells(digits, answers)
		return err
	}
	digits, err := v.Seal.Open(cardKey(seen.Realm, seen.User), seen.purpose(), seen.Cells)
	if err != nil {
		return fmt.Errorf("card %s: %w", seen.ID, err)
	}
	var want []byte
	for _, place := range seen.state.places() {
		end := (int(place) + 1) * seen.Layout.Digits
		if end > len(digits) {
			return fmt.Errorf("card %s: %w: cell %d isn't on it", seen.ID, errHotRecord, place)
		}
		want = append(want, 0) // as in sameCells: an answer can't run into the next
		want = append(want, digits[end-seen.Layout.Digits:end]...)
	}
	same := sameCells(want, answers)
	seen.right = same && len(answers) == int(seen.state.Count) && len(answers) > 0
	clear(digits)
	clear(want)
	return nil
}

// sameCells compares typed cells with those wanted, in constant time.
func sameCells(want []byte, answers []string) bool {
	var typed []byte
	for _, answer := range answers[:min(len(answers), MaxCardAsked+1)] {
		if len(answer) > maxAnswer {
			answer = "" // right for no cell
		}
		typed = append(typed, 0)
		typed = append(typed, Normalise(answer)...)
	}
	return subtle.ConstantTimeCompare(typed, want) == 1
}

// confirming is one run of the rules for a card's answers, inside its
// transaction: those for a code, with other counters.
type confirming struct {
	deciding
	attempt CardAttempt
	seen    *cardSight
	state   cardState
}

func (c *confirming) decide() (decision, error) {
	if err := tick(c.tx, c.now); err != nil {
		return decision{}, err
	}
	if err := c.read(); err != nil {
		return decision{}, err
	}
	outcome, reason, err := c.standing()
	var d decision
	switch {
	case err != nil:
		return decision{}, err
	case outcome != "":
		d, err = c.refuse(outcome, reason)
	case c.attempt.Challenge != c.state.Challenge:
		d, err = c.refuse(Replayed, fmt.Sprintf("challenge %d is over, %d is asked now", c.attempt.Challenge, c.state.Challenge))
	case c.seen.state.Challenge != c.state.Challenge:
		return decision{}, errMoved
	case c.seen.right:
		d, err = c.accept()
	default:
		d, err = c.countWrong()
	}
	d.Serial = c.seen.ID
	if c.attempt.Purpose == CardFallback {
		d.reason = "in place of a code: " + d.reason
	}
	return d, err
}

// read reads the counters, and returns errMoved unless user and card are as look
// saw them.
func (c *confirming) read() (err error) {
	if CheckUserName(c.attempt.User) != nil {
		return nil //nolint:nilerr // see lookCard
	}
	u, err := c.tx.Get(userKey(c.attempt.Realm, c.attempt.User))
	if err != nil {
		return err
	}
	raw, err := c.tx.Get(cardKey(c.attempt.Realm, c.attempt.User))
	if err != nil {
		return err
	}
	if (u != nil) != c.seen.userExists || !bytes.Equal(raw, c.seen.raw) {
		return errMoved
	}
	if c.user, err = readUserState(c.tx, c.attempt.Realm, c.attempt.User); err != nil {
		return err
	}
	c.user.Row = c.user.Row.afterTime(c.realm.Lockout, c.now)
	c.state, err = readCardState(c.tx, c.attempt.Realm, c.attempt.User)
	return err
}

// standing is the outcome that doesn't depend on what was typed; "" if it does.
func (c *confirming) standing() (Outcome, string, error) {
	switch {
	case !c.seen.userExists:
		return NoUser, "the realm has no such user", nil
	case c.realm.Card == nil:
		return NoCard, "the realm has no confirmation cards", nil
	case c.seen.raw == nil:
		return NoCard, "the user has no confirmation card", nil
	case c.user.Row.locked() || c.user.LongRun.LockedAt != 0:
		return Locked, "the user is locked since " + stamp(max(c.user.Row.LockedAt, c.user.LongRun.LockedAt)) + " by wrong codes", nil
	}
	if state, at := c.state.locked(); state != CardReady {
		return Locked, fmt.Sprintf("the card is %s since %s", state, at.Format(time.RFC3339)), nil
	}
	if c.attempt.Purpose == CardConfirm {
		return "", "", nil
	}
	open, err := openFallback(c.tx, c.realm, c.attempt.User, c.now)
	if err == nil && open.Until.IsZero() {
		return NoFallback, "no card fallback is open", nil
	}
	return "", "", err
}

func (c *confirming) accept() (decision, error) {
	d := decision{
		Result: Result{Outcome: Accepted, At: c.now},
		reason: fmt.Sprintf("challenge %d, cells %s", c.state.Challenge, c.labels()),
	}
	next := c.state.next(drawCells(c.seen.Layout.size(), c.realm.Card.Asked, c.state.places()))
	next.UsedAt = c.now.Unix()
	return d, c.put(next)
}

func (c *confirming) countWrong() (decision, error) {
	c.state.Failures++
	if int(c.state.Failures) >= c.realm.Card.Tries {
		c.state.LockedAt = c.now.Unix()
	}
	c.state.LongRun = c.state.LongRun.fail(cardLongRun, c.now)
	d := decision{Result: Result{Outcome: Wrong, At: c.now}}
	d.reason = fmt.Sprintf("challenge %d, cells %s: wrong answer, %d of %d", c.state.Challenge, c.labels(), c.state.Failures, c.realm.Card.Tries)
	if state, _ := c.state.locked(); state != CardReady {
		d.Locked = true
		d.reason += fmt.Sprintf("; the card is %s now", state)
	} else {
		d.TriesLeft = c.state.triesLeft(*c.realm.Card, c.now)
	}
	var err error
	if d.alarm, err = c.countInRealm(); err != nil {
		return decision{}, err
	}
	return d, c.put(c.state)
}

func (c *confirming) put(s cardState) error {
	return c.tx.Put(cardStateKey(c.attempt.Realm, c.attempt.User), s.encode())
}

// labels names the cells that are asked for. What stands in them is never told.
func (c *confirming) labels() string {
	var labels []string
	for _, cell := range c.state.asked(c.seen.Layout) {
		labels = append(labels, c.seen.Layout.Label(cell))
	}
	return strings.Join(labels, ", ")
}

// cardState is the hot record of a card: as for the others (hot.go), its fields
// are its layout, after a version byte.
type cardState struct {
	Challenge uint64              // the number of the one that is open
	Count     uint8               // how many cells it asks for
	Places    [MaxCardAsked]uint8 // which, in reading order
	Failures  uint8               // wrong answers to it
	LockedAt  int64               // unix seconds; 0: not locked
	UsedAt    int64               // unix seconds of the last right answer; 0: never
	LongRun   longRun
}

const cardStateVersion = 1

func (s cardState) encode() []byte {
	b, err := binary.Append([]byte{cardStateVersion}, binary.BigEndian, s)
	if err != nil {
		panic(err) // a field without a fixed size
	}
	return b
}

func readCardState(r store.Reader, realm, user string) (cardState, error) {
	b, err := r.Get(cardStateKey(realm, user))
	if err != nil || b == nil {
		return cardState{}, err
	}
	s, ok := decodeCardState(b)
	if !ok {
		return s, fmt.Errorf("%w %q: %d bytes", errHotRecord, cardStateKey(realm, user), len(b))
	}
	return s, nil
}

func decodeCardState(b []byte) (s cardState, ok bool) {
	ok = len(b) > 0 && b[0] == cardStateVersion && decodeExactly(b[1:], &s) && s.Count <= MaxCardAsked
	return s, ok
}

// next is the state with a new challenge.
func (s cardState) next(places []uint8) cardState {
	s.Challenge++
	s.Count, s.Places = uint8(len(places)), [MaxCardAsked]uint8{}
	copy(s.Places[:], places)
	s.Failures = 0
	return s
}

func (s cardState) places() []uint8 { return slices.Clone(s.Places[:s.Count]) }

func (s cardState) asked(l CardLayout) []Cell {
	var cells []Cell
	for _, place := range s.places() {
		cells = append(cells, l.at(place))
	}
	return cells
}

// locked says whether the card can be used, and since when it can't.
func (s cardState) locked() (CardState, time.Time) {
	switch {
	case s.LongRun.LockedAt != 0:
		return CardSpent, unixTime(s.LongRun.LockedAt)
	case s.LockedAt != 0:
		return CardLocked, unixTime(s.LockedAt)
	}
	return CardReady, time.Time{}
}

// triesLeft is how many wrong answers in a row a ready card still allows.
func (s cardState) triesLeft(p CardPolicy, now time.Time) int {
	return max(1, min(p.Tries-int(s.Failures), cardLongRun-s.LongRun.turn(now.Unix()/week).sum()))
}

package verifier_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"otpgate/internal/store"
	"otpgate/verifier"
)

var branch = verifier.By{Who: "clerk", Reason: "the customer asked for it", Form: "12"}

const day = 24 * time.Hour

// cardGate is a gate with the guide's cards in the realm retail, and hanako, who
// has one.
type cardGate struct {
	*gate
	cells []string // what is printed on it
}

func newCardGate(t *testing.T) *cardGate {
	g := &cardGate{gate: newGate(t)}
	realm := g.Realms["retail"]
	realm.Card = &verifier.CardPolicy{
		Layout: verifier.CardLayout{Columns: strings.Split("アイウエオカキク", ""), Rows: 1, Digits: 1},
		Asked:  2, Tries: 3, FallbackMax: 14 * day,
	}
	g.Realms["retail"] = realm
	g.importCards("user,cells\nhanako,00000000\n", false)
	g.issue("hanako")
	return g
}

func (g *cardGate) importCards(csv string, replace bool) verifier.ImportedCards {
	g.t.Helper()
	done, err := g.ImportCards(g.t.Context(), branch, verifier.CardImport{Realm: "retail", File: []byte(csv), Replace: replace})
	g.must(err)
	return done
}

func (g *cardGate) issue(user string) {
	g.t.Helper()
	_, cells, _, err := g.IssueCard(g.t.Context(), branch, verifier.NewCard{Realm: "retail", User: user})
	g.must(err)
	g.cells = cells
}

func (g *cardGate) challenge() verifier.Challenge {
	g.t.Helper()
	c, err := g.Challenge(g.t.Context(), "retail", "hanako")
	g.must(err)
	return c
}

func (g *cardGate) info() verifier.CardInfo {
	g.t.Helper()
	info, err := g.Card(g.t.Context(), "retail", "hanako")
	g.must(err)
	return info
}

// right is what hanako reads off her card.
func (g *cardGate) right(c verifier.Challenge) []string {
	var answers []string
	for _, cell := range c.Asked {
		answers = append(answers, g.cells[cell.Row*len(c.Layout.Columns)+cell.Column])
	}
	return answers
}

// wrongCells has one cell right and the other not.
func (g *cardGate) wrongCells(c verifier.Challenge) []string {
	answers := g.right(c)
	answers[1] = string('0' + (answers[1][0]-'0'+1)%10)
	return answers
}

func (g *cardGate) confirm(a verifier.CardAttempt) verifier.Result {
	g.t.Helper()
	a.Realm, a.Door, a.Client = "retail", "test", "portal"
	if a.User == "" {
		a.User = "hanako"
	}
	if a.Purpose == "" {
		a.Purpose = verifier.CardConfirm
	}
	r, err := g.Confirm(g.t.Context(), a)
	g.must(err)
	return r
}

// answer answers the open challenge.
func (g *cardGate) answer(purpose verifier.CardPurpose, right bool, want verifier.Outcome) verifier.Result {
	g.t.Helper()
	c := g.challenge()
	answers := g.right(c)
	if !right {
		answers = g.wrongCells(c)
	}
	r := g.confirm(verifier.CardAttempt{Purpose: purpose, Challenge: c.Number, Answers: answers})
	if r.Outcome != want {
		g.t.Fatalf("answered right (%v) for %s: %s, want %s: %s", right, purpose, r.Outcome, want, g.lastReason())
	}
	return r
}

func (g *cardGate) lastReason() string { return g.log.entries[len(g.log.entries)-1].Detail }

func (g *cardGate) refused(err error, hint string) {
	g.t.Helper()
	var why *verifier.Refusal
	if !errors.As(err, &why) || !strings.Contains(err.Error(), hint) {
		g.t.Errorf("%v, want a refusal that says %q", err, hint)
	}
}

func TestTheSameCellsAreAskedUntilTheyAreRight(t *testing.T) {
	g := newCardGate(t)
	first := g.challenge()
	if len(first.Asked) != 2 || first.Asked[0].Column >= first.Asked[1].Column || first.TriesLeft != 3 {
		t.Fatalf("challenge %+v", first)
	}
	for left := 2; left >= 1; left-- {
		if r := g.answer(verifier.CardConfirm, false, verifier.Wrong); r.TriesLeft != left || r.Locked {
			t.Errorf("wrong: %+v, want %d left", r, left)
		}
		g.reopen()
		g.advance(3 * day)
		now := g.challenge()
		if now.TriesLeft != left {
			t.Errorf("%d tries left, want %d", now.TriesLeft, left)
		}
		now.TriesLeft = first.TriesLeft
		if diff := cmp.Diff(first, now); diff != "" {
			t.Fatalf("after a wrong answer and a restart something else is asked:\n%s", diff)
		}
	}
	if r := g.answer(verifier.CardConfirm, true, verifier.Accepted); r.At != g.now {
		t.Errorf("right: %+v", r)
	}
	// The pair that was answered isn't asked again at once.
	for range 50 {
		before := g.challenge()
		g.answer(verifier.CardConfirm, true, verifier.Accepted)
		if after := g.challenge(); after.Number != before.Number+1 || slices.Equal(before.Asked, after.Asked) {
			t.Fatalf("after %+v came %+v", before, after)
		}
	}
}

func TestEveryCellIsAskedSometimes(t *testing.T) {
	g := newCardGate(t)
	asked := map[int]int{}
	for range 100 {
		for _, cell := range g.challenge().Asked {
			asked[cell.Column]++
		}
		g.answer(verifier.CardConfirm, true, verifier.Accepted)
	}
	if len(asked) != 8 { // (6/8)^100 for one that is left out
		t.Errorf("asked for, by column: %v", asked)
	}
}

func TestThreeWrongAnswersLockTheCard(t *testing.T) {
	g := newCardGate(t)
	asked := g.challenge().Asked
	g.answer(verifier.CardConfirm, false, verifier.Wrong)
	g.answer(verifier.CardConfirm, false, verifier.Wrong)
	if r := g.answer(verifier.CardConfirm, false, verifier.Wrong); !r.Locked || r.TriesLeft != 0 {
		t.Errorf("the third wrong answer: %+v", r)
	}
	g.advance(100 * day) // no timer opens it
	if r := g.answer(verifier.CardConfirm, true, verifier.Locked); !r.Locked {
		t.Errorf("a right answer for a locked card: %+v", r)
	}
	if c := g.challenge(); c.State != verifier.CardLocked || c.TriesLeft != 0 {
		t.Errorf("challenge %+v", c)
	}
	if a := g.account("hanako"); a.Failures != 0 || !a.LockedAt.IsZero() {
		t.Errorf("wrong cells were counted as wrong codes: %+v", a)
	}

	info, receipt, err := g.UnlockCard(t.Context(), branch, "retail", "hanako")
	g.must(err)
	if info.State != verifier.CardReady || receipt.Number == "" || !slices.Equal(info.Asked, asked) {
		t.Errorf("unlocked: %+v, receipt %q; %v was asked before", info, receipt.Number, asked)
	}
	if e := g.log.entries[len(g.log.entries)-1]; e.Event != "card.unlock" || e.Receipt != receipt.Number || e.Form != "12" || e.Detail != branch.Reason {
		t.Errorf("audit: %+v", e)
	}
	_, _, err = g.UnlockCard(t.Context(), branch, "retail", "hanako")
	g.refused(err, "is not locked")
	g.answer(verifier.CardConfirm, true, verifier.Accepted)
}

// A guesser who gives up before the lock and lets the customer clear the count
// has ten tries, not endless ones.
func TestWrongAnswersBetweenRightOnesAddUp(t *testing.T) {
	g := newCardGate(t)
	for wrong := 0; wrong < 10; {
		for range min(2, 10-wrong) {
			wrong++
			if r := g.answer(verifier.CardConfirm, false, verifier.Wrong); r.Locked != (wrong == 10) {
				t.Fatalf("wrong answer %d: %+v", wrong, r)
			}
		}
		if wrong < 10 {
			g.advance(day)
			g.answer(verifier.CardConfirm, true, verifier.Accepted)
		}
	}
	g.advance(365 * day)
	g.answer(verifier.CardConfirm, true, verifier.Locked)
	_, _, err := g.UnlockCard(t.Context(), branch, "retail", "hanako")
	g.refused(err, "issue a new one")
	if s := g.info().State; s != verifier.CardSpent {
		t.Errorf("the card is %s", s)
	}
	g.issue("hanako")
	g.answer(verifier.CardConfirm, true, verifier.Accepted)
}

func TestOldWrongAnswersAreForgotten(t *testing.T) {
	g := newCardGate(t)
	for range 20 {
		g.answer(verifier.CardConfirm, false, verifier.Wrong)
		g.answer(verifier.CardConfirm, true, verifier.Accepted)
		g.advance(14 * day)
	}
}

func TestParallelAnswers(t *testing.T) {
	outcomes := func(g *cardGate, answers []string, number uint64) map[verifier.Outcome]int {
		var mu sync.Mutex
		count := map[verifier.Outcome]int{}
		var all sync.WaitGroup
		for range 200 {
			all.Go(func() {
				r, err := g.Confirm(g.t.Context(), verifier.CardAttempt{
					Realm: "retail", User: "hanako", Purpose: verifier.CardConfirm, Challenge: number, Answers: answers, Door: "test",
				})
				if err != nil {
					g.t.Error(err)
				}
				mu.Lock()
				count[r.Outcome]++
				mu.Unlock()
			})
		}
		all.Wait()
		return count
	}
	t.Run("wrong", func(t *testing.T) {
		g := newCardGate(t)
		c := g.challenge()
		got := outcomes(g, g.wrongCells(c), c.Number)
		if diff := cmp.Diff(map[verifier.Outcome]int{verifier.Wrong: 3, verifier.Locked: 197}, got); diff != "" {
			t.Error(diff)
		}
		if after := g.challenge(); !slices.Equal(after.Asked, c.Asked) {
			t.Errorf("%v was asked, then %v", c.Asked, after.Asked)
		}
	})
	t.Run("right", func(t *testing.T) {
		g := newCardGate(t)
		c := g.challenge()
		got := outcomes(g, g.right(c), c.Number)
		if diff := cmp.Diff(map[verifier.Outcome]int{verifier.Accepted: 1, verifier.Replayed: 199}, got); diff != "" {
			t.Error(diff)
		}
		if info := g.info(); info.Failures != 0 || info.WrongOfLate != 0 {
			t.Errorf("answers that came late were counted: %+v", info)
		}
	})
}

func TestAnswersToAnotherChallengeAreNotCompared(t *testing.T) {
	g := newCardGate(t)
	old := g.challenge()
	g.issue("hanako") // the page still shows the old card's
	for _, number := range []uint64{old.Number, 0, old.Number + 2} {
		r := g.confirm(verifier.CardAttempt{Challenge: number, Answers: g.right(g.challenge())})
		if r.Outcome != verifier.Replayed {
			t.Errorf("challenge %d: %s", number, r.Outcome)
		}
	}
	if n := g.info().WrongOfLate; n != 0 {
		t.Errorf("%d were counted", n)
	}
}

func TestWhatPeopleTypeIntoCells(t *testing.T) {
	fullWidth := func(s string) string {
		return strings.Map(func(r rune) rune { return r - '0' + '０' }, s)
	}
	for name, typed := range map[string]func(a []string) []string{
		"full width": func(a []string) []string { return []string{fullWidth(a[0]), a[1]} },
		"spaces":     func(a []string) []string { return []string{" " + a[0], a[1] + "\u3000"} },
	} {
		t.Run(name, func(t *testing.T) {
			g := newCardGate(t)
			c := g.challenge()
			if r := g.confirm(verifier.CardAttempt{Challenge: c.Number, Answers: typed(g.right(c))}); r.Outcome != verifier.Accepted {
				t.Errorf("%s", r.Outcome)
			}
		})
	}
	for name, typed := range map[string]func(a []string) []string{
		"nothing":           func([]string) []string { return nil },
		"one cell":          func(a []string) []string { return a[:1] },
		"both in one field": func(a []string) []string { return []string{a[0] + a[1], ""} },
		"joined by the separator": func(a []string) []string {
			return []string{a[0] + "\x00" + a[1]}
		},
		"one too many":   func(a []string) []string { return append(a, "") },
		"far too many":   func(a []string) []string { return slices.Repeat(a, 100) },
		"with more":      func(a []string) []string { return []string{a[0], a[1] + "0"} },
		"far too long":   func(a []string) []string { return []string{a[0], a[1] + strings.Repeat(" ", 100)} },
		"the wrong way":  func(a []string) []string { return []string{a[1], a[0]} },
		"other numerals": func(a []string) []string { return []string{"٣", a[1]} },
	} {
		t.Run(name, func(t *testing.T) {
			g := newCardGate(t)
			g.importCards("user,cells\nhanako,01234567\n", true) // no two cells are equal
			g.cells = strings.Split("01234567", "")
			c := g.challenge()
			if r := g.confirm(verifier.CardAttempt{Challenge: c.Number, Answers: typed(g.right(c))}); r.Outcome != verifier.Wrong {
				t.Errorf("%s", r.Outcome)
			}
		})
	}
}

func TestWhoHasNoCard(t *testing.T) {
	g := newCardGate(t)
	g.newToken("jiro", "T1")
	counting := &countingStore{Records: g.Records}
	g.Records = counting
	for _, c := range []struct {
		realm, user string
		want        verifier.Outcome
	}{
		{"retail", "jiro", verifier.NoCard},
		{"retail", "nobody", verifier.NoUser},
		{"retail", "no\x00body", verifier.NoUser},
		{"staff", "hanako", verifier.NoUser},
	} {
		if _, err := g.Challenge(t.Context(), c.realm, c.user); !errors.Is(err, verifier.ErrNoCard) {
			t.Errorf("%q in %s: challenge %v", c.user, c.realm, err)
		}
		before := counting.writes
		r, err := g.Confirm(t.Context(), verifier.CardAttempt{Realm: c.realm, User: c.user, Purpose: verifier.CardConfirm, Answers: []string{"0", "0"}})
		if err != nil || r.Outcome != c.want || counting.writes == before {
			t.Errorf("%q in %s: %s, %v, %d writes; want %s", c.user, c.realm, r.Outcome, err, counting.writes-before, c.want)
		}
	}
	_, err := g.Card(t.Context(), "retail", "jiro")
	g.refused(err, "has no confirmation card")
	_, err = g.Card(t.Context(), "staff", "hanako")
	g.refused(err, "has no confirmation cards")
	if _, err := g.Confirm(t.Context(), verifier.CardAttempt{Realm: "nowhere"}); !errors.Is(err, verifier.ErrNoDecision) {
		t.Errorf("no such realm: %v", err)
	}
}

// A lock of the user holds here too: no other flow goes around it.
func TestALockedUserIsNotConfirmed(t *testing.T) {
	g := newCardGate(t)
	g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T1", InService: true})
	for range 10 {
		g.expect("hanako", g.wrong("T1"), verifier.Wrong)
	}
	g.answer(verifier.CardConfirm, true, verifier.Locked)
}

func TestNothingPassesThatIsNotOnDisk(t *testing.T) {
	g := newCardGate(t)
	c := g.challenge()
	attempt := verifier.CardAttempt{Realm: "retail", User: "hanako", Purpose: verifier.CardConfirm, Challenge: c.Number, Answers: g.right(c)}
	broken := errors.New("disk full")

	g.Records = &hookedStore{Records: g.db, fail: broken}
	if r, err := g.Confirm(t.Context(), attempt); !errors.Is(err, verifier.ErrNoDecision) || r.Outcome != "" {
		t.Errorf("no commit: %+v, %v", r, err)
	}
	g.Records = g.db
	g.log.fail = broken
	if r, err := g.Confirm(t.Context(), attempt); !errors.Is(err, verifier.ErrNoDecision) || r.Outcome != "" {
		t.Errorf("no audit entry: %+v, %v", r, err)
	}
	g.log.fail = nil
	g.answer(verifier.CardConfirm, true, verifier.Accepted)
	g.advance(-time.Hour)
	if _, err := g.Confirm(t.Context(), attempt); !errors.Is(err, verifier.ErrClockBehind) {
		t.Errorf("our clock is behind: %v", err)
	}
}

// What is printed on cards is neither in the database nor in the log, but every
// try is.
func TestCellsAreNowhereInClear(t *testing.T) {
	g := newCardGate(t)
	g.importCards("user,cells\nhanako,90817263\n", true)
	g.cells = strings.Split("90817263", "")
	g.answer(verifier.CardConfirm, false, verifier.Wrong)
	g.answer(verifier.CardConfirm, true, verifier.Accepted)
	g.must(g.db.Close())
	file, err := os.ReadFile(g.path)
	g.must(err)
	g.open()
	if bytes.Contains(file, []byte("90817263")) {
		t.Error("the database shows the cells")
	}
	var outcomes []string
	for _, e := range g.log.entries {
		if e.Event == "card.confirm" {
			outcomes = append(outcomes, e.Outcome)
			if e.User != "hanako" || e.Serial != g.info().ID || e.Client != "portal" || !strings.HasPrefix(e.Detail, "challenge 3, cells ") {
				t.Errorf("entry %+v", e)
			}
		}
		if strings.Contains(fmt.Sprint(e), "90817263") {
			t.Errorf("the log shows the cells: %+v", e)
		}
	}
	if !slices.Equal(outcomes, []string{"wrong", "accepted"}) {
		t.Errorf("tries in the log: %v", outcomes)
	}
}

// Whoever can write to the database alone makes a card useless, not easier.
func TestAChangedCardIsNoCard(t *testing.T) {
	for _, change := range [][2]string{
		{`"digits":1`, `"digits":0`},
		{`"user":"hanako"`, `"user":"jiro"`},
		{`"columns":["ア"`, `"columns":["イ"`},
	} {
		g := newCardGate(t)
		c := g.challenge()
		key := store.Key("card", "retail", "hanako")
		g.must(g.Records.Update(t.Context(), func(tx store.Txn) error {
			record, err := tx.Get(key)
			g.must(err)
			changed := bytes.Replace(record, []byte(change[0]), []byte(change[1]), 1)
			if bytes.Equal(changed, record) {
				t.Fatalf("%s isn't in %s", change[0], record)
			}
			return tx.Put(key, changed)
		}))
		for _, answers := range [][]string{g.right(c), {"", ""}} {
			r, err := g.Confirm(t.Context(), verifier.CardAttempt{
				Realm: "retail", User: "hanako", Purpose: verifier.CardConfirm, Challenge: c.Number, Answers: answers,
			})
			if !errors.Is(err, verifier.ErrNoDecision) || r.Outcome != "" {
				t.Errorf("%s: %+v, %v", change[1], r, err)
			}
		}
	}
}

// resealer seals everything anew, as a rotation of data keys does.
type resealer struct{ verifier.Sealer }

func (r resealer) Reseal(recordKey, purpose string, sealed []byte) ([]byte, bool, error) {
	plain, err := r.Open(recordKey, purpose, sealed)
	if err != nil {
		return nil, false, err
	}
	return r.Seal(recordKey, purpose, plain), true, nil
}

func TestACardOutlivesARotation(t *testing.T) {
	g := newCardGate(t)
	reseal := verifier.Reseal(resealer{g.Seal})[store.Prefix("card")]
	key := store.Key("card", "retail", "hanako")
	g.must(g.Records.Update(t.Context(), func(tx store.Txn) error {
		before, err := tx.Get(key)
		g.must(err)
		after, changed, err := reseal(key, before)
		if err != nil || !changed || bytes.Equal(before, after) {
			t.Fatalf("resealed: changed %v, %v", changed, err)
		}
		return tx.Put(key, after)
	}))
	g.answer(verifier.CardConfirm, true, verifier.Accepted)
}

func TestANewCardReplacesTheOld(t *testing.T) {
	g := newCardGate(t)
	old := g.info()
	g.answer(verifier.CardConfirm, false, verifier.Wrong)

	_, _, _, err := g.IssueCard(t.Context(), verifier.By{Who: "clerk"}, verifier.NewCard{Realm: "retail", User: "hanako"})
	g.refused(err, "has card "+old.ID+" already")
	_, _, _, err = g.IssueCard(t.Context(), branch, verifier.NewCard{Realm: "retail", User: "nobody"})
	g.refused(err, "there is no user")
	_, _, _, err = g.IssueCard(t.Context(), branch, verifier.NewCard{Realm: "retail", User: "hanako", ID: "ア"})
	g.refused(err, "is no card number")

	c, cells, receipt, err := g.IssueCard(t.Context(), branch, verifier.NewCard{Realm: "retail", User: "hanako", ID: "C-2"})
	g.must(err)
	if len(cells) != 8 || strings.Join(cells, "") == strings.Join(g.cells, "") || receipt.Number == "" {
		t.Errorf("card %+v with %d cells, receipt %+v", c, len(cells), receipt)
	}
	if e := g.log.entries[len(g.log.entries)-1]; e.Event != "card.issue" || e.Receipt != receipt.Number || !strings.Contains(e.Detail, "in place of card "+old.ID) {
		t.Errorf("audit: %+v", e)
	}
	if info := g.info(); info.ID != "C-2" || info.Failures != 0 || info.WrongOfLate != 0 {
		t.Errorf("shown: %+v", info)
	}
	// A number is taken while its card is in use, and free afterwards.
	g.newToken("jiro", "T1")
	_, _, _, err = g.IssueCard(t.Context(), branch, verifier.NewCard{Realm: "retail", User: "jiro", ID: "C-2"})
	g.refused(err, "hanako@retail has it")
	_, _, _, err = g.IssueCard(t.Context(), branch, verifier.NewCard{Realm: "retail", User: "jiro", ID: old.ID})
	g.must(err)
}

func TestLargerCards(t *testing.T) {
	g := newCardGate(t)
	realm := g.Realms["retail"]
	policy := *realm.Card
	policy.Layout = verifier.CardLayout{Columns: []string{"A", "B", "C"}, Rows: 4, Digits: 2}
	policy.Asked = 4
	realm.Card = &policy
	g.Realms["retail"] = realm

	if c := g.challenge(); len(c.Asked) != 2 || c.Layout.Rows != 1 {
		t.Errorf("a card in use changed with gateway.yaml: %+v", c)
	}
	g.issue("hanako")
	if c := g.challenge(); len(c.Asked) != 4 || c.Layout.Label(verifier.Cell{Row: 3, Column: 1}) != "B4" {
		t.Errorf("challenge %+v", c)
	}
	for range 20 {
		g.answer(verifier.CardConfirm, false, verifier.Wrong)
		g.answer(verifier.CardConfirm, true, verifier.Accepted)
		g.advance(14 * day)
	}
}

// suspend and start are steps of the token's life, on the way to a fallback.
func (g *cardGate) suspend(serial string) {
	g.t.Helper()
	g.step(g.Suspend(g.t.Context(), branch, serial))
}

func (g *cardGate) start(serial string) {
	g.t.Helper()
	r, err := g.Start(g.t.Context(), branch, serial, verifier.Typed(g.code(serial, 0)))
	if err != nil || r.Outcome != verifier.Accepted {
		g.t.Fatalf("start: %+v, %v", r, err)
	}
}

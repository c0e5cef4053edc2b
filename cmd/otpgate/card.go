package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/text/width"

	"otpgate/internal/admin"
	"otpgate/verifier"
)

type cardCmd struct {
	Issue    cardIssueCmd    `cmd:"" help:"Make a confirmation card for a user and show it once, to be printed. It replaces the one they have."`
	Import   cardImportCmd   `cmd:"" help:"Take in cards that were printed elsewhere, from a CSV file: all of it or nothing."`
	Show     cardShowCmd     `cmd:"" help:"Show how a user's card stands; never its digits."`
	Unlock   cardUnlockCmd   `cmd:"" help:"Open the lock that wrong answers have set."`
	Fallback cardFallbackCmd `cmd:"" help:"Note that the card stands in for codes until a date, while a user waits for a new token. The log-in page asks for its cells in a later version."`
}

type cardArg struct {
	daemonFlags
	whom
}

type cardIssueCmd struct {
	cardArg
	ID string `name:"card" placeholder:"NUMBER" help:"The number to be printed on it, else one is made."`
	formFlags
}

// Run makes the card and draws it.
func (c cardIssueCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	card, err := client.IssueCard(ctx, c.User.realm, c.User.name, admin.CardStep{ID: c.ID, Reason: c.Reason, Form: c.Form})
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(term.out, card)
	}
	fmt.Fprintf(term.out, "card %s of %s@%s\n", card.ID, card.User, card.Realm)
	drawCard(term.out, card.Layout, card.Cells)
	fmt.Fprintln(term.out, "Print it now: it is shown this once.")
	printReceipt(term, card.Receipt)
	return nil
}

type cardImportCmd struct {
	daemonFlags
	File    string `arg:"" help:"A CSV file with a header: user, cells (all digits of the card, in reading order) and, if they have numbers, card. Users that are missing are made."`
	Realm   string `required:"" help:"The realm of the users."`
	Replace bool   `help:"Let a card replace the one that its user has."`
	DryRun  bool   `help:"Check the file and say what would be done; change nothing."`
	reasonFlags
}

// Run imports the file.
func (c cardImportCmd) Run(ctx context.Context, term terminal) error {
	file, err := readCardFile(c.File)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	done, err := client.ImportCards(ctx, admin.CardImport{
		Realm: c.Realm, File: file, Replace: c.Replace, DryRun: c.DryRun, Reason: c.Reason, Form: c.Form,
	})
	if err != nil {
		return err
	}
	if c.JSON {
		if err := printJSON(term.out, done); err != nil {
			return err
		}
	}
	if len(done.Faults) > 0 {
		for _, f := range done.Faults {
			fmt.Fprintf(term.err, "%s:%d: %s\n", c.File, f.Line, f.Problem)
		}
		return &admin.Problem{Problem: fmt.Sprintf("%s has faults; nothing was changed", c.File), Hint: "correct them and run it again"}
	}
	switch {
	case c.JSON:
		return nil
	case c.DryRun:
		_, err = fmt.Fprintf(term.out, "%s could be taken in, %d of them in place of older ones, with %s\n", count(done.Cards, "card"), done.Replaced, count(done.NewUsers, "new user"))
		return err
	}
	fmt.Fprintf(term.out, "%s taken in, %d of them in place of older ones, with %s\n", count(done.Cards, "card"), done.Replaced, count(done.NewUsers, "new user"))
	printReceipt(term, *done.Receipt)
	return nil
}

// readCardFile reads one byte more than an import may have, so that the gateway
// can say so.
func readCardFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, &usageError{err.Error(), ""}
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, verifier.MaxCardFile+1))
	if err != nil {
		return nil, &usageError{err.Error(), ""}
	}
	return text, nil
}

type cardShowCmd struct{ cardArg }

// Run shows the card.
func (c cardShowCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	card, err := client.Card(ctx, c.User.realm, c.User.name)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(term.out, card)
	}
	return printCard(term, card)
}

type cardUnlockCmd struct {
	cardArg
	reasonFlags
}

// Run unlocks the card.
func (c cardUnlockCmd) Run(ctx context.Context, term terminal) error {
	return c.step(ctx, term, "unlock", admin.CardStep{Reason: c.Reason, Form: c.Form})
}

type cardFallbackCmd struct {
	cardArg
	Until date `xor:"end" required:"" placeholder:"YYYY-MM-DD" help:"Through this day."`
	Days  int  `xor:"end" required:"" placeholder:"N" help:"For N days from now."`
	Close bool `xor:"end" required:"" help:"End it now."`
	reasonFlags
}

// Run opens or closes the fallback.
func (c cardFallbackCmd) Run(ctx context.Context, term terminal) error {
	s := admin.CardStep{Reason: c.Reason, Form: c.Form}
	switch {
	case c.Close:
		return c.step(ctx, term, "close_fallback", s)
	case c.Days != 0:
		s.Until = time.Now().Add(time.Duration(c.Days) * 24 * time.Hour)
	default:
		s.Until = c.Until.end
	}
	return c.step(ctx, term, "open_fallback", s)
}

// date is a day as people write it.
type date struct{ end time.Time }

// UnmarshalText reads YYYY-MM-DD.
func (d *date) UnmarshalText(text []byte) error {
	day, err := time.ParseInLocation(time.DateOnly, string(text), time.Local)
	if err != nil {
		return fmt.Errorf("%q must be a day, such as 2026-12-01", text)
	}
	d.end = day.AddDate(0, 0, 1)
	return nil
}

func (c cardArg) step(ctx context.Context, term terminal, name string, s admin.CardStep) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	card, err := client.StepCard(ctx, c.User.realm, c.User.name, name, s)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(term.out, card)
	}
	if err := printCard(term, card.Card); err != nil {
		return err
	}
	printReceipt(term, card.Receipt)
	return nil
}

func printCard(term terminal, c admin.Card) error {
	fmt.Fprintf(term.out, "card %s of %s@%s, %s\n", c.ID, c.User, c.Realm, c.State)
	fmt.Fprintf(term.out, "made %s, last right answer %s, locked %s\n", when(c.Created), when(c.UsedAt), when(c.LockedAt))
	fmt.Fprintf(term.out, "asked for now: %s; %d wrong answers to that, %d within 13 weeks\n", strings.Join(c.Asked, " "), c.Failures, c.WrongOfLate)
	fallback := "closed"
	if !c.Fallback.IsZero() {
		fallback = "open until " + when(c.Fallback)
	}
	_, err := fmt.Fprintf(term.out, "in place of codes: %s\n", fallback)
	return err
}

// drawCard draws a card as its holder has it: the headings, and the digits below
// them.
func drawCard(w io.Writer, l verifier.CardLayout, cells []string) {
	wide := l.Digits
	for _, heading := range l.Columns {
		wide = max(wide, screenWidth(heading))
	}
	row := func(left string, fields []string) {
		fmt.Fprint(w, left)
		for _, field := range fields {
			gap := wide - screenWidth(field)
			fmt.Fprintf(w, "│ %s%s%s ", strings.Repeat(" ", gap/2), field, strings.Repeat(" ", gap-gap/2))
		}
		fmt.Fprintln(w, "│")
	}
	margin, number := "", func(int) string { return "" }
	if l.Rows > 1 {
		margin, number = "   ", func(i int) string { return fmt.Sprintf("%2d ", i+1) }
	}
	rule := func(left, between, right string) {
		line := strings.Repeat("─", wide+2)
		fmt.Fprintln(w, margin+left+strings.Repeat(line+between, len(l.Columns)-1)+line+right)
	}
	rule("┌", "┬", "┐")
	row(margin, l.Columns)
	for i := range l.Rows {
		rule("├", "┼", "┤")
		row(number(i), cells[i*len(l.Columns):(i+1)*len(l.Columns)])
	}
	rule("└", "┴", "┘")
}

// screenWidth is how many columns of a terminal s takes: kana and kanji two each
// (Unicode Standard Annex #11).
func screenWidth(s string) int {
	n := 0
	for _, r := range s {
		n++
		if k := width.LookupRune(r).Kind(); k == width.EastAsianWide || k == width.EastAsianFullwidth {
			n++
		}
	}
	return n
}

package verifier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"otpgate/internal/audit"
	"otpgate/internal/store"
)

const (
	// MaxCardFile bounds an import, in bytes: MaxCardImport lines with a long
	// name and a large card.
	MaxCardFile = 4 << 20
	// MaxCardImport bounds the cards of an import: it is one transaction, and
	// every answer waits for it, half a second at this size.
	MaxCardImport = 5_000
	// maxCardFaults is how many faults are told: a file of another kind has one
	// in every line.
	maxCardFaults = 100
)

// CardImport says which cards to take in.
type CardImport struct {
	Realm string
	// File is a CSV with a header. Its columns: user (made if missing), cells
	// (the digits of all cells in reading order; spaces and hyphens between them
	// don't count) and, if the cards have numbers, card.
	File    []byte
	Replace bool // cards that users have already; else that is a fault
	DryRun  bool // check and write nothing
}

// ImportedCards is what an import did, or on a dry run would do.
type ImportedCards struct {
	Cards    int
	Replaced int // of them, in place of an older card
	NewUsers int
	Receipt  Receipt // zero on a dry run
}

// CardFault is what is wrong in one line of an import.
type CardFault struct {
	Line    int
	Problem string
}

// CardFaults is the error of an import with faults, all that were found up to a
// bound, by line. Nothing of the file was taken in.
type CardFaults []CardFault

func (f CardFaults) Error() string {
	return fmt.Sprintf("%d faults in the file, the first in line %d: %s", len(f), f[0].Line, f[0].Problem)
}

// ImportCards takes in cards that were printed elsewhere: all of the file, or
// nothing. The error is a CardFaults if a line has a fault, a *Refusal if the
// file as a whole can't be read.
func (v *Verifier) ImportCards(ctx context.Context, by By, in CardImport) (ImportedCards, error) {
	policy, err := v.cardPolicy(in.Realm)
	if err != nil {
		return ImportedCards{}, err
	}
	if err := by.because(stepImportCards); err != nil {
		return ImportedCards{}, err
	}
	lines, err := readCardFile(in.File, in.Realm, policy.Layout)
	if err != nil {
		return ImportedCards{}, err
	}
	if !in.DryRun {
		return v.storeCards(ctx, by, policy, in, lines)
	}
	var plan ImportedCards
	err = v.Records.View(ctx, func(r store.Reader) (err error) {
		plan, err = checkCardLines(r, in, lines)
		return err
	})
	return plan, err
}

func (v *Verifier) storeCards(ctx context.Context, by By, policy CardPolicy, in CardImport, lines []cardLine) (done ImportedCards, err error) {
	cards := make([]Card, len(lines))
	for i, l := range lines {
		cards[i] = v.newCard(l.NewCard, policy.Layout, l.digits)
	}
	receipt, err := v.do(ctx, by, func(tx store.Txn, now time.Time) (entry audit.Entry, err error) {
		if done, err = checkCardLines(tx, in, lines); err != nil {
			return entry, err
		}
		for _, c := range cards {
			if err := addMissingUser(tx, User{V: 1, Realm: c.Realm, Name: c.User, Created: now}); err != nil {
				return entry, err
			}
			c.Created = now
			if err := putCard(tx, policy, c); err != nil {
				return entry, err
			}
		}
		did := fmt.Sprintf("%d cards, %d of them in place of older ones, %d new users", done.Cards, done.Replaced, done.NewUsers)
		return audit.Entry{Event: string(stepImportCards), Realm: in.Realm, Detail: by.andWhy(did)}, nil
	})
	done.Receipt = receipt
	return done, err
}

func addMissingUser(tx store.Txn, u User) error {
	found, err := tx.Get(userKey(u.Realm, u.Name))
	if err != nil || found != nil {
		return err
	}
	return putJSON(tx, userKey(u.Realm, u.Name), u)
}

// cardLine is one card of a file, checked by itself.
type cardLine struct {
	NewCard
	line   int
	digits string
}

// checkCardLines checks a file against what is stored and counts what it would
// change.
func checkCardLines(r store.Reader, in CardImport, lines []cardLine) (plan ImportedCards, err error) {
	var faults CardFaults
	for _, l := range lines {
		user, err := r.Get(userKey(l.Realm, l.User))
		if err != nil {
			return plan, err
		}
		if user == nil {
			plan.NewUsers++
		}
		owner, err := r.Get(cardIDKey(l.Realm, l.ID))
		if err != nil {
			return plan, err
		}
		var old Card
		found, err := getJSON(r, cardKey(l.Realm, l.User), &old)
		switch {
		case err != nil:
			return plan, err
		case owner != nil && string(owner) != l.User:
			faults = append(faults, CardFault{l.line, fmt.Sprintf("there is a card %s already: %s@%s has it", l.ID, owner, l.Realm)})
		case found && !in.Replace:
			faults = append(faults, CardFault{l.line, fmt.Sprintf("%s@%s has card %s already: --replace puts this one in its place", l.User, l.Realm, old.ID)})
		case found:
			plan.Replaced++
		}
		plan.Cards++
	}
	if len(faults) > 0 {
		return ImportedCards{}, faults[:min(len(faults), maxCardFaults)]
	}
	return plan, nil
}

// readCardFile reads the cards of a CSV file, and checks all that the file alone
// can show.
func readCardFile(text []byte, realm string, layout CardLayout) ([]cardLine, error) {
	if len(text) > MaxCardFile {
		return nil, refuse("split it", "the file is larger than %d MiB", MaxCardFile>>20)
	}
	table, err := openCSV(bytes.NewReader(text), []string{"user", "cells", "card"}, []string{"user", "cells"})
	if err != nil {
		return nil, err
	}
	c := cardReader{table: table, realm: realm, layout: layout, users: map[string]int{}, ids: map[string]int{}}
	return c.readAll()
}

// cardReader checks the lines of one file.
type cardReader struct {
	table  *csvTable
	realm  string
	layout CardLayout
	users  map[string]int // the line of each
	ids    map[string]int
	faults CardFaults
}

func (c *cardReader) readAll() ([]cardLine, error) {
	var lines []cardLine
	for len(c.faults) < maxCardFaults {
		at, err := c.table.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if fault := (*EntryError)(nil); errors.As(err, &fault) {
			c.fault(at, "%s", fault.Problem)
			continue
		}
		if err != nil && len(c.faults) > 0 {
			break
		}
		if err != nil {
			return nil, err
		}
		if len(lines) == MaxCardImport {
			return nil, refuse("split it", "the file has more than %d cards", MaxCardImport)
		}
		lines = append(lines, c.line(at))
	}
	switch {
	case len(c.faults) > 0:
		return nil, c.faults
	case len(lines) == 0:
		return nil, refuse("each line below the header is one", "the file has no cards")
	}
	return lines, nil
}

// line checks one line. What it returns is of use only if it has no fault.
func (c *cardReader) line(at int) cardLine {
	field := func(name string) string { return strings.Clone(c.table.field(name)) }
	l := cardLine{line: at, digits: Normalise(field("cells")), NewCard: NewCard{Realm: c.realm, User: field("user"), ID: field("card")}}
	if err := CheckUserName(l.User); err != nil {
		c.fault(at, "%s", err)
	} else {
		c.once(at, c.users, l.User, "the user")
	}
	if l.ID == "" {
		l.ID = newCardID()
	}
	if err := checkCardID(l.ID); err != nil {
		c.fault(at, "%s", err)
	} else {
		c.once(at, c.ids, l.ID, "card")
	}
	switch want := c.layout.size() * c.layout.Digits; {
	case !isDigits(l.digits):
		c.fault(at, "cells must be digits only")
	case len(l.digits) != want:
		c.fault(at, "cells have %d digits, and a card of the realm %d (spreadsheets drop zeros in front)", len(l.digits), want)
	}
	return l
}

// once records a fault if value was in an earlier line.
func (c *cardReader) once(at int, seen map[string]int, value, what string) {
	if first, twice := seen[value]; twice {
		c.fault(at, "%s %s is in line %d already", what, value, first)
		return
	}
	seen[value] = at
}

func (c *cardReader) fault(at int, format string, args ...any) {
	c.faults = append(c.faults, CardFault{Line: at, Problem: fmt.Sprintf(format, args...)})
}

package verifier_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"otpgate/verifier"
)

func TestImportCards(t *testing.T) {
	g := newCardGate(t)
	// As a spreadsheet writes it: a mark first, CRLF, columns in any order.
	file := "\uFEFFCard,User,Cells\r\nC-1,hanako,01234567\r\n\r\nC-2,00123456789,9 8 7 6-5 4 3 2\r\n,jiro,００００００００\r\n"
	in := verifier.CardImport{Realm: "retail", File: []byte(file), Replace: true, DryRun: true}
	plan, err := g.ImportCards(t.Context(), branch, in)
	if want := (verifier.ImportedCards{Cards: 3, Replaced: 1, NewUsers: 2}); err != nil || plan != want {
		t.Errorf("dry run: %+v, %v", plan, err)
	}
	if _, err := g.Card(t.Context(), "retail", "jiro"); err == nil {
		t.Error("a dry run made a card")
	}

	done := g.importCards(file, true)
	if done.Cards != 3 || done.Replaced != 1 || done.NewUsers != 2 || done.Receipt.Number == "" {
		t.Errorf("import: %+v", done)
	}
	if e := g.log.entries[len(g.log.entries)-1]; e.Event != "card.import" || e.Receipt != done.Receipt.Number || !strings.HasPrefix(e.Detail, "3 cards, 1 of them") {
		t.Errorf("audit: %+v", e)
	}
	for user, want := range map[string]string{"hanako": "C-1", "00123456789": "C-2"} {
		if info, err := g.Card(t.Context(), "retail", user); err != nil || info.ID != want {
			t.Errorf("%s has %+v, %v", user, info, err)
		}
	}
	g.cells = strings.Split("01234567", "")
	g.answer(verifier.CardConfirm, true, verifier.Accepted)
}

func TestFaultsOfACardFile(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		want verifier.CardFaults
	}{
		"every one": {"user,cells,card\nhanako,01234567,C1\n,01234567,C2\njiro,1234567,C3\njiro,x1234567,C1\nsaburo,01234567,C 4\nshiro,01234567\n", verifier.CardFaults{
			{3, "the user name is empty: give NAME@REALM"},
			{4, "cells have 7 digits, and a card of the realm 8 (spreadsheets drop zeros in front)"},
			{5, "the user jiro is in line 4 already"},
			{5, "card C1 is in line 2 already"},
			{5, "cells must be digits only"},
			{6, `"C 4" is no card number: use 1 to 64 half-width letters, digits, dots, hyphens or underscores`},
			{7, "it has 2 fields, and the first line 3"},
		}},
		"what is there": {"user,cells,card\njiro,01234567,C9\nhanako,01234567,CX\nsaburo,01234567,TAKEN\n", verifier.CardFaults{
			{3, "hanako@retail has card TAKEN already: --replace puts this one in its place"},
			{4, "there is a card TAKEN already: hanako@retail has it"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newCardGate(t)
			_, _, _, err := g.IssueCard(t.Context(), branch, verifier.NewCard{Realm: "retail", User: "hanako", ID: "TAKEN"})
			g.must(err)
			for _, dry := range []bool{true, false} {
				_, err := g.ImportCards(t.Context(), branch, verifier.CardImport{Realm: "retail", File: []byte(c.file), DryRun: dry})
				var faults verifier.CardFaults
				errors.As(err, &faults)
				if diff := cmp.Diff(c.want, faults); diff != "" {
					t.Errorf("dry run %v: %v\n%s", dry, err, diff)
				}
			}
			if _, err := g.Account(t.Context(), "retail", "jiro"); err == nil {
				t.Error("a part of the file was taken in")
			}
		})
	}
}

func TestFilesThatAreNoCards(t *testing.T) {
	g := newCardGate(t)
	for file, hint := range map[string]string{
		"":                         "is empty",
		"user,cells\n":             "has no cards",
		"user\njiro\n":             "no column cells",
		"user,cells,pin\n":         `a column "pin"`,
		"user,user,cells\n":        `a column "user"`,
		"user,cells\n\x8ds,1234\n": "no UTF-8",
		"\"user,cells\n":           "line 1: the quotes are not those of a CSV file",
		cardLines(1) + "\"x":       "line 3: the quotes are not those of a CSV file",
		cardLines(1) + strings.Repeat("1", 1<<20): "longer than",
		strings.Repeat("x", 5<<20):                "larger than 4 MiB",
		cardLines(5_001):                          "more than 5000 cards",
		"user;cells\njiro;01234567\n":             `a column "user;cells"`,
	} {
		_, err := g.ImportCards(t.Context(), branch, verifier.CardImport{Realm: "retail", File: []byte(file)})
		g.refused(err, hint)
	}
	_, err := g.ImportCards(t.Context(), verifier.By{Who: "clerk"}, verifier.CardImport{Realm: "retail", File: []byte(cardLines(1))})
	g.refused(err, "needs a reason")
}

func cardLines(n int) string {
	var b strings.Builder
	b.WriteString("user,cells\n")
	for i := range n {
		fmt.Fprintf(&b, "%011d,%08d\n", i, i)
	}
	return b.String()
}

func FuzzImportCards(f *testing.F) {
	f.Add("user,cells,card\nhanako,01234567,C1\njiro,０１２３４５６７,\n")
	f.Add("\uFEFFcells,user\r\n\"0123\n4567\",a\"b\r\n")
	f.Add("user,cells\n\"x")
	f.Fuzz(func(t *testing.T, file string) {
		g := newCardGate(t)
		done, err := g.ImportCards(t.Context(), branch, verifier.CardImport{Realm: "retail", File: []byte(file), Replace: true, DryRun: true})
		var faults verifier.CardFaults
		var why *verifier.Refusal
		switch {
		case err == nil && done.Cards == 0:
			t.Error("nothing was imported, and nothing is said")
		case err != nil && !errors.As(err, &faults) && !errors.As(err, &why):
			t.Errorf("no words for people: %v", err)
		case len(faults) > 0 && faults[0].Line < 2:
			t.Errorf("a fault in the header's line: %v", err)
		}
	})
}

func FuzzCardAnswers(f *testing.F) {
	g := (*cardGate)(nil)
	f.Add("0", "1")
	f.Add("０", " 1 ")
	f.Add("0\x001", "")
	f.Fuzz(func(t *testing.T, one, two string) {
		g = newCardGate(t)
		c := g.challenge()
		want := verifier.Wrong
		if right := g.right(c); verifier.Normalise(one) == right[0] && verifier.Normalise(two) == right[1] && len(one) <= 64 && len(two) <= 64 {
			want = verifier.Accepted
		}
		if r := g.confirm(verifier.CardAttempt{Challenge: c.Number, Answers: []string{one, two}}); r.Outcome != want {
			t.Errorf("%q, %q: %s, want %s", one, two, r.Outcome, want)
		}
	})
}

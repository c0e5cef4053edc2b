package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"otpgate/config"
	"otpgate/verifier"
)

// card is minimal with a card in its realm, in flow style.
func card(text string) string {
	return strings.Replace(minimal, "}\noidc", ", card: "+text+"}\noidc", 1)
}

func TestCardDefaults(t *testing.T) {
	guide := &config.Card{
		Columns: []string{"ア", "イ", "ウ", "エ", "オ", "カ", "キ", "ク"}, Rows: 1, DigitsPerCell: 1,
		Asked: 2, Tries: 3, FallbackMax: 14 * 24 * time.Hour,
	}
	for text, want := range map[string]*config.Card{
		minimal: nil, card("{}"): guide, card("{rows: 1}"): guide, card("{tries: 3, asked: 2}"): guide,
	} {
		write(t, map[string]string{"gateway.yaml": text})
		c, err := config.Load("gateway.yaml")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, c.Realms[0].Card); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
}

func TestShippedCardIsTheGuides(t *testing.T) {
	write(t, map[string]string{"gateway.yaml": string(config.Shipped()), "defaults.yaml": card("{}")})
	shipped, err := config.Load("gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defaults, err := config.Load("defaults.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(defaults.Realms[0].Card, shipped.Realms[1].Card); diff != "" {
		t.Error(diff)
	}
}

func TestCardGeometry(t *testing.T) {
	columns := func(n int) string {
		return "columns: [" + strings.Join(strings.Split("ABCDEFGHIJKLMNOPQRSTU"[:n], ""), ", ") + "]"
	}
	for text, want := range map[string]string{
		"{" + columns(20) + ", rows: 10, digits_per_cell: 4, asked: 4, tries: 5, fallback_max: 1h}": "",
		"{" + columns(4) + "}":           "",
		"{" + columns(2) + ", rows: 2}":  "",
		"{" + columns(3) + "}":           "card.asked: must be at most half of the card's 3 cells",
		"{" + columns(7) + ", asked: 4}": "card.asked: must be at most half of the card's 7 cells",
		"{" + columns(21) + "}":          "card.columns: must have at most 20, and has 21",
		"{" + columns(1) + ", rows: 10}": "card.columns: must have at least 2, and has 1",
		"{columns: []}":                  "card.columns: must have at least 2, and has 0",
		"{columns: }":                    "card.columns: must be a list, not empty",
		"{columns: [ア, イ, ウ, ア]}":        "card.columns[3]: \"ア\" is taken by realms[0].card.columns[0]",
		"{columns: [ア, イ, ウ, \"\"]}":     "card.columns[3]: must not be empty",
		"{columns: [ア, イ, ウ, \"a b\"]}":  "card.columns[3]: must have no space in it",
		"{columns: [ア, イ, ウ, アイウエオ]}":    "card.columns[3]: must have at most 4 characters, and has 5",
		"{columns: [1, イ, ウ, エ]}":        "card.columns[0]: must be text, not the number 1: put it in quotes",
		"{rows: 11}":                     "card.rows: must be from 1 to 10, not 11",
		"{rows: 0}":                      "card.rows: must be from 1 to 10, not 0",
		"{digits_per_cell: 5}":           "card.digits_per_cell: must be from 1 to 4, not 5",
		"{asked: 1}":                     "card.asked: must be from 2 to 4, not 1",
		"{tries: 6}":                     "card.tries: must be from 1 to 5, not 6",
		"{fallback_max: 337h}":           "card.fallback_max: must be from 1h to 336h",
		"{colums: []}":                   "card.colums: unknown key; did you mean columns?",
	} {
		t.Run(text, func(t *testing.T) {
			write(t, map[string]string{"gateway.yaml": card(text)})
			if want == "" {
				c, err := config.Load("gateway.yaml")
				if err != nil {
					t.Fatal(err)
				}
				if k := c.Realms[0].Card; len(k.Columns)*k.Rows > verifier.MaxCardCells || k.Asked > verifier.MaxCardAsked {
					t.Errorf("more than the verifier takes: %+v", k)
				}
				return
			}
			faults := faultsOf(t)
			if len(faults) != 1 || !strings.Contains(faults[0], "realms[0]."+want) {
				t.Errorf("faults %q, want %q", faults, want)
			}
		})
	}
}

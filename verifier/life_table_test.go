package verifier

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// lifeSteps are the steps in the order in which docs/life.md names them.
var lifeSteps = []step{
	stepImport, stepCreate, stepAssign, stepShowKey, stepStart, stepResync, stepSuspend, stepResume, stepUnusable, stepReissue, stepRelease,
}

// lifeTable is the table of docs/life.md, as the code has it.
func lifeTable() string {
	var b strings.Builder
	b.WriteString("| state | what may be done, and where it leads |\n|---|---|\n")
	for _, state := range append([]TokenState{noToken}, tokenStates...) {
		name := "(no token yet)"
		if state != noToken {
			name = "`" + string(state) + "`"
		}
		var cells []string
		for _, s := range lifeSteps {
			var to []string
			for _, t := range steps[s][state] {
				to = append(to, "`"+string(t)+"`")
			}
			if to != nil {
				cells = append(cells, strings.TrimPrefix(string(s), "token.")+" → "+strings.Join(to, ", "))
			}
		}
		if cells == nil {
			cells = []string{"nothing"}
		}
		b.WriteString("| " + name + " | " + strings.Join(cells, "; ") + " |\n")
	}
	return b.String()
}

func TestTheDocumentedTableIsTheCodes(t *testing.T) {
	doc, err := os.ReadFile("../docs/life.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := lifeTable(); !strings.Contains(string(doc), "\n"+want+"\n") {
		t.Errorf("docs/life.md has another table than life.go, which is:\n%s", want)
	}
}

func TestTheTableIsWhole(t *testing.T) {
	reached := map[TokenState]bool{}
	for s, from := range steps {
		if !slices.Contains(lifeSteps, s) {
			t.Errorf("%s isn't documented", s)
		}
		for state, to := range from {
			if state != noToken && !slices.Contains(tokenStates, state) {
				t.Errorf("%s is allowed in %q, which is no state", s, state)
			}
			for _, next := range to {
				reached[next] = true
			}
		}
		for _, state := range tokenStates {
			if steps[s][state] == nil && hint(s, state) == "" {
				t.Errorf("%s in %s is refused without a hint", s, state)
			}
		}
	}
	for _, state := range tokenStates {
		if !reached[state] {
			t.Errorf("no step leads to %s", state)
		}
		if len(steps[stepRelease][state]) == 0 && state != Released {
			t.Errorf("%s has no end", state)
		}
	}
}

func TestNoStepGoesWhereTheTableDoesNot(t *testing.T) {
	token := Token{Serial: "T1", State: InService, Key: []byte{1}}
	if err := token.move(stepSuspend, Released, token.Changed); err == nil || token.State != InService || token.Key == nil {
		t.Errorf("suspending led to %s, %v", token.State, err)
	}
}

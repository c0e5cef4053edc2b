package radius

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

// docs/radius.md has every reason that the metrics and the log name, in its words.
func TestReasonsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/radius.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []struct {
		file, kind string
		says       func(label string) error
	}{
		{"reason.go", "reason", func(label string) error { return reason(label) }},
		{"refusal.go", "refusal", func(label string) error { return refusal(label) }},
		{"tls.go", "connectionRefusal", func(label string) error { return connectionRefusal(label) }},
	} {
		var want strings.Builder
		want.WriteString("| reason | what it says |\n|---|---|\n")
		for _, label := range labels(t, table.file, table.kind) {
			says := table.says(label).Error()
			if says == label {
				t.Errorf("%s has no sentence", label)
			}
			fmt.Fprintf(&want, "| `%s` | %s |\n", label, says)
		}
		if !strings.Contains(string(page), "\n\n"+want.String()+"\n") && !strings.HasSuffix(string(page), "\n\n"+want.String()) {
			t.Errorf("docs/radius.md doesn't have this table:\n%s", &want)
		}
	}
}

// labels are the values of a file's constants of one type.
func labels(t *testing.T, file, kind string) []string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if of, ok := spec.Type.(*ast.Ident); !ok || of.Name != kind || len(spec.Values) != 1 {
			return true
		}
		label, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, label)
		return true
	})
	if len(found) < 5 {
		t.Fatalf("only %d constants of type %s in %s", len(found), kind, file)
	}
	return found
}

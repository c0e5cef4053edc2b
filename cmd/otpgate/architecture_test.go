package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// arrows says which of the project's packages each may import: the picture in
// docs/ARCHITECTURE.md. Doors (radius, oidc, pages, admin) never import each
// other, and nobody but cmd imports config. A new package is drawn here first.
var arrows = map[string][]string{
	"cmd/otpgate": {
		"config", "radius", "oidc", "verifier", "verifier/otp", "internal/admin", "internal/audit", "internal/durable", "internal/pages",
		"internal/store", "internal/store/bolt", "internal/store/memory", "internal/store/seal", "examples/portal/relyingparty",
	},
	"config": {"radius/dictionary", "oidc/dn", "internal/durable"},

	"radius":            {"verifier", "radius/dictionary"},
	"radius/dictionary": {},
	"oidc":              {"verifier", "internal/store", "oidc/dn"},
	"oidc/dn":           {},
	"internal/pages":    {"verifier"},
	"internal/admin":    {"verifier", "verifier/otp", "internal/audit"},

	"verifier":      {"verifier/otp", "verifier/pskc", "internal/store", "internal/audit"},
	"verifier/otp":  {},
	"verifier/pskc": {"verifier/otp"},

	"internal/store":           {},
	"internal/store/bolt":      {"internal/store", "internal/durable"},
	"internal/store/memory":    {"internal/store"},
	"internal/store/seal":      {"internal/store", "internal/durable"},
	"internal/store/storetest": {"internal/store"},
	"internal/audit":           {"internal/durable"},
	"internal/durable":         {},

	"examples/portal":              {"examples/portal/relyingparty"},
	"examples/portal/relyingparty": {},
}

// Whatever path docs/ARCHITECTURE.md names is there.
func TestArchitecturePaths(t *testing.T) {
	text, err := os.ReadFile("../../docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`([a-z]+/[\\w*./-]+)`").FindAllSubmatch(text, -1)
	if len(named) < 20 {
		t.Errorf("only %q", named)
	}
	for _, n := range named {
		if found, err := filepath.Glob("../../" + string(n[1])); err != nil || len(found) == 0 {
			t.Errorf("there is no %s: %v", n[1], err)
		}
	}
}

func TestPackageArrows(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "otpgate/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for d := json.NewDecoder(bytes.NewReader(out)); ; seen++ {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, "otpgate/")
		allowed, drawn := arrows[name]
		if !drawn {
			t.Errorf("package %s isn't in the picture", name)
		}
		for _, imported := range p.Imports {
			if to, ours := strings.CutPrefix(imported, "otpgate/"); ours && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s: no such arrow", name, to)
			}
		}
	}
	if seen != len(arrows) {
		t.Errorf("%d packages, %d in the picture", seen, len(arrows))
	}
}

package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each excerpt of gateway.yaml in docs/gear is one that config check accepts,
// beside what a file has to have.
func TestGearPages(t *testing.T) {
	pages, err := filepath.Glob("../../docs/gear/*.md")
	if err != nil || len(pages) < 9 {
		t.Fatalf("only %q, %v", pages, err)
	}
	index := read(t, "../../docs/gear/README.md")
	for _, page := range pages {
		t.Run(filepath.Base(page), func(t *testing.T) {
			excerpts := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(read(t, page), -1)
			if len(excerpts) == 0 {
				t.Error("no excerpt of gateway.yaml")
			}
			for _, e := range excerpts {
				s := site{dir: t.TempDir()}
				s.config = filepath.Join(s.dir, "gateway.yaml")
				write(t, s.config, e[1]+"oidc: { issuer: https://otp.bank.example }\n")
				if out, err := s.otpgate("config", "check"); err != nil {
					t.Errorf("%v\n%s\n%s", err, out, e[1])
				}
			}
			if name := filepath.Base(page); name != "README.md" && !strings.Contains(index, "]("+name+")") {
				t.Error("the index doesn't name it")
			}
		})
	}
}

// The reasons that the index explains are those that the gateway gives.
func TestGearReasons(t *testing.T) {
	source := read(t, "../../radius/reason.go") + read(t, "../../radius/refusal.go")
	_, table, _ := strings.Cut(read(t, "../../docs/gear/README.md"), "## When nobody passes")
	explained := regexp.MustCompile("`([a-z]+_[a-z_]+)`").FindAllStringSubmatch(table, -1)
	if len(explained) < 4 {
		t.Errorf("only %q", explained)
	}
	for _, e := range explained {
		if !strings.Contains(source, `"`+e[1]+`"`) {
			t.Errorf("the gateway never gives the reason %s", e[1])
		}
	}
}

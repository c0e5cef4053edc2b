package oidc_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The cases of the OpenID Foundation's public conformance plans, by the names of
// their modules, over real HTTPS. The suite itself isn't run: a case is what its
// module's description says. What can't apply to a second factor without sessions
// stands in docs/conformance.md with its reason.

// TestConformanceBasic is the basic OP plan, of a client with profile oidc.
func TestConformanceBasic(t *testing.T) {
	b := newBasicOP(t)
	for name, module := range basicModules() {
		t.Run(name, func(t *testing.T) {
			b.t = t
			defer func() { b.t = b.parent }()
			module(t, b)
		})
	}
}

// TestConformanceFAPI2 is the FAPI 2.0 security profile's plan: private_key_jwt and
// DPoP, each module at a gate of its own.
func TestConformanceFAPI2(t *testing.T) {
	for name, module := range fapiModules() {
		t.Run(name, func(t *testing.T) { module(t, newGate(t)) })
	}
}

// The plans, and how many modules each has.
func conformancePlans() map[string]int {
	return map[string]int{
		"oidcc-basic-certification-test-plan":    38,
		"oidcc-config-certification-test-plan":   1,
		"fapi2-security-profile-final-test-plan": 62,
	}
}

// docs/conformance.md has each module of the plans once, and those that pass are
// those that have a test.
func TestConformancePage(t *testing.T) {
	page, err := os.ReadFile("../docs/conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := slices.Concat(slices.Collect(maps.Keys(basicModules())), slices.Collect(maps.Keys(fapiModules())), []string{configModule})
	listed := map[string]bool{}
	plans := regexp.MustCompile("(?m)^## .*`(.*-plan)`").FindAllSubmatchIndex(page, -1)
	for i, at := range plans {
		plan, end := string(page[at[2]:at[3]]), len(page)
		if i+1 < len(plans) {
			end = plans[i+1][0]
		}
		rows := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]+) \\|([^|]*)\\|$").FindAllStringSubmatch(string(page[at[1]:end]), -1)
		if want, known := conformancePlans()[plan]; !known || len(rows) != want {
			t.Errorf("%s: %d modules, want %d", plan, len(rows), want)
		}
		for _, row := range rows {
			if problem := checkRow(row[1], row[2], row[3], listed[row[1]], slices.Contains(tests, row[1])); problem != "" {
				t.Errorf("%s: %s", row[1], problem)
			}
			listed[row[1]] = true
		}
	}
	if len(plans) != len(conformancePlans()) {
		t.Errorf("%d plans", len(plans))
	}
	for _, name := range tests {
		if !listed[name] {
			t.Errorf("%s is tested, and not in the page", name)
		}
	}
}

// checkRow says what is wrong with a row of the page.
func checkRow(name, result, reason string, twice, tested bool) string {
	switch {
	case twice:
		return "is there twice"
	case result == "pass" && !tested:
		return "passes, and has no test"
	case result != "pass" && result != "can't apply":
		return fmt.Sprintf("%q is no result", result)
	case result == "can't apply" && tested:
		return "can't apply, and has a test"
	case result == "can't apply" && strings.TrimSpace(reason) == "":
		return "has no reason"
	}
	return ""
}

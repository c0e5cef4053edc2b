package main

import (
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// Each decision has the number of its file in its heading, and no other has it.
func TestDecisionsAreNumbered(t *testing.T) {
	files, err := filepath.Glob("../../docs/decisions/*.md")
	if err != nil || len(files) < 14 {
		t.Fatalf("%d decisions, %v", len(files), err)
	}
	taken := map[int]string{}
	for _, file := range files {
		name := filepath.Base(file)
		inName := regexp.MustCompile(`^(\d{4})-[a-z0-9-]+\.md$`).FindStringSubmatch(name)
		inHeading := regexp.MustCompile(`^# (\d+)\. \S`).FindStringSubmatch(read(t, file))
		if inName == nil || inHeading == nil {
			t.Errorf("%s: its name or its heading has no number", name)
			continue
		}
		n, err := strconv.Atoi(inName[1])
		if err != nil || strconv.Itoa(n) != inHeading[1] {
			t.Errorf("%s: its heading says %s", name, inHeading[1])
		}
		if other, twice := taken[n]; twice {
			t.Errorf("%s and %s have the same number", other, name)
		}
		taken[n] = name
	}
}

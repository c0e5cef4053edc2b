package relyingparty_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"otpgate/examples/portal/relyingparty"
)

func TestLanguages(t *testing.T) {
	_, b := newLiedTo(t)
	page := func(path, accept string) string {
		t.Helper()
		r, err := http.NewRequest(http.MethodGet, b.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept-Language", accept)
		return b.do(r).text
	}
	for _, test := range []struct{ path, accept, lang string }{
		{"/", "", "ja"},
		{"/", "en-GB,en;q=0.9", "en"},
		{"/", "de", "ja"},
		{"/", "fr, en;q=0.5, ja;q=0.1", "en"},
		{"/?lang=xx", "en", "en"},
		{"/?lang=ja", "en", "ja"}, // the switch
		{"/", "en", "ja"},         // is remembered
		{"/nothing-here", "en", "ja"},
		{"/?lang=en", "ja", "en"},
	} {
		if text := page(test.path, test.accept); !strings.Contains(text, `<html lang="`+test.lang+`">`) {
			t.Errorf("%s for %q: not in %s", test.path, test.accept, test.lang)
		}
	}
}

func TestBothLanguagesSayEverything(t *testing.T) {
	ids := func(file string) []string {
		var texts map[string]string
		if err := json.Unmarshal([]byte(readFile(t, file)), &texts); err != nil {
			t.Fatal(err)
		}
		return slices.Sorted(maps.Keys(texts))
	}
	if diff := cmp.Diff(ids("locales/ja.json"), ids("locales/en.json")); diff != "" {
		t.Errorf("texts (-ja +en):\n%s", diff)
	}
}

func TestPagesAreSelfContained(t *testing.T) {
	l, b := newLiedTo(t)
	p := b.get("/")
	csp := p.header.Get("Content-Security-Policy")
	if !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") || !strings.Contains(csp, "form-action 'self' "+l.URL) {
		t.Errorf("CSP %q", csp)
	}
	if strings.Contains(p.text, "<script") || strings.Contains(p.text, "style=") || strings.Contains(p.text, "//") {
		t.Errorf("the page reaches out or runs something:\n%s", p.text)
	}
	if sheet := b.get("/style.css"); sheet.status != http.StatusOK || strings.Contains(sheet.text, "url(") {
		t.Errorf("style sheet: %d", sheet.status)
	}
	b.wantOut(b.get("/nothing-here"), http.StatusNotFound, "Page not found")
}

func TestKeyIsNotReplaced(t *testing.T) {
	dir := t.TempDir()
	keyFile, _, err := relyingparty.MakeKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	before := readFile(t, keyFile)
	if _, _, err := relyingparty.MakeKey(dir); err == nil {
		t.Error("made a second time")
	}
	if readFile(t, keyFile) != before {
		t.Error("the key has changed")
	}
	if info, err := os.Stat(keyFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

package pages

import (
	"encoding/json"
	"html"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestLanguageIsChosenInOrder(t *testing.T) {
	for _, test := range []struct {
		lang, accept string
		locales      []string
		want         string
	}{
		{"", "", nil, "ja"},
		{"", "en-US,en;q=0.9,ja;q=0.1", nil, "en"},
		{"", "fr,de;q=0.5", nil, "ja"},
		{"", "fr,en;q=0.5", nil, "en"},
		{"", "en", []string{"ja-JP"}, "ja"},
		{"", "ja", []string{"fr", "en-AU"}, "en"},
		{"", "en", []string{"fr", "x_y!"}, "en"},
		{"ja", "en", []string{"en"}, "ja"},
		{"en", "ja", []string{"ja"}, "en"},
		{"tlh", "en", nil, "en"},
		{"", "en," + strings.Repeat("a-", 1000), nil, "ja"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/otp/r1?lang="+test.lang, nil)
		r.Header.Set("Accept-Language", test.accept)
		if got := loadLanguages().language(r, test.locales); got != test.want {
			t.Errorf("lang=%q, ui_locales %q, Accept-Language %.40q: %s, want %s", test.lang, test.locales, test.accept, got, test.want)
		}
	}
}

func TestPageIsInThePortalsLanguage(t *testing.T) {
	b := newBench(t)
	b.request.Locales = []string{"en"}
	w := b.get("/otp/r1", "Accept-Language", "ja")
	if !strings.Contains(w.Body.String(), `<html lang="en">`) || w.Header().Get("Content-Language") != "en" {
		t.Errorf("not in English:\n%s", w.Body)
	}
	// The switch outlives a try: the form is sent to the chosen language.
	w = b.get("/otp/r1?lang=ja")
	action := regexp.MustCompile(`action="(/otp/r1[^"/]*)"`).FindStringSubmatch(w.Body.String())
	if action == nil {
		t.Fatalf("no form:\n%s", w.Body)
	}
	wantText(t, b.try(html.UnescapeString(action[1]), "1"), "6桁の数字で")
}

// Every message is used, every used message is there, in both languages, with
// the same values to fill in.
func TestLocalesAreWhole(t *testing.T) {
	used := usedMessages(t)
	for _, k := range loadLanguages().known {
		messages := readMessages(t, k.code)
		for _, id := range slices.Sorted(maps.Keys(used)) {
			if messages[id] == "" {
				t.Errorf("%s: %s is used and missing", k.code, id)
			}
		}
		for _, id := range slices.Sorted(maps.Keys(messages)) {
			if !used[id] {
				t.Errorf("%s: %s is never used", k.code, id)
			}
			if got, want := values(messages[id]), values(readMessages(t, "ja")[id]); !slices.Equal(got, want) {
				t.Errorf("%s: %s fills in %v, in Japanese %v", k.code, id, got, want)
			}
		}
	}
}

// usedMessages collects the ids that templates and code name, and those made
// from the kinds of problems and slips.
func usedMessages(t *testing.T) map[string]bool {
	t.Helper()
	used := make(map[string]bool)
	for _, kind := range problems() {
		for _, part := range []string{"title", "what", "next"} {
			used["problem."+string(kind)+"."+part] = true
		}
	}
	for _, why := range []slip{slipEmpty, slipDigits, slipRefused, slipNext} {
		for _, part := range []string{"title", "link", "text"} {
			used["code.error."+string(why)+"."+part] = true
		}
	}
	collect := func(text string, pattern string) {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			used[m[1]] = true
		}
	}
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil || len(names) == 0 {
		t.Fatalf("no templates (%v)", err)
	}
	for _, name := range names {
		collect(readFile(t, name), `\.T "([^"]+)"`)
	}
	collect(readSource(t, "signedout.go"), `"(signed_out\.[a-z]+)"`)
	collect(readSource(t, "render.go"), `\.T\("([^"]+)"`)
	return used
}

func readMessages(t *testing.T, lang string) map[string]string {
	t.Helper()
	var raw map[string]any
	if err := json.Unmarshal([]byte(readFile(t, "locales/"+lang+".json")), &raw); err != nil {
		t.Fatal(err)
	}
	messages := make(map[string]string)
	for id, v := range raw {
		switch v := v.(type) {
		case string:
			messages[id] = v
		case map[string]any: // one, other
			messages[id] = v["other"].(string)
		}
	}
	return messages
}

func values(message string) []string {
	found := regexp.MustCompile(`{{[^}]*}}`).FindAllString(message, -1)
	slices.Sort(found)
	return slices.Compact(found)
}

func FuzzLanguage(f *testing.F) {
	f.Add("en", "ja,en;q=0.5", "en-US")
	f.Add("", "*", "x_y!")
	l := loadLanguages()
	f.Fuzz(func(t *testing.T, lang, accept, locale string) {
		r := httptest.NewRequest(http.MethodGet, "/otp/r1", nil)
		r.URL.RawQuery = "lang=" + lang
		r.Header.Set("Accept-Language", accept)
		if got := l.language(r, strings.Fields(locale)); got != "ja" && got != "en" {
			t.Errorf("language %q has no messages", got)
		}
	})
}

package pages

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestSheetIsCachedAndCarriesTheAccent(t *testing.T) {
	b := newBench(t)
	sheetOf := func(realm string) (path, css string) {
		b.request.Realm = realm
		m := regexp.MustCompile(`href="(/otp/assets/[0-9a-f]{16}\.css)"`).FindStringSubmatch(b.get("/otp/r1").Body.String())
		if m == nil {
			t.Fatal("page links no sheet")
		}
		w := b.get(m[1])
		wantStatus(t, w, http.StatusOK)
		if got := w.Header().Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
			t.Errorf("Cache-Control: %q", got)
		}
		if got := w.Header().Get("Content-Type"); got != "text/css; charset=utf-8" {
			t.Errorf("Content-Type: %q", got)
		}
		return m[1], w.Body.String()
	}
	retail, css := sheetOf("retail")
	if !strings.Contains(css, "--accent: "+defaultAccent) {
		t.Error("a realm without an accent hasn't the default one")
	}
	staff, css := sheetOf("staff")
	if staff == retail {
		t.Error("two accents, one path: a browser would keep the wrong one")
	}
	if !strings.Contains(css, "--accent: #ffd400") {
		t.Error("yellow is good on dark paper and was changed")
	}
	if strings.Count(css, "#ffd400") != 1 {
		t.Error("yellow can't be read on white paper and was kept")
	}
	wantStatus(t, b.get("/otp/assets/0000000000000000.css"), http.StatusNotFound)
}

func TestEveryAccentCanBeRead(t *testing.T) {
	for paper, least := range map[string]float64{lightPaper: lightContrast, darkPaper: darkContrast} {
		for _, accent := range []string{"#000000", "#ffffff", "#ffd400", "#808080", "#c8102e", "#00ff00", "#0000ff", "#14171c"} {
			got := mustParseColour(accent).readableOn(mustParseColour(paper), least)
			if c := contrast(got, mustParseColour(paper)); c < least {
				t.Errorf("%s on %s became %s: %.1f", accent, paper, got, c)
			}
		}
	}
}

// The colours of the sheet itself, by the pairs that stand on each other:
// 7:1 for text, 3:1 for the edge of a field (WCAG 2.2 §1.4.6, §1.4.11).
func TestSheetContrast(t *testing.T) {
	css := readFile(t, "style.css")
	light, dark, found := strings.Cut(css, "@media screen and (prefers-color-scheme: dark)")
	if !found {
		t.Fatal("no dark scheme")
	}
	for scheme, part := range map[string]string{lightPaper: light, darkPaper: dark} {
		of := func(name string) colour {
			m := regexp.MustCompile(`--` + name + `: (#[0-9a-f]{6});`).FindStringSubmatch(part)
			if m == nil {
				t.Fatalf("no --%s", name)
			}
			return mustParseColour(m[1])
		}
		if of("paper").String() != scheme {
			t.Errorf("paper is %s, sheet.go says %s", of("paper"), scheme)
		}
		for _, pair := range []struct {
			front, back string
			least       float64
		}{
			{"ink", "paper", 7},
			{"quiet", "paper", 7},
			{"wrong", "paper", 7},
			{"edge", "paper", 3},
			{"ink", "faint", 7},
			{"ink", "wrong-paper", 7},
			{"wrong", "wrong-paper", 7},
		} {
			if c := contrast(of(pair.front), of(pair.back)); c < pair.least {
				t.Errorf("%s: %s on %s is %.1f, want %.0f", scheme, pair.front, pair.back, c, pair.least)
			}
		}
	}
}

func TestBadAccentIsRefused(t *testing.T) {
	for _, accent := range []string{"red", "#12345", "#1234567", "#12345g", "#000;}x{"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("accent %q was taken", accent)
				}
			}()
			(&Pages{Realms: map[string]Realm{"r": {Accent: accent}}}).Mount(http.NewServeMux())
		}()
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := files.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func readSource(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

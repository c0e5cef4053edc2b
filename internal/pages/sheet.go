package pages

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"net/http"
)

// The paper of style.css, light and dark: an accent must be readable on it.
const (
	lightPaper = "#ffffff"
	darkPaper  = "#14171c"

	defaultAccent = "#14467c"

	// The least contrast between accent and paper. On light paper WCAG 2.2
	// §1.4.3 (AA), to keep the bank's colour where that can be; on dark paper,
	// where it rarely can, §1.4.6 (AAA). The paper's colour also is the text's
	// on a button, so this covers both.
	lightContrast, darkContrast = 4.5, 7
)

// makeSheets returns a whole style sheet for each accent, by a path that
// changes with its content, and which path is which realm's. A sheet of its
// own rather than a style attribute: the CSP allows no inline style.
func makeSheets(realms map[string]Realm) (sheets map[string][]byte, pathOf map[string]string) {
	base, err := files.ReadFile("style.css")
	if err != nil {
		panic(err) // an embedded file: see look
	}
	sheets, pathOf = make(map[string][]byte), make(map[string]string)
	add := func(realm, accent string) {
		if accent == "" {
			accent = defaultAccent
		}
		sheet := append([]byte(nil), base...)
		sheet = append(sheet, accentRules(mustParseColour(accent))...)
		sum := sha256.Sum256(sheet)
		path := "/otp/assets/" + hex.EncodeToString(sum[:8]) + ".css"
		sheets[path], pathOf[realm] = sheet, path
	}
	add("", defaultAccent)
	for id, realm := range realms {
		add(id, realm.Accent)
	}
	return sheets, pathOf
}

func serveSheet(w http.ResponseWriter, sheet []byte) {
	h := w.Header()
	h.Set("Content-Type", "text/css; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "public, max-age=31536000, immutable") // the path changes with the content
	_, _ = w.Write(sheet)
}

func accentRules(accent colour) string {
	return fmt.Sprintf("\n:root { --accent: %s }\n@media screen and (prefers-color-scheme: dark) { :root { --accent: %s } }\n",
		accent.readableOn(mustParseColour(lightPaper), lightContrast), accent.readableOn(mustParseColour(darkPaper), darkContrast))
}

// colour is red, green and blue of sRGB.
type colour [3]byte

func mustParseColour(s string) colour {
	var c colour
	if len(s) != 7 || s[0] != '#' {
		panic(fmt.Sprintf("pages: colour %q: must be #rrggbb", s))
	}
	if _, err := hex.Decode(c[:], []byte(s[1:])); err != nil {
		panic(fmt.Sprintf("pages: colour %q: must be #rrggbb", s))
	}
	return c
}

func (c colour) String() string { return fmt.Sprintf("#%02x%02x%02x", c[0], c[1], c[2]) }

// readableOn mixes c with black (on light paper) or white (on dark) in small
// steps until it stands out enough; a good accent comes back as it is.
func (c colour) readableOn(paper colour, least float64) colour {
	const steps = 32
	end := 0.0
	if paper.luminance() < 0.5 {
		end = 255
	}
	for i := range steps {
		var mixed colour
		for j, part := range c {
			mixed[j] = byte(math.Round(float64(part) + (end-float64(part))*float64(i)/steps))
		}
		if contrast(mixed, paper) >= least {
			return mixed
		}
	}
	return colour{byte(end), byte(end), byte(end)}
}

// contrast is WCAG 2.2's contrast ratio, from 1 to 21.
func contrast(a, b colour) float64 {
	la, lb := a.luminance(), b.luminance()
	return (max(la, lb) + 0.05) / (min(la, lb) + 0.05)
}

// luminance is WCAG 2.2's relative luminance, from 0 to 1.
func (c colour) luminance() float64 {
	var linear [3]float64
	for i, part := range c {
		v := float64(part) / 255
		if v <= 0.04045 {
			linear[i] = v / 12.92
		} else {
			linear[i] = math.Pow((v+0.055)/1.055, 2.4)
		}
	}
	return 0.2126*linear[0] + 0.7152*linear[1] + 0.0722*linear[2]
}

package pages

import (
	"net/http"

	"github.com/nicksnyder/go-i18n/v2/i18n"
	"golang.org/x/text/language"
)

const (
	// defaultLanguage is shown to whoever asks for none that we have.
	defaultLanguage = "ja"
	// maxAcceptLanguage bounds what is parsed of the header, in bytes: real
	// ones list a handful of languages.
	maxAcceptLanguage = 256
	// maxLocales bounds what is looked at of ui_locales.
	maxLocales = 8
)

// knownLanguage is a language that the pages are written in.
type knownLanguage struct {
	code string // of the locale file and the html lang attribute
	name string // in itself, for the switch
}

// languages chooses a language and finds its messages.
type languages struct {
	bundle  *i18n.Bundle
	known   []knownLanguage // in the order of the switch and of the matcher
	matcher language.Matcher
}

func loadLanguages() languages {
	l := languages{known: []knownLanguage{{"ja", "日本語"}, {"en", "English"}}}
	l.bundle = i18n.NewBundle(language.MustParse(defaultLanguage))
	tags := make([]language.Tag, len(l.known))
	for i, k := range l.known {
		tags[i] = language.MustParse(k.code)
		if _, err := l.bundle.LoadMessageFileFS(files, "locales/"+k.code+".json"); err != nil {
			panic(err) // an embedded file: see look
		}
	}
	l.matcher = language.NewMatcher(tags)
	return l
}

func (l languages) localizer(lang string) *i18n.Localizer { return i18n.NewLocalizer(l.bundle, lang) }

// language is what the customer chose with the switch, else what the portal
// asked for (ui_locales, OIDC Core §3.1.2.1), else what the browser prefers.
func (l languages) language(r *http.Request, locales []string) string {
	chosen := r.URL.Query().Get("lang")
	for _, k := range l.known {
		if k.code == chosen {
			return chosen
		}
	}
	var asked []language.Tag
	for _, locale := range locales[:min(len(locales), maxLocales)] {
		// Tags that can't be parsed are ignored, as §3.1.2.1 wants.
		if tag, err := language.Parse(locale); err == nil {
			asked = append(asked, tag)
		}
	}
	if lang, ok := l.match(asked); ok {
		return lang
	}
	if header := r.Header.Get("Accept-Language"); len(header) <= maxAcceptLanguage {
		if preferred, _, err := language.ParseAcceptLanguage(header); err == nil {
			if lang, ok := l.match(preferred); ok {
				return lang
			}
		}
	}
	return defaultLanguage
}

func (l languages) match(tags []language.Tag) (string, bool) {
	_, i, confidence := l.matcher.Match(tags...)
	return l.known[i].code, confidence > language.No
}

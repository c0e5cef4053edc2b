package relyingparty

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/language"
)

//go:embed templates locales style.css
var files embed.FS

// pages are the parsed templates and texts. Immutable.
type pages struct {
	templates map[string]*template.Template
	texts     map[string]map[string]string // by language, then id
	matcher   language.Matcher
	sheet     []byte
}

// languages of the portal; the first is for whoever asks for another.
func languages() []string { return []string{"ja", "en"} }

func loadPages() (*pages, error) {
	p := &pages{
		templates: make(map[string]*template.Template),
		texts:     make(map[string]map[string]string),
		matcher:   language.NewMatcher([]language.Tag{language.Japanese, language.English}),
	}
	for _, name := range []string{"login", "account", "problem"} {
		t, err := template.ParseFS(files, "templates/layout.html", "templates/"+name+".html")
		if err != nil {
			return nil, fmt.Errorf("page %s: %w", name, err)
		}
		p.templates[name] = t
	}
	for _, lang := range languages() {
		data, err := files.ReadFile("locales/" + lang + ".json")
		if err != nil {
			return nil, fmt.Errorf("texts: %w", err)
		}
		texts := make(map[string]string)
		if err := json.Unmarshal(data, &texts); err != nil {
			return nil, fmt.Errorf("texts in %s: %w", lang, err)
		}
		p.texts[lang] = texts
	}
	var err error
	p.sheet, err = files.ReadFile("style.css")
	return p, err
}

func (p *pages) style(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "public, max-age=3600")
	w.Write(p.sheet) //nolint:errcheck // the browser has gone; there is no one to tell
}

// view is what a template gets.
type view struct {
	Lang, Path string
	Content    any
	texts      map[string]string
}

// T is the text id in the page's language.
func (v view) T(id string) (string, error) {
	text, ok := v.texts[id]
	if !ok {
		return "", fmt.Errorf("no text %q in %s", id, v.Lang)
	}
	return text, nil
}

// language is what the customer has switched to, else what the browser asks
// for, else Japanese.
func (p *Portal) language(r *http.Request) string {
	for _, wish := range []string{r.URL.Query().Get("lang"), p.cookie(r, languageCookie)} {
		if slices.Contains(languages(), wish) {
			return wish
		}
	}
	_, index := language.MatchStrings(p.pages.matcher, r.Header.Get("Accept-Language"))
	return languages()[index]
}

// render answers with a page. A switch of language by ?lang= is remembered.
func (p *Portal) render(w http.ResponseWriter, r *http.Request, status int, name string, content any) {
	lang := p.language(r)
	if r.URL.Query().Get("lang") == lang {
		p.setCookie(w, languageCookie, lang, 365*24*time.Hour)
	}
	v := view{Lang: lang, Path: "/", Content: content, texts: p.pages.texts[lang]}
	if name == "account" {
		v.Path = "/account"
	}
	var page bytes.Buffer
	if err := p.pages.templates[name].ExecuteTemplate(&page, "layout.html", v); err != nil {
		p.Logger.ErrorContext(r.Context(), "page failed", "page", name, "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	page.WriteTo(w) //nolint:errcheck // the browser has gone; there is no one to tell
}

// problem is what went wrong, as the customer is told: the prefix of its texts.
type problem string

const (
	notFound  problem = "not_found"
	noGateway problem = "no_gateway" // can't be asked, or has failed
	stale     problem = "stale"      // no log-in under way, or another one
	denied    problem = "denied"     // cancelled
	locked    problem = "locked"     // after too many wrong ones
	noToken   problem = "no_token"   // no one-time password in service
	rejected  problem = "rejected"   // the answer didn't pass our checks
)

// lockedDescription is the gateway's error_description where the customer is
// locked. No error code tells that from a customer who has cancelled.
const lockedDescription = "the customer's one-time password is locked"

// problemOf is what a customer is told of err; the log has the rest.
func problemOf(err error) problem {
	refused := new(refusedError)
	switch {
	case errors.Is(err, errNoLogin), errors.Is(err, errState):
		return stale
	case !errors.As(err, &refused):
		return rejected
	case refused.code == "access_denied" && refused.description == lockedDescription:
		return locked
	case refused.code == "access_denied":
		return denied
	case refused.code == "unmet_authentication_requirements":
		return noToken
	}
	return noGateway
}

func (k problem) status() int {
	switch k {
	case notFound:
		return http.StatusNotFound
	case noGateway:
		return http.StatusBadGateway
	case stale:
		return http.StatusBadRequest
	case denied, locked, noToken, rejected:
	}
	return http.StatusForbidden
}

// Title, What and Next are the ids of its texts.
func (k problem) Title() string { return "problem." + string(k) + ".title" }
func (k problem) What() string  { return "problem." + string(k) + ".what" }
func (k problem) Next() string  { return "problem." + string(k) + ".next" }

func (p *Portal) problem(w http.ResponseWriter, r *http.Request, k problem) {
	p.render(w, r, k.status(), "problem", k)
}

// claim is one line of the account page. Hint is the id of what it means; ""
// for claims that this portal doesn't use.
type claim struct{ Name, Value, Hint string }

// Customer is the contract number.
func (s session) Customer() string { return s.customer }

// Claims are the claims of the ID token, by name, with times as the language
// writes them.
func (s session) Claims(lang string) []claim {
	lines := make([]claim, 0, len(s.claims))
	for _, name := range slices.Sorted(maps.Keys(s.claims)) {
		line := claim{Name: name}
		switch name {
		case "acr", "amr", "aud", "auth_time", "exp", "iat", "iss", "nonce", "sub":
			line.Hint = "claim." + name
		}
		switch value := s.claims[name].(type) {
		case string:
			line.Value = value
		case float64:
			line.Value = inWords(time.Unix(int64(value), 0), lang) // the numbers of an ID token are times
		case []any:
			items := make([]string, len(value))
			for i := range value {
				items[i] = fmt.Sprint(value[i])
			}
			line.Value = strings.Join(items, ", ")
		default:
			line.Value = fmt.Sprint(value)
		}
		lines = append(lines, line)
	}
	return lines
}

func inWords(t time.Time, lang string) string {
	if lang == "ja" {
		return t.Format("2006年1月2日 15時04分05秒")
	}
	return t.Format("2 January 2006, 15:04:05")
}

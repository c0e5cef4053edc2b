package pages

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"net/url"
	"strings"

	"github.com/nicksnyder/go-i18n/v2/i18n"
)

//go:embed templates locales style.css
var files embed.FS

// kit is what the pages are made with: the embedded files, read once.
type kit struct {
	languages
	templates map[string]*template.Template // by page
	sheets    map[string][]byte             // style sheets by path
	sheetOf   map[string]string             // path by realm id; "" is no realm's
}

// look returns the kit, made at first use. The embedded files are part of the
// program and tested, so a fault in them is a panic.
func (p *Pages) look() *kit {
	p.once.Do(func() {
		p.kit = &kit{languages: loadLanguages(), templates: loadTemplates()}
		p.kit.sheets, p.kit.sheetOf = makeSheets(p.Realms)
	})
	return p.kit
}

func loadTemplates() map[string]*template.Template {
	layout := template.Must(template.ParseFS(files, "templates/layout.html"))
	set := make(map[string]*template.Template)
	for _, name := range []string{"code", "locked", "problem", "postform"} {
		set[name] = template.Must(template.Must(layout.Clone()).ParseFS(files, "templates/"+name+".html"))
	}
	return set
}

// page is what a template gets.
type page struct {
	Lang    string
	Bank    string // the realm's name; "" if the page is no realm's
	Sheet   string // path of the style sheet
	Others  []languageLink
	Content any // codeForm, lockNotice, problemNotice or postNotice

	localizer *i18n.Localizer
}

// languageLink is an entry of the language switch. Name is in that language.
type languageLink struct {
	Lang, Name, Href string
	Current          bool
}

// T returns the message id, with pairs of names and values for what stands in
// braces in it. A value named Count also chooses between one and many.
func (pg page) T(id string, pairs ...any) (string, error) {
	data := make(map[string]any, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		data[pairs[i].(string)] = pairs[i+1]
	}
	return pg.localizer.Localize(&i18n.LocalizeConfig{MessageID: id, TemplateData: data, PluralCount: data["Count"]})
}

// render writes a whole page or, if that fails, only a status: never half of
// one. v is nil on a page that belongs to no open request.
func (p *Pages) render(w http.ResponseWriter, r *http.Request, v *visit, name string, status int, content any) {
	portal := ""
	if v != nil {
		portal = v.Portal
	}
	setHeaders(w.Header(), portal)
	p.write(w, r, v, name, status, p.page(r, v, content))
}

// page is what the template of a page of v gets, around content.
func (p *Pages) page(r *http.Request, v *visit, content any) page {
	k, lang := p.look(), p.languageOf(r, v)
	pg := page{Lang: lang, Sheet: k.sheetOf[""], Content: content, localizer: k.localizer(lang)}
	if v != nil {
		pg.Bank, pg.Sheet = v.realm.name(lang), k.sheetOf[v.Realm]
	} else if portal, ok := p.portal(r, nil); ok {
		pg.Bank, pg.Sheet = p.Realms[portal.Realm].name(lang), k.sheetOf[portal.Realm]
	}
	for _, l := range k.known {
		pg.Others = append(pg.Others, languageLink{
			Lang: l.code, Name: l.name, Href: addressIn(r, l.code), Current: l.code == lang,
		})
	}
	return pg
}

// write is the end of render: the headers that are every page's are set.
func (p *Pages) write(w http.ResponseWriter, r *http.Request, v *visit, name string, status int, pg page) {
	var body bytes.Buffer
	if err := p.look().templates[name].Execute(&body, pg); err != nil {
		p.log(r, v, err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Language", pg.Lang)
	w.WriteHeader(status)
	_, _ = body.WriteTo(w) // a browser that went away is no fault
}

// addressIn is the address of the page in another language, relative to the
// one in the browser's bar. Its query is kept: the code page's says how the
// last try went, and the OIDC door's pages are nothing without theirs.
func addressIn(r *http.Request, lang string) string {
	query := r.URL.Query()
	query.Set("lang", lang)
	return "?" + query.Encode()
}

func (p *Pages) languageOf(r *http.Request, v *visit) string {
	if v != nil {
		return v.lang
	}
	return p.look().language(r, nil)
}

// setHeaders sets what every page needs. Nothing is kept: a page is for one
// customer and one moment.
func setHeaders(h http.Header, portal string) {
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; form-action "+formAction(portal)+
		"; base-uri 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	// Not no-referrer: with that a browser posts our own form with "Origin:
	// null" (Fetch §3.2), which the cross-origin guard refuses from browsers
	// that send no Sec-Fetch-Site. To the portal it sends nothing either.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY") // for browsers without frame-ancestors
}

// formAction lists where the page's forms may lead: here and, since Chromium
// also checks the redirect that answers a form, the portal. An origin that
// could break out of the directive is left out.
func formAction(portal string) string {
	u, err := url.Parse(portal)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" ||
		strings.ContainsFunc(u.Host, func(c rune) bool { return !isHostChar(c) }) {
		return "'self'"
	}
	return "'self' " + u.Scheme + "://" + u.Host
}

// isHostChar: letters, digits, and what separates labels and ports (RFC 3986
// §3.2.2); IPv6 brackets too.
func isHostChar(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(".-:[]", c)
}

func (m Realm) name(lang string) string {
	return inLanguage(m.Name, lang)
}

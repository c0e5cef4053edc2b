package pages

import (
	"crypto/sha256"
	"encoding/base64"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Form is an answer that goes to a portal by a form (OAuth 2.0 Form Post Response
// Mode §2).
type Form struct {
	Realm   string   // the realm's id; "" if it isn't known
	Locales []string // ui_locales of the request, best first; may be empty
	Action  string   // where it goes to
	Fields  url.Values
}

// submitScript posts the form at once. It is the only script of the pages: without
// it there is the button.
const submitScript = `document.forms[0].submit()`

// postNotice is what the page with such a form shows.
type postNotice struct {
	Action string
	Fields []postField
	Script template.JS
}

type postField struct{ Name, Value string }

// PostForm answers r with a page that posts form to a portal.
func (p *Pages) PostForm(w http.ResponseWriter, r *http.Request, form Form) {
	notice := postNotice{Action: form.Action, Script: submitScript}
	for name, values := range form.Fields {
		for _, value := range values {
			notice.Fields = append(notice.Fields, postField{name, value})
		}
	}
	slices.SortFunc(notice.Fields, func(a, b postField) int { return strings.Compare(a.Name, b.Name) })
	v := &visit{Request: Request{Realm: form.Realm, Locales: form.Locales}, realm: p.Realms[form.Realm], lang: p.look().language(r, form.Locales)}
	pg := p.page(r, v, notice)
	if r.Method == http.MethodPost { // it has no address that could be opened again
		pg.Others = nil
	}
	setPostHeaders(w.Header())
	p.write(w, r, v, "postform", http.StatusOK, pg)
}

// setPostHeaders sets what the page needs that posts a form elsewhere.
func setPostHeaders(h http.Header) {
	setHeaders(h, "")
	sum := sha256.Sum256([]byte(submitScript))
	// Without form-action: browsers hold every redirect that follows to it too, and
	// where the portal sends them on isn't known here. All of the form is ours.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'sha256-"+
		base64.StdEncoding.EncodeToString(sum[:])+"'; base-uri 'none'; frame-ancestors 'none'")
	// The portal may want to know where a form that is posted to it comes from: so it
	// has our origin, as its Origin header, in place of "null" (Fetch §3.2).
	h.Set("Referrer-Policy", "strict-origin")
}

package oidc

import (
	"net/http"
	"net/url"
	"strings"
)

// Form is an authorization response that the browser posts to the portal (OAuth 2.0
// Form Post Response Mode §2).
type Form struct {
	Realm   string   // whose customer it is
	Locales []string // ui_locales of the request, best first; may be empty
	Action  string   // the redirect URI
	Fields  url.Values
}

// replyTo is where a response goes to, and how. It is set once it is known that the
// redirect URI is the client's.
type replyTo struct {
	RedirectURI string   `json:"redirect_uri"`
	State       string   `json:"state,omitempty"`
	FormPost    bool     `json:"form_post,omitempty"` // response_mode
	Locales     []string `json:"locales,omitempty"`
}

// response is an authorization response on its way: by a redirect or by a form.
type response struct {
	Location string     `json:"location"` // with the response in it, unless there is a form
	Fields   url.Values `json:"fields,omitempty"`
}

// answer is the response that says what values say, with the portal's state and our
// name (RFC 9207 §2). The redirect URI stays as it was registered, byte for byte.
func (p *Provider) answer(to *replyTo, values url.Values) response {
	if to.State != "" {
		values.Set("state", to.State)
	}
	values.Set("iss", p.issuer)
	if to.FormPost {
		return response{Location: to.RedirectURI, Fields: values}
	}
	separator := "?"
	if strings.Contains(to.RedirectURI, "?") {
		separator = "&"
	}
	return response{Location: to.RedirectURI + separator + values.Encode()}
}

// failure is an authorization error response (RFC 6749 §4.1.2.1).
func failure(code, description string) url.Values {
	return url.Values{"error": {code}, "error_description": {description}}
}

// send answers a browser with a response.
func (p *Provider) send(w http.ResponseWriter, r *http.Request, client *Client, locales []string, answer response) {
	if answer.Fields == nil {
		sendOn(w, answer.Location)
		return
	}
	p.postForm(w, r, Form{Realm: client.Realm, Locales: locales, Action: answer.Location, Fields: answer.Fields})
}

func sendOn(w http.ResponseWriter, location string) {
	w.Header().Set("Location", location)
	w.WriteHeader(http.StatusSeeOther) // RFC 9700 §4.12: never a 307
}

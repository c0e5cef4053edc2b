package pages

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
)

// Problem is what went wrong where no request can be served: a page of its
// own that says what happened and how to go on.
type Problem string

// The problems. The OIDC door uses them too, for what can't be told to a
// portal.
const (
	Gone         Problem = "gone"          // 404: unknown, expired or answered
	NoPage       Problem = "no_page"       // 404: an address that no page has
	OtherBrowser Problem = "other_browser" // 403: another browser, or no cookies
	CrossSite    Problem = "cross_site"    // 403: a form that another site sent
	BadRequest   Problem = "bad_request"   // 400: nothing that our pages or a portal would send
	Unavailable  Problem = "unavailable"   // 503: nothing can be decided now; with a retry
	TooMany      Problem = "too_many"      // 429: the page of Unavailable, for whose address sends too much
)

// Status is the HTTP status of the problem's page.
func (k Problem) Status() int {
	switch k {
	case Gone, NoPage:
		return http.StatusNotFound
	case OtherBrowser, CrossSite:
		return http.StatusForbidden
	case BadRequest:
		return http.StatusBadRequest
	case TooMany:
		return http.StatusTooManyRequests
	default:
		return http.StatusServiceUnavailable
	}
}

// clientParam names the client in the addresses of our pages, and in the OIDC
// door's (OIDC Core §3.1.2.1). It is no secret, and who forges it is shown the way to
// another bank that we know.
const clientParam = "client_id"

// Problem answers r with the page of kind. Whose customer it is isn't known, only
// perhaps, from the address, which portal he came from: that gives the page its look
// and the way home. Logging the cause is the caller's.
func (p *Pages) Problem(w http.ResponseWriter, r *http.Request, kind Problem) {
	p.problem(w, r, nil, kind)
}

// problemNotice is what a problem's page shows. Title, What and Next are ids
// of messages.
type problemNotice struct {
	Title, What, Next string
	Retry             string // where to try again; "" if that is of no use
	Home              string // the portal's; "" if it isn't known
}

func (p *Pages) problem(w http.ResponseWriter, r *http.Request, v *visit, kind Problem) {
	shown := kind
	if kind == TooMany {
		shown = Unavailable
	}
	notice := problemNotice{
		Title: "problem." + string(shown) + ".title",
		What:  "problem." + string(shown) + ".what",
		Next:  "problem." + string(shown) + ".next",
	}
	if portal, ok := p.portal(r, v); ok {
		notice.Home = portal.Home
	}
	if shown == Unavailable {
		notice.Retry = addressIn(r, p.languageOf(r, v))
	}
	p.render(w, r, v, "problem", kind.Status(), notice)
}

// portal is the one that the customer came from.
func (p *Pages) portal(r *http.Request, v *visit) (Portal, bool) {
	id := r.URL.Query().Get(clientParam)
	if v != nil {
		id = v.Client
	}
	portal, ok := p.Portals[id]
	return portal, ok
}

// log writes the cause of a failed page. Neither the customer nor the code is
// in it: the audit log has the tries.
func (p *Pages) log(r *http.Request, v *visit, err error) {
	level := slog.LevelError
	if errors.Is(err, context.Canceled) {
		level = slog.LevelDebug // the browser went away
	}
	attrs := []slog.Attr{slog.String("path", r.Pattern), slog.Any("error", err)}
	if v != nil {
		attrs = append(attrs, slog.String("realm", v.Realm), slog.String("client", v.Client))
	}
	p.Logger.LogAttrs(r.Context(), level, "page failed", attrs...)
}

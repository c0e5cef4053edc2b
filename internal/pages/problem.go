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
	default:
		return http.StatusServiceUnavailable
	}
}

// Problem answers r with the page of kind, in the look of no realm: whose
// customer it is isn't known. Logging the cause is the caller's.
func (p *Pages) Problem(w http.ResponseWriter, r *http.Request, kind Problem) {
	p.problem(w, r, nil, kind)
}

// problemNotice is what a problem's page shows. Title, What and Next are ids
// of messages.
type problemNotice struct {
	Title, What, Next string
	Retry             string // where to try again; "" if that is of no use
}

func (p *Pages) problem(w http.ResponseWriter, r *http.Request, v *visit, kind Problem) {
	notice := problemNotice{
		Title: "problem." + string(kind) + ".title",
		What:  "problem." + string(kind) + ".what",
		Next:  "problem." + string(kind) + ".next",
	}
	if kind == Unavailable {
		notice.Retry = addressIn(r, p.languageOf(r, v))
	}
	p.render(w, r, v, "problem", kind.Status(), notice)
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

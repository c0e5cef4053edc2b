// Package pages is what a customer sees: for now the code page of a log-in
// (journey 3). A portal has opened a request for exactly one customer; the
// page asks for the code, hands it to the gate and sends the browser on.
//
// Routes:
//
//	GET  /otp/{id}              the code page, or where the request stands
//	POST /otp/{id}              one try
//	GET  /otp/{id}/cancel       back to the code page: what a reload of the next one asks for
//	POST /otp/{id}/cancel       leave: back to the portal without a code
//	GET  /otp/assets/HASH.css   the style sheet in a realm's accent, cached for ever
//	     /                      anything else: the page that names the way back
//
// An open request, by the state of its customer's service:
//
//	in service                         the code page
//	  accepted                         → portal, with the gate's acceptance
//	  not a code at all                → same page, nothing counted: the gate isn't asked
//	  not accepted                     → same page, with one sentence for every reason
//	  the next code is wanted too      → same page, with that sentence and one that says so
//	  last try used up                 → the lock page
//	  the same code within 5 s         → as before, nothing counted: a second press of the button
//	cancelled                          → portal, access_denied; a second press likewise
//	locked                             the lock page; its button → portal, access_denied
//	none, issued, suspended, released  → portal at once: there is nothing to ask for
//	expired while it is looked at      the page gives way to the next one
//	unknown, over, other browser       a page that says so, with a link to the portal's home
//	gate or store fails                503 with a retry; nothing is accepted
//
// A transaction that is confirmed stands above the code, in the realm's words
// (details.go); one that can't be shown as a whole isn't asked a code for.
//
// No page needs a script, and the CSP allows none but the one that posts an answer
// to the portal where there would be a button to press (postform.go). The language is chosen by
// ?lang=, then the portal's ui_locales, then Accept-Language, then Japanese;
// all text stands in locales/. What is left of a time is said in minutes: which
// zone the customer is in isn't known.
//
// Not here: who may pass (verifier), which browser a request belongs to and
// what the portal is told (the OIDC door, through Requests), and checking the
// realms' settings (config).
package pages

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"otpgate/verifier"
)

// Gate is what the pages ask of the verifier. Every error means that nothing
// was decided: the page fails closed.
type Gate interface {
	// Verify decides one try.
	Verify(ctx context.Context, attempt verifier.Attempt) (verifier.Result, error)
	// Admit says whether a code can be asked for; ServiceNone for a user that
	// the realm doesn't know. Whoever is turned away stands in the audit log
	// like a refused try. Of the attempt, Match isn't used.
	Admit(ctx context.Context, attempt verifier.Attempt) (verifier.ServiceState, error)
	// State says the same, of someone who asks for nothing.
	State(ctx context.Context, realm, user string) (verifier.ServiceState, error)
	// OpensAt is when the user's lock opens by itself; zero: a clerk opens it.
	OpensAt(ctx context.Context, realm, user string) (time.Time, error)
}

// Realm is what the pages show of a realm.
type Realm struct {
	// Name of the bank by language ("ja", "en"). Where one is missing, the
	// Japanese one is shown.
	Name map[string]string
	// Accent is the bank's colour as #rrggbb; "" for a quiet blue. It is made
	// darker, or lighter on dark paper, until it can be read.
	Accent string
	// Digits of the realm's codes: what is typed is checked for this length
	// before it costs a try.
	Digits int
	// Details are how its transactions are shown, by type.
	Details map[string]DetailType
}

// Portal is whose customers come here.
type Portal struct {
	Realm string // by its id
	// Home is the address where a log-in begins: the way back where there is no
	// request any more that could lead there.
	Home string
}

// Pages serves the pages. All fields must be set before the first use and not
// changed afterwards.
type Pages struct {
	Requests Requests
	Gate     Gate
	Realms   map[string]Realm  // by id
	Portals  map[string]Portal // by client id
	Logger   *slog.Logger
	Now      func() time.Time

	presses presses

	once sync.Once
	kit  *kit // made by once from the embedded files; see look()
}

// Mount registers the routes on mux. Like the mux itself it panics on what
// config should have refused: an accent that isn't #rrggbb.
func (p *Pages) Mount(mux *http.ServeMux) {
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.Problem(w, r, CrossSite)
	}))
	mux.HandleFunc("GET /otp/{id}", p.show)
	mux.Handle("POST /otp/{id}", guard.Handler(http.HandlerFunc(p.submit)))
	mux.HandleFunc("GET /otp/{id}/cancel", p.uncancel)
	mux.Handle("POST /otp/{id}/cancel", guard.Handler(http.HandlerFunc(p.cancel)))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { p.Problem(w, r, NoPage) })
	for path, sheet := range p.look().sheets {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { serveSheet(w, sheet) })
	}
}

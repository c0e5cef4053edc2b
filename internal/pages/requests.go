package pages

import (
	"errors"
	"net/http"
	"time"

	"otpgate/verifier"
)

// Request is a log-in that a portal has opened for exactly one customer and
// that waits for the customer's code.
type Request struct {
	ID      string   // public: it stands in the page's URL
	Realm   string   // the realm's id
	User    string   // the customer, named by the portal; never shown
	Client  string   // the relying party, by its id in gateway.yaml
	Locales []string // ui_locales of the request (BCP 47), best first; may be empty
	Expires time.Time
	// Portal is the origin (https://bank.example) that the answer goes to. The
	// page's CSP has to let the form's redirect through to it.
	Portal string
	// Details are the transactions that are confirmed with the code; usually none.
	Details []Detail
}

var (
	// ErrNoRequest means that the id is unknown, has expired or has been answered.
	ErrNoRequest = errors.New("pages: no such request")
	// ErrOtherBrowser means that the request is open, but in another browser, or this
	// one keeps no cookies.
	ErrOtherBrowser = errors.New("pages: the request belongs to another browser")
)

// Refusal is why a request ends without a code.
type Refusal string

// The refusals, each with the error that the portal gets for it.
const (
	Cancelled Refusal = "cancelled" // access_denied
	LockedOut Refusal = "locked"    // access_denied
	NoToken   Refusal = "no_token"  // unmet_authentication_requirements
)

// Requests is what the code page needs of the door that opened the request.
type Requests interface {
	// Pending returns the request open under id, if this browser opened it.
	// ErrNoRequest or ErrOtherBrowser if not.
	Pending(r *http.Request, id string) (Request, error)
	// Accept ends the request with the gate's acceptance and returns the
	// address to send the browser to. It may set cookies on w. Only one call
	// per request succeeds; ErrNoRequest for the others.
	Accept(w http.ResponseWriter, r *http.Request, id string, result verifier.Result) (location string, err error)
	// Refuse ends the request without a code, likewise.
	Refuse(w http.ResponseWriter, r *http.Request, id string, why Refusal) (location string, err error)
	// Answered returns what Accept returned for id to this browser a moment
	// ago, for a second press of the button. ErrNoRequest if there is nothing.
	Answered(r *http.Request, id string) (location string, err error)
}

package oidc_test

import (
	"net/http"
	"testing"

	"otpgate/oidc"
)

// Whoever names one customer without end takes nothing but that customer's older
// requests.
func TestBareRequestsOfOneCustomer(t *testing.T) {
	g := newGate(t, asOIDC(func(c *oidc.Client) { c.BareHint = true }))
	oldest, second, other := g.browser(), g.browser(), g.browser()
	page := func(browser *http.Client, customer string) string {
		t.Helper()
		a := g.get(browser, barePath(map[string]string{"login_hint": customer}))
		if a.status != http.StatusSeeOther {
			t.Fatalf("%d %s", a.status, a.body)
		}
		return a.header.Get("Location")
	}
	others := page(other, "bob")
	first, next := page(oldest, "anna"), page(second, "anna")
	for range 15 {
		page(g.browser(), "anna")
	}
	if a := g.get(oldest, first); a.status != http.StatusGone {
		t.Errorf("the oldest of 17: %d", a.status)
	}
	for browser, open := range map[*http.Client]string{second: next, other: others} {
		if a := g.get(browser, open); a.status != http.StatusOK {
			t.Errorf("of one that is open: %d", a.status)
		}
	}
	g.post(second, next, "").callback(t)
	last := page(oldest, "anna") // the one that has ended counts no more
	if a := g.get(oldest, last); a.status != http.StatusOK {
		t.Errorf("one more: %d", a.status)
	}
}

package oidc

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"otpgate/internal/store"
)

// maxLoads is how many transactions one request may open: reloads and tabs of
// a person, not a way to fill the memory with one pushed request.
const maxLoads = 16

// load is one load of a request by one browser: a transaction.
type load struct {
	Browser string `json:"browser"` // digest of the cookie
	Expires int64  `json:"expires"` // unix seconds
}

// loadBytes bounds a load in JSON.
const loadBytes = 96

// loadsKey is where all loads of the request ref are kept, in one record: as
// many as there are, it costs little more than one.
func loadsKey(ref string) string { return store.Key("oidc.loads", ref) }

// transactionID names load n of the request ref. It tells nothing of the
// request_uri, whose digest ref is.
func transactionID(ref string, n int) string { return ref + "-" + strconv.Itoa(n) }

// parseTransactionID is the inverse of transactionID.
func parseTransactionID(id string) (ref string, n int, ok bool) {
	if len(id) < digestLength+len("-0") {
		return "", 0, false
	}
	ref = id[:digestLength]
	if _, err := base64.RawURLEncoding.DecodeString(ref); err != nil {
		return "", 0, false
	}
	n, err := strconv.Atoi(id[digestLength+len("-"):])
	return ref, n, err == nil && n >= 0 && transactionID(ref, n) == id
}

// cookieName: one cookie for each transaction, so that two tabs don't take each
// other's away. The __Host- prefix keeps subdomains and plain http from setting
// it (RFC 6265bis §4.1.3.2).
func cookieName(id string) string { return cookiePrefix + id }

const (
	cookiePrefix = "__Host-otpgate-"
	// maxCookies of one browser: two persons' loads. At some 110 octets each they
	// are 3.5 KiB; servers and proxies commonly refuse headers from 8 KiB on.
	maxCookies = 2 * maxLoads
	// maxCookiesRead is above the 180 that browsers keep for a site; each costs
	// a look into the store.
	maxCookiesRead = 256
)

// openTransaction opens one more transaction of the request ref of client, binds it to
// the browser by a cookie and returns the address of its page.
func (p *Provider) openTransaction(w http.ResponseWriter, r *http.Request, ref, client string) (string, error) {
	browser := newSecret()
	n, err := p.addLoad(r.Context(), ref, load{Browser: digest(browser), Expires: p.now().Add(transactionLife).Unix()})
	if err != nil {
		return "", err
	}
	id := transactionID(ref, n)
	p.clearSurplus(w, r)
	setCookie(w, id, browser, transactionLife)
	return p.codePage(id, client), nil
}

// clearSurplus makes room in a browser that has the cookies of too many transactions:
// those that are over go first, then the oldest, which it sends first (RFC 6265 §5.4).
func (p *Provider) clearSurplus(w http.ResponseWriter, r *http.Request) {
	var over, open []string
	for _, cookie := range r.Cookies() {
		id, isOurs := strings.CutPrefix(cookie.Name, cookiePrefix)
		if _, _, ok := parseTransactionID(id); !isOurs || !ok {
			continue
		}
		if _, _, err := p.transaction(r, id); err != nil {
			over = append(over, id)
		} else {
			open = append(open, id)
		}
		if len(over)+len(open) == maxCookiesRead {
			break
		}
	}
	surplus := max(len(over)+len(open)-maxCookies+1, 0) // one more comes
	for _, id := range append(over, open...)[:surplus] {
		setCookie(w, id, "", -time.Second)
	}
}

// setCookie sets the cookie of transaction id; with life below 0 it clears it.
func setCookie(w http.ResponseWriter, id, value string, life time.Duration) {
	// Lax, not Strict: the navigation that brings it back was begun by the
	// portal's site, and the page must see it.
	http.SetCookie(w, &http.Cookie{
		Name: cookieName(id), Value: value, Path: "/", MaxAge: int(life.Seconds()),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

// addLoad notes one more load of the request ref and returns its number.
func (p *Provider) addLoad(ctx context.Context, ref string, l load) (n int, err error) {
	p.loading.Lock()
	defer p.loading.Unlock()
	req, err := p.loadRequest(ctx, ref)
	if err != nil {
		return 0, err
	}
	if req == nil { // it has ended meanwhile
		return 0, errNoSuchRequest
	}
	loads, err := p.loads(ctx, ref)
	if err != nil {
		return 0, err
	}
	if len(loads) >= maxLoads {
		return 0, refuse(invalidRequest, fmt.Sprintf("the request was loaded more than %d times", maxLoads))
	}
	value, err := encode(append(loads, l))
	if err != nil {
		return 0, err
	}
	if err := p.passing.Put(ctx, loadsKey(ref), value, transactionLife); err != nil {
		return 0, fmt.Errorf("oidc: keep load: %w", err)
	}
	return len(loads), nil
}

// loads are the loads of the request ref so far.
func (p *Provider) loads(ctx context.Context, ref string) ([]load, error) {
	value, err := p.passing.Get(ctx, loadsKey(ref))
	loads, err := decode[[]load](value, err)
	if loads == nil {
		return nil, err
	}
	return *loads, nil
}

// sameBrowser reports whether r has the cookie of transaction id whose digest
// is browser.
func sameBrowser(r *http.Request, id, browser string) bool {
	cookie, err := r.Cookie(cookieName(id))
	return err == nil && subtle.ConstantTimeCompare([]byte(digest(cookie.Value)), []byte(browser)) == 1
}

package relyingparty

import (
	"crypto/rand"
	"net/http"
	"sync"
	"time"
)

// maxShelf bounds how many log-ins and sessions are kept: more than a demo has,
// little enough to hold.
const maxShelf = 1000

// shelf keeps values for a while under names that nobody can guess.
type shelf[T any] struct {
	life time.Duration
	now  func() time.Time

	mu    *sync.Mutex // guards items
	items map[string]shelved[T]
}

type shelved[T any] struct {
	value T
	until time.Time
}

func newShelf[T any](life time.Duration, now func() time.Time) shelf[T] {
	return shelf[T]{life: life, now: now, mu: new(sync.Mutex), items: make(map[string]shelved[T])}
}

// put keeps value and returns its name; false if the shelf is full.
func (s *shelf[T]) put(value T) (name string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for name, item := range s.items {
		if !now.Before(item.until) {
			delete(s.items, name)
		}
	}
	if len(s.items) >= maxShelf {
		return "", false
	}
	name = rand.Text()
	s.items[name] = shelved[T]{value, now.Add(s.life)}
	return name, true
}

func (s *shelf[T]) get(name string) (value T, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.live(name)
}

// take is get for the last time: of all callers one gets the value.
func (s *shelf[T]) take(name string) (value T, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer delete(s.items, name)
	return s.live(name)
}

// live is what is kept under name, if its time isn't over. s.mu is held.
func (s *shelf[T]) live(name string) (value T, ok bool) {
	item, ok := s.items[name]
	if !ok || !s.now().Before(item.until) {
		return value, false
	}
	return item.value, true
}

// The cookies. Each holds the name of something on a shelf, or the language.
const (
	loginCookie    = "portal-login"
	sessionCookie  = "portal-session"
	languageCookie = "portal-language"
)

// cookieName has the __Host- prefix over TLS, which keeps other hosts of the
// domain from setting the cookie. Plain http on loopback can't have it.
func (p *Portal) cookieName(name string) string {
	if p.secure() {
		return "__Host-" + name
	}
	return name
}

func (p *Portal) cookie(r *http.Request, name string) string {
	cookie, err := r.Cookie(p.cookieName(name))
	if err != nil {
		return ""
	}
	return cookie.Value
}

// setCookie sets the cookie; a negative life takes it away. Lax, so that it
// comes along when the gateway sends the browser back.
func (p *Portal) setCookie(w http.ResponseWriter, name, value string, life time.Duration) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure over TLS; a demo on loopback has none
		Name: p.cookieName(name), Value: value, Path: "/", MaxAge: int(life.Seconds()),
		Secure: p.secure(), HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

package oidc_test

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"otpgate/oidc"
)

// keyServer publishes a portal's keys.
type keyServer struct {
	url    string
	ca     *x509.Certificate
	asked  atomic.Int64
	answer atomic.Pointer[http.HandlerFunc]
}

func newKeyServer(t *testing.T) *keyServer {
	t.Helper()
	s := new(keyServer)
	server := newTLSServer(t, func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		(*s.answer.Load())(w, r)
	})
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.url, s.ca = server.URL, server.Certificate()
	return s
}

func (s *keyServer) serve(h http.HandlerFunc) { s.answer.Store(&h) }

func (s *keyServer) publish(t *testing.T, keys ...jose.JSONWebKey) {
	t.Helper()
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	s.serve(func(w http.ResponseWriter, _ *http.Request) { w.Write(set) })
}

// newFetchingGate is a gate whose portal has its keys at s.
func newFetchingGate(t *testing.T, s *keyServer) *gate {
	g := newGate(t, func(g *gate) {
		g.portal.change = func(c *oidc.Client) {
			c.Keys = oidc.KeySource{URI: s.url + "/jwks", CAs: []*x509.Certificate{s.ca}}
		}
	})
	s.publish(t, g.portal.public("portal-key"))
	return g
}

func (p *portal) public(kid string) jose.JSONWebKey {
	return jose.JSONWebKey{Key: p.key.Public(), KeyID: kid, Use: "sig"}
}

func (p *portal) pushAs(kid string) answer {
	p.gate.t.Helper()
	key := jose.SigningKey{Algorithm: p.alg, Key: p.key}
	return p.push(map[string]string{"client_assertion": p.sign(key, kid, nil)})
}

func wantPushed(t *testing.T, a answer) {
	t.Helper()
	if a.status != http.StatusCreated {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestFetchedKeysRotate(t *testing.T) {
	s := newKeyServer(t)
	g := newFetchingGate(t, s)
	for range 3 {
		wantPushed(t, g.portal.push(nil))
	}
	if n := s.asked.Load(); n != 1 {
		t.Errorf("fetched %d times for three requests", n)
	}
	old := g.portal.key
	g.portal.key = newECKey(t)
	s.publish(t, g.portal.public("new"))
	g.advance(31 * time.Second)
	wantPushed(t, g.portal.pushAs("new")) // at once, though the set isn't old
	g.portal.key = old
	wantRefused(t, g.portal.push(nil), http.StatusUnauthorized, "invalid_client") // it was taken out
	if n := s.asked.Load(); n != 2 {
		t.Errorf("fetched %d times", n)
	}
}

// A key that the portal takes out ends with the set that it was in.
func TestFetchedKeysGrowOld(t *testing.T) {
	s := newKeyServer(t)
	g := newFetchingGate(t, s)
	wantPushed(t, g.portal.push(nil))
	s.publish(t, g.other.public("portal-key"))
	g.advance(9 * time.Minute)
	wantPushed(t, g.portal.push(nil))
	g.advance(time.Minute)
	wantRefused(t, g.portal.push(nil), http.StatusUnauthorized, "invalid_client")
}

// Strangers must not make us a hammer, nor may a key of theirs get in.
func TestMadeUpKidsFetchNothing(t *testing.T) {
	s := newKeyServer(t)
	g := newFetchingGate(t, s)
	wantPushed(t, g.portal.push(nil))
	g.advance(31 * time.Second)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			forged := g.portal.sign(jose.SigningKey{Algorithm: jose.ES256, Key: g.other.key}, fmt.Sprint("made up ", i), nil)
			wantRefused(t, g.portal.push(map[string]string{"client_assertion": forged}), http.StatusUnauthorized, "invalid_client")
		})
	}
	all.Wait()
	if n := s.asked.Load(); n != 2 {
		t.Errorf("fetched %d times", n)
	}
	wantPushed(t, g.portal.push(nil))
}

func TestLastKeysWhileTheServerIsDown(t *testing.T) {
	s := newKeyServer(t)
	g := newFetchingGate(t, s)
	wantPushed(t, g.portal.push(nil))
	s.serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	g.advance(23 * time.Hour)
	wantPushed(t, g.portal.push(nil))
	if log := g.log.String(); !strings.Contains(log, "can't be fetched") || !strings.Contains(log, "client=portal") {
		t.Errorf("the log says nothing: %s", log)
	}
	g.advance(time.Hour)
	wantRefused(t, g.portal.push(nil), http.StatusUnauthorized, "invalid_client")
	wantPushed(t, g.other.push(nil))
	s.publish(t, g.portal.public("portal-key"))
	g.advance(time.Minute)
	wantPushed(t, g.portal.push(nil))
}

// What isn't a good set lets nobody in, and doesn't take the place of a good one.
func TestBadKeySets(t *testing.T) {
	s := newKeyServer(t)
	g := newFetchingGate(t, s)
	good, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{g.portal.public("portal-key")}})
	if err != nil {
		t.Fatal(err)
	}
	private, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{g.portal.public("portal-key"), {Key: newECKey(t)}}})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := newKeyServer(t)
	elsewhere.publish(t, g.portal.public("portal-key"))
	many := strings.TrimSuffix(strings.Repeat(string(good[len(`{"keys":[`):len(good)-2])+",", 17), ",")
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, s) }
	}
	for name, h := range map[string]http.HandlerFunc{
		"no JSON":          text("<html>"),
		"empty":            text(`{"keys":[]}`),
		"no keys":          text(`{}`),
		"a private key":    text(string(private)),
		"a shared secret":  text(strings.Replace(string(good), "[", `[{"kty":"oct","k":"AAAA"},`, 1)),
		"17 keys":          text(`{"keys":[` + many + `]}`),
		"huge":             text(string(good) + strings.Repeat(" ", 256<<10)),
		"a redirect":       func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.url, http.StatusFound) },
		"an error":         func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound); w.Write(good) },
		"hung up":          func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"a key of no kind": text(`{"keys":[{"kty":"PQ"}]}`),
	} {
		t.Run(name, func(t *testing.T) {
			g := newFetchingGate(t, s)
			g.portal.key = newECKey(t)
			s.serve(h)
			wantRefused(t, g.portal.push(nil), http.StatusUnauthorized, "invalid_client")
			s.publish(t, g.portal.public("portal-key"), jose.JSONWebKey{Key: newECKey(t).Public(), Use: "enc"})
			g.advance(31 * time.Second)
			wantPushed(t, g.portal.push(nil))
			s.serve(h)
			g.advance(time.Hour)
			wantPushed(t, g.portal.push(nil)) // by the last good one
		})
	}
	if elsewhere.asked.Load() > 0 {
		t.Error("a redirect was followed")
	}
}

func TestKeysComeOverTrustedTLS(t *testing.T) {
	s := newKeyServer(t)
	g := newGate(t, func(g *gate) {
		g.portal.change = func(c *oidc.Client) {
			c.Keys = oidc.KeySource{URI: s.url, CAs: []*x509.Certificate{newCA(t).cert}}
		}
	})
	s.publish(t, g.portal.public("portal-key"))
	wantRefused(t, g.portal.push(nil), http.StatusUnauthorized, "invalid_client")
	if s.asked.Load() > 0 {
		t.Error("a server that nobody vouches for was asked")
	}
}

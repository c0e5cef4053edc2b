package oidc_test

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"otpgate/internal/store"
	"otpgate/oidc"
)

// keySet is the published key set, checked to be public.
func (g *gate) keySet() jose.JSONWebKeySet {
	g.t.Helper()
	a := g.get(g.Client(), "/jwks.json")
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(a.body, &set); err != nil || len(set.Keys) == 0 {
		g.t.Fatalf("key set: %v: %s", err, a.body)
	}
	for _, key := range set.Keys {
		if !key.IsPublic() || !key.Valid() || key.Use != "sig" {
			g.t.Fatalf("the key set has %+v", key)
		}
	}
	return set
}

// signedBy is the key of set that verifies the ID token of one log-in.
func (g *gate) signedBy(set jose.JSONWebKeySet, algorithms ...jose.SignatureAlgorithm) (jose.JSONWebKey, error) {
	g.t.Helper()
	token := g.portal.redeem(g.code(), nil).field("id_token")
	jws, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil {
		return jose.JSONWebKey{}, err
	}
	for _, key := range set.Key(jws.Signatures[0].Header.KeyID) {
		if _, err := jws.Verify(key); err == nil {
			return key, nil
		}
	}
	return jose.JSONWebKey{}, fmt.Errorf("no key of the set verifies it: kid %q", jws.Signatures[0].Header.KeyID)
}

// A relying party that fetches the key set once a day, whatever its max-age says,
// never meets a key that it hasn't got, all the way through two rotations and a
// restart at each step.
func TestRotationIsNeverNoticed(t *testing.T) {
	const rotation = 5 * 24 * time.Hour
	g := newGate(t, func(g *gate) { g.rotation = rotation })
	signers, most := map[string]bool{}, 0
	set := g.keySet()
	for hours := 0; hours < 13*24; hours += 3 {
		if hours%24 == 0 {
			set = g.keySet()
			most = max(most, len(set.Keys))
		}
		key, err := g.signedBy(set, jose.ES256)
		if err != nil {
			t.Fatalf("after %d h: %v", hours, err)
		}
		signers[key.KeyID] = true
		g.advance(3 * time.Hour)
		if hours%2 == 0 {
			g.restart()
		} else if err := g.provider.TendOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(signers) != 3 || most != 2 {
		t.Errorf("%d keys have signed, want 3; %d were published at a time, want 2", len(signers), most)
	}
	if notes := strings.Join(g.notes, "\n"); strings.Count(notes, "oidc_key.made") != 3 || strings.Count(notes, "oidc_key.removed") != 2 {
		t.Errorf("the audit log says:\n%s", notes)
	}
}

func TestRotationByHand(t *testing.T) {
	g := newGate(t)
	first, err := g.signedBy(g.keySet(), jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second finds the next key there
		if err := g.provider.RotateSigningKeys(t.Context(), "hanako", false); err != nil {
			t.Fatal(err)
		}
	}
	if states := g.keyStates(); !slices.Equal(states, []oidc.KeyState{oidc.KeySigning, oidc.KeyNext}) {
		t.Errorf("states: %v", states)
	}
	if key, err := g.signedBy(g.keySet(), jose.ES256); err != nil || key.KeyID != first.KeyID {
		t.Errorf("a key signs before anybody can have it: %v", err)
	}
	g.advance(48 * time.Hour)
	if key, err := g.signedBy(g.keySet(), jose.ES256); err != nil || key.KeyID == first.KeyID {
		t.Errorf("the old key signs still: %v", err)
	}
	if states := g.keyStates(); !slices.Equal(states, []oidc.KeyState{oidc.KeyRetired, oidc.KeySigning}) {
		t.Errorf("states: %v", states)
	}
	g.advance(time.Hour)
	if err := g.provider.TendOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if set := g.keySet(); len(set.Keys) != 1 || set.Keys[0].KeyID == first.KeyID {
		t.Errorf("the old key is published still")
	}
}

func TestLeakedKeyIsWithdrawn(t *testing.T) {
	g := newGate(t)
	old := g.keySet()
	if err := g.provider.RotateSigningKeys(t.Context(), "hanako", true); err != nil {
		t.Fatal(err)
	}
	set := g.keySet()
	if len(set.Keys) != 1 || set.Keys[0].KeyID == old.Keys[0].KeyID {
		t.Errorf("the key set is %+v", set)
	}
	if _, err := g.signedBy(set, jose.ES256); err != nil {
		t.Error(err)
	}
	if key, err := g.signedBy(old, jose.ES256); err == nil {
		t.Errorf("the leaked key %s signs still", key.KeyID)
	}
	if notes := strings.Join(g.notes, "\n"); !strings.Contains(notes, "hanako oidc_key.withdrawn "+old.Keys[0].KeyID) {
		t.Errorf("the audit log says:\n%s", notes)
	}
	n := 0
	err := g.records.View(t.Context(), func(r store.Reader) error {
		return r.Scan(store.Prefix("oidckey"), func(string, []byte) error { n++; return nil })
	})
	if err != nil || n != 1 {
		t.Errorf("%d keys are in the store: %v", n, err)
	}
}

// What a client has asked for signs its tokens, and nothing else.
func TestAlgorithmByClient(t *testing.T) {
	g := newGate(t)
	for _, alg := range []jose.SignatureAlgorithm{jose.EdDSA, jose.PS256, jose.RS256, jose.ES256} {
		t.Run(string(alg), func(t *testing.T) {
			g.t, g.algorithm = t, alg
			g.advance(time.Minute) // past the mark of the assertions before the restart
			g.restart()
			set := g.keySet()
			key, err := g.signedBy(set, alg)
			if err != nil {
				t.Fatal(err)
			}
			if key.Algorithm != string(alg) {
				t.Errorf("signed by a key for %s", key.Algorithm)
			}
			if alg == jose.RS256 {
				checkX5C(t, g, key)
			} else if len(key.Certificates) > 0 {
				t.Error("there is an x5c that nobody asked for")
			}
		})
	}
	g.t = t
	if a := g.get(g.Client(), "/.well-known/openid-configuration"); !strings.Contains(string(a.body), `"id_token_signing_alg_values_supported":["ES256"]`) {
		t.Errorf("discovery: %s", a.body)
	}
}

func checkX5C(t *testing.T, g *gate, key jose.JSONWebKey) {
	t.Helper()
	if len(key.Certificates) != 1 || len(key.CertificateThumbprintSHA256) == 0 {
		t.Fatalf("x5c: %d certificates", len(key.Certificates))
	}
	c := key.Certificates[0]
	roots := x509.NewCertPool()
	roots.AddCert(c)
	if _, err := c.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: g.now().Add(9 * 365 * 24 * time.Hour), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Errorf("in nine years: %v", err)
	}
	if !c.PublicKey.(*rsa.PublicKey).Equal(key.Key) {
		t.Error("the certificate is for another key")
	}
}

func TestKeySetMayBeKept(t *testing.T) {
	g := newGate(t)
	a := g.get(g.Client(), "/jwks.json")
	etag := a.header.Get("ETag")
	if etag == "" || a.header.Get("Cache-Control") != "public, max-age=900" || a.header.Get("Content-Type") != "application/jwk-set+json" {
		t.Fatalf("headers: %v", a.header)
	}
	ask := func() int {
		r, err := http.NewRequest(http.MethodGet, g.URL+"/jwks.json", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("If-None-Match", etag)
		return g.do(g.Client(), r).status
	}
	if status := ask(); status != http.StatusNotModified {
		t.Errorf("asked again: %d", status)
	}
	if err := g.provider.RotateSigningKeys(t.Context(), "", false); err != nil {
		t.Fatal(err)
	}
	if status := ask(); status != http.StatusOK {
		t.Errorf("asked again after a rotation: %d", status)
	}
}

// A clock that was set back, to before the key was made, stops no log-in.
func TestClockBeforeTheKey(t *testing.T) {
	g := newGate(t)
	g.advance(-time.Hour)
	g.restart()
	if key := g.provider.SigningKeys(); len(key) != 1 || key[0].State != oidc.KeySigning {
		t.Errorf("keys: %+v", key)
	}
}

func (g *gate) keyStates() []oidc.KeyState {
	var states []oidc.KeyState
	for _, key := range g.provider.SigningKeys() {
		states = append(states, key.State)
	}
	return states
}

func (g *gate) noteKey(_ context.Context, by, event, detail string) error {
	g.notes = append(g.notes, strings.TrimSpace(by+" "+event+" "+detail))
	return nil
}

// However short the policy: a next key is made once the last one signs, so there is
// never more than one of them.
func TestOneNextKeyAtATime(t *testing.T) {
	g := newGate(t, func(g *gate) { g.rotation = time.Second })
	for range 20 {
		g.advance(6 * time.Hour)
		if err := g.provider.TendOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
		next := 0
		for _, state := range g.keyStates() {
			if state == oidc.KeyNext {
				next++
			}
		}
		if next > 1 {
			t.Fatalf("%d next keys", next)
		}
	}
}

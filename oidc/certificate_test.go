package oidc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"

	"otpgate/oidc"
)

// authority is a CA of a test.
type authority struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	chain [][]byte // between it and the root
}

func newCA(t *testing.T, change ...func(*x509.Certificate)) *authority {
	t.Helper()
	return (*authority)(nil).authority(t, change...)
}

// authority makes a CA under a; a root if a is nil.
func (a *authority) authority(t *testing.T, change ...func(*x509.Certificate)) *authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA " + t.Name()},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if a != nil {
		template.Subject.CommonName = "under " + a.cert.Subject.CommonName
	}
	for _, c := range change {
		c(template)
	}
	key := newECKey(t)
	under := &authority{key: key}
	if a == nil {
		under.cert = sign(t, template, template, key, key)
		return under
	}
	under.cert = sign(t, template, a.cert, key, a.key)
	under.chain = slices.Concat([][]byte{under.cert.Raw}, a.chain)
	return under
}

// issue makes a client's certificate, but for the change.
func (a *authority) issue(t *testing.T, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{Country: []string{"JP"}, Organization: []string{"Bank, Ltd."}, CommonName: "portal"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		DNSNames: []string{"portal.example"}, EmailAddresses: []string{"portal@bank.example"},
		IPAddresses: []net.IP{net.ParseIP("192.0.2.7"), net.ParseIP("2001:db8::7")},
		URIs:        []*url.URL{{Scheme: "urn", Opaque: "portal:7"}},
	}
	if change != nil {
		change(template)
	}
	key := newECKey(t)
	cert := sign(t, template, a.cert, key, a.key)
	return tls.Certificate{Certificate: slices.Concat([][]byte{cert.Raw}, a.chain), PrivateKey: key, Leaf: cert}
}

func sign(t *testing.T, template, parent *x509.Certificate, key, parentKey *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// withCertificate is a program that shows chain, whoever is asked for.
func (g *gate) withCertificate(chain tls.Certificate) *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(g.mtls.Certificate())
	transport := &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs:              roots,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &chain, nil },
	}}
	g.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func newTLSServer(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	return s
}

func contextWithClient(t *testing.T, client *http.Client) context.Context {
	return context.WithValue(t.Context(), oauth2.HTTPClient, client)
}

// byCertificate makes the client one of TLSClientAuth.
func byCertificate(expected oidc.Certificate) func(*oidc.Client) {
	return func(c *oidc.Client) {
		c.Auth, c.Keys, c.SenderConstraint, c.Certificate = oidc.TLSClientAuth, oidc.KeySource{}, oidc.ByMTLS, expected
	}
}

func (g *gate) pushWith(chain tls.Certificate) answer {
	g.t.Helper()
	return g.pushBy(g.withCertificate(chain), g.mtls.URL, g.portal.pushForm(bare))
}

func TestCertificateNames(t *testing.T) {
	ca := newCA(t)
	roots := []*x509.Certificate{ca.cert}
	right, odd := ca.issue(t, nil), ca.issue(t, func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: "portal.example"}
		c.DNSNames, c.EmailAddresses = []string{"*.example", "portal.example.evil"}, []string{"Portal@bank.example"}
		c.IPAddresses, c.URIs = []net.IP{net.ParseIP("192.0.2.8")}, []*url.URL{{Scheme: "urn", Opaque: "portal:70"}}
	})
	for name, expected := range map[string]oidc.Certificate{
		"subject":         {SubjectDN: `CN=portal,O=Bank\, Ltd.,C=JP`},
		"subject, spaced": {SubjectDN: `cn=portal, o=Bank\, Ltd., c=JP`},
		"subject by OID":  {SubjectDN: `2.5.4.3=portal,2.5.4.10=Bank\2c Ltd.,C=JP`},
		"DNS":             {SANDNS: "Portal.Example"},
		"URI":             {SANURI: "urn:portal:7"},
		"IPv4":            {SANIP: netip.MustParseAddr("192.0.2.7")},
		"IPv6":            {SANIP: netip.MustParseAddr("2001:db8:0:0::7")},
		"e-mail":          {SANEmail: "portal@bank.example"},
	} {
		t.Run(name, func(t *testing.T) {
			expected.CAs = roots
			g := newGate(t, func(g *gate) { g.portal.change = byCertificate(expected) })
			if a := g.pushWith(right); a.status != http.StatusCreated {
				t.Errorf("%d %s\n%s", a.status, a.body, g.log)
			}
			wantRefused(t, g.pushWith(odd), http.StatusUnauthorized, "invalid_client")
		})
	}
	for _, subject := range []string{"CN=portal,C=JP", "C=JP,O=Bank\\, Ltd.,CN=portal", "CN=Portal,O=Bank\\, Ltd.,C=JP", "CN=portal+O=Bank\\, Ltd.,C=JP", "CN=portal"} {
		g := newGate(t, func(g *gate) {
			g.portal.change = byCertificate(oidc.Certificate{CAs: roots, SubjectDN: subject})
		})
		wantRefused(t, g.pushWith(right), http.StatusUnauthorized, "invalid_client")
	}
}

func TestCertificateRefused(t *testing.T) {
	ca, hour := newCA(t), time.Hour
	long := ca
	for range 5 {
		long = long.authority(t)
	}
	expired := newCA(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	g := newGate(t, func(g *gate) {
		g.portal.change = byCertificate(oidc.Certificate{CAs: []*x509.Certificate{ca.cert, expired.cert}, SANDNS: "portal.example"})
	})
	for name, chain := range map[string]tls.Certificate{
		"another authority's":     newCA(t).issue(t, nil),
		"expired":                 ca.issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }),
		"not yet valid":           ca.issue(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(hour) }),
		"an expired authority's":  expired.issue(t, nil),
		"for servers only":        ca.issue(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
		"another name":            ca.issue(t, func(c *x509.Certificate) { c.DNSNames = []string{"portal.example.evil"} }),
		"the name as CN alone":    ca.issue(t, func(c *x509.Certificate) { c.DNSNames, c.Subject.CommonName = nil, "portal.example" }),
		"under an expired one":    ca.authority(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }).issue(t, nil),
		"under one that is no CA": ca.authority(t, func(c *x509.Certificate) { c.IsCA = false }).issue(t, nil),
		"a long chain":            long.issue(t, nil),
		"a critical extension": ca.issue(t, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}}}
		}),
	} {
		t.Run(name, func(t *testing.T) { wantRefused(t, g.pushWith(chain), http.StatusUnauthorized, "invalid_client") })
	}
	right := ca.authority(t).issue(t, nil)
	if a := g.pushWith(right); a.status != http.StatusCreated {
		t.Errorf("from an authority between: %d %s", a.status, a.body)
	}
	// RFC 8705 §2: client_id is what tells whose certificate it must be.
	anonymous := g.portal.pushForm(with(bare, map[string]string{"client_id": ""}))
	wantRefused(t, g.pushBy(g.withCertificate(right), g.mtls.URL, anonymous), http.StatusUnauthorized, "invalid_client")
	wantRefused(t, g.pushBy(g.withCertificate(right), g.mtls.URL, g.other.pushForm(bare)), http.StatusUnauthorized, "invalid_client")
	// A connection that stays open is looked at anew for each request.
	client := g.withCertificate(right)
	g.advance(2 * hour)
	wantRefused(t, g.pushBy(client, g.mtls.URL, g.portal.pushForm(bare)), http.StatusUnauthorized, "invalid_client")
	// Where browsers are nobody is asked for a certificate, so none is shown.
	wantRefused(t, g.portal.push(bare), http.StatusUnauthorized, "invalid_client")
}

func TestSelfSignedCertificate(t *testing.T) {
	ca := newCA(t)
	whole, byDigest, stranger := ca.issue(t, nil), ca.issue(t, nil), ca.issue(t, nil)
	sum := sha256.Sum256(byDigest.Leaf.Raw)
	g := newGate(t, func(g *gate) {
		g.portal.change = func(c *oidc.Client) {
			c.Auth, c.SenderConstraint = oidc.SelfSignedTLS, oidc.ByMTLS
			c.Keys.Set.Keys = []jose.JSONWebKey{
				{Key: whole.Leaf.PublicKey, Certificates: []*x509.Certificate{whole.Leaf}},
				{Key: byDigest.Leaf.PublicKey, CertificateThumbprintSHA256: sum[:]},
			}
		}
	})
	for _, chain := range []tls.Certificate{whole, byDigest} {
		if a := g.pushWith(chain); a.status != http.StatusCreated {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	wantRefused(t, g.pushWith(stranger), http.StatusUnauthorized, "invalid_client")
	// The same key in another certificate is another certificate.
	template := *whole.Leaf
	template.SerialNumber = big.NewInt(99)
	again := sign(t, &template, ca.cert, whole.PrivateKey.(*ecdsa.PrivateKey), ca.key)
	wantRefused(t, g.pushWith(tls.Certificate{Certificate: [][]byte{again.Raw}, PrivateKey: whole.PrivateKey}), http.StatusUnauthorized, "invalid_client")
}

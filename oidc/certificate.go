package oidc

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"otpgate/oidc/dn"
)

// maxChain is how many certificates a client may send, its own among them: two
// more than a public authority has between its root and its customers.
const maxChain = 5

// Certificate is what is known of a client's certificate with TLSClientAuth: who
// vouches for it, and exactly one name in it (RFC 8705 §2.1.2).
type Certificate struct {
	CAs []*x509.Certificate

	SubjectDN string // RFC 4514
	SANDNS    string
	SANURI    string
	SANIP     netip.Addr
	SANEmail  string
}

func (c *Certificate) given() bool { return len(c.CAs) > 0 || c.names() > 0 }

// names is how many names are expected.
func (c *Certificate) names() int {
	n := 0
	for _, given := range []bool{c.SubjectDN != "", c.SANDNS != "", c.SANURI != "", c.SANIP.IsValid(), c.SANEmail != ""} {
		if given {
			n++
		}
	}
	return n
}

func (c *Certificate) check() error {
	switch {
	case len(c.CAs) == 0:
		return errors.New("certificate: has no authority that vouches for it")
	case c.names() != 1:
		return errors.New("certificate: must have exactly one of subject_dn, san_dns, san_uri, san_ip and san_email")
	case c.SubjectDN != "":
		if _, err := dn.Parse(c.SubjectDN); err != nil {
			return fmt.Errorf("certificate: subject_dn %w", err)
		}
	}
	return nil
}

// verify reports what keeps chain, which a client has shown and whose first key
// it has, from being the expected certificate at now (RFC 8705 §2.1).
// Revocation isn't looked up: see docs/divergences.md.
func (c *Certificate) verify(chain []*x509.Certificate, now time.Time) error {
	if len(chain) > maxChain {
		return fmt.Errorf("more than %d certificates were sent", maxChain)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, ca := range c.CAs {
		roots.AddCert(ca)
	}
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return fmt.Errorf("the certificate: %w", err)
	}
	if !c.has(chain[0]) {
		return errors.New("the certificate is good, but not this client's: its subject or subjectAltName is another")
	}
	return nil
}

// has reports whether cert has the one expected name.
func (c *Certificate) has(cert *x509.Certificate) bool {
	switch {
	case c.SubjectDN != "":
		name, err := dn.Parse(c.SubjectDN)
		return err == nil && name.Matches(cert.RawSubject)
	case c.SANDNS != "": // RFC 4343: without regard to case; a wildcard stands for itself
		return slices.ContainsFunc(cert.DNSNames, func(name string) bool { return strings.EqualFold(name, c.SANDNS) })
	case c.SANURI != "":
		for _, uri := range cert.URIs {
			if uri.String() == c.SANURI {
				return true
			}
		}
		return false
	case c.SANIP.IsValid(): // RFC 8705 §2.1.2: in binary
		return slices.ContainsFunc(cert.IPAddresses, func(ip net.IP) bool {
			address, ok := netip.AddrFromSlice(ip)
			return ok && address.Unmap() == c.SANIP.Unmap()
		})
	case c.SANEmail != "":
		return slices.Contains(cert.EmailAddresses, c.SANEmail)
	}
	return false
}

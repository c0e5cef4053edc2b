// Package dn compares the subject of a certificate with a distinguished name
// that a person has written down (RFC 4514), such as
// CN=portal,O=Example Bank,C=JP.
//
// It owns the names of attribute types and what "the same" means. Reading the
// string is github.com/go-ldap/ldap's; who vouches for the certificate is the
// caller's business. config checks names by it, oidc compares by it.
package dn

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// maxLength bounds a name, in bytes: several times the longest that any authority
// gives out.
const maxLength = 1024

// Name is a distinguished name. Its zero value is no name's equal.
type Name struct {
	rdns []rdn // most specific last, as in a certificate
}

// rdn is a relative distinguished name, its attributes sorted: they are a set.
type rdn []string

// Parse reads a name as RFC 4514 §3 writes it: the most specific part first.
// Attribute types are those of knownTypes, or an object identifier.
func Parse(s string) (Name, error) {
	if len(s) > maxLength {
		return Name{}, fmt.Errorf("must have at most %d bytes", maxLength)
	}
	parsed, err := ldap.ParseDN(s)
	if err != nil {
		return Name{}, fmt.Errorf("is no distinguished name (RFC 4514), such as CN=portal,O=Example Bank,C=JP: %w", err)
	}
	if len(parsed.RDNs) == 0 {
		return Name{}, errors.New("is empty")
	}
	var n Name
	for _, part := range slices.Backward(parsed.RDNs) {
		var r rdn
		for _, a := range part.Attributes {
			oid, err := typeOf(a.Type)
			if err != nil {
				return Name{}, err
			}
			r = append(r, attribute(oid, a.Value))
		}
		slices.Sort(r)
		n.rdns = append(n.rdns, r)
	}
	return n, nil
}

// Matches reports whether rawSubject, the DER of a certificate's subject, is n:
// the same parts in the same order, values octet for octet. RFC 4514 leaves
// matching to the attributes' own rules, most of which ignore case; to be
// stricter refuses a name, and never takes a wrong one.
func (n Name) Matches(rawSubject []byte) bool {
	var subject pkix.RDNSequence
	if rest, err := asn1.Unmarshal(rawSubject, &subject); err != nil || len(rest) > 0 || len(n.rdns) == 0 {
		return false
	}
	return slices.EqualFunc(n.rdns, subject, func(want rdn, set pkix.RelativeDistinguishedNameSET) bool {
		var have rdn
		for _, a := range set {
			value, ok := a.Value.(string)
			if !ok {
				return false
			}
			have = append(have, attribute(a.Type.String(), value))
		}
		slices.Sort(have)
		return slices.Equal(want, have)
	})
}

// attribute is a type and a value in one string; no type has a NUL in it.
func attribute(oid, value string) string { return oid + "\x00" + value }

// typeOf is the object identifier of an attribute type as it is written.
func typeOf(written string) (string, error) {
	if oid, ok := knownTypes()[strings.ToUpper(written)]; ok {
		return oid, nil
	}
	if oid, err := x509.ParseOID(written); err == nil {
		return oid.String(), nil
	}
	return "", fmt.Errorf("has the attribute type %q, which isn't known here: write its object identifier, such as 2.5.4.97", written)
}

// knownTypes are those of RFC 4514 §3, and three that certificates of banks have
// besides.
func knownTypes() map[string]string {
	return map[string]string{
		"CN": "2.5.4.3", "L": "2.5.4.7", "ST": "2.5.4.8", "O": "2.5.4.10", "OU": "2.5.4.11", "C": "2.5.4.6",
		"STREET": "2.5.4.9", "DC": "0.9.2342.19200300.100.1.25", "UID": "0.9.2342.19200300.100.1.1",
		"SERIALNUMBER": "2.5.4.5", "ORGANIZATIONIDENTIFIER": "2.5.4.97", "EMAILADDRESS": "1.2.840.113549.1.9.1",
	}
}

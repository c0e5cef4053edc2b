package dn_test

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"

	"otpgate/oidc/dn"
)

// der is the subject as a certificate has it: one RDN for each list of pairs.
func der(t *testing.T, rdns ...[]string) []byte {
	t.Helper()
	var seq pkix.RDNSequence
	oids := map[string]asn1.ObjectIdentifier{
		"C": {2, 5, 4, 6}, "O": {2, 5, 4, 10}, "OU": {2, 5, 4, 11}, "CN": {2, 5, 4, 3}, "ID": {2, 5, 4, 97},
		"UID": {0, 9, 2342, 19200300, 100, 1, 1},
	}
	for _, rdn := range rdns {
		var set pkix.RelativeDistinguishedNameSET
		for i := 0; i < len(rdn); i += 2 {
			set = append(set, pkix.AttributeTypeAndValue{Type: oids[rdn[i]], Value: rdn[i+1]})
		}
		seq = append(seq, set)
	}
	raw, err := asn1.Marshal(seq)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestMatches(t *testing.T) {
	subject := der(t, []string{"C", "JP"}, []string{"O", "Bank, 銀行"}, []string{"OU", "a", "UID", "7"}, []string{"CN", "portal"})
	for name, same := range map[string]bool{
		`CN=portal,OU=a+UID=7,O=Bank\, 銀行,C=JP`:                       true,
		`CN=portal,UID=7+OU=a,O=Bank\, 銀行,C=JP`:                       true, // a set
		`cn=portal, ou=a + uid=7, o=Bank\2c \e9\8a\80\e8\a1\8c, C=JP`: true,
		`2.5.4.3=portal,OU=a+UID=7,O=Bank\, 銀行,C=JP`:                  true,
		`CN=portal,OU=a+UID=7,O=Bank\, 銀行`:                            false,
		`OU=a+UID=7,O=Bank\, 銀行,C=JP`:                                 false,
		`CN=portal,OU=a,O=Bank\, 銀行,C=JP`:                             false,
		`CN=portal,OU=a,UID=7,O=Bank\, 銀行,C=JP`:                       false,
		`C=JP,O=Bank\, 銀行,OU=a+UID=7,CN=portal`:                       false,
		`CN=Portal,OU=a+UID=7,O=Bank\, 銀行,C=JP`:                       false,
		`CN=portal,OU=a+UID=7,O=Bank\, 銀行,C=JP,C=JP`:                  false,
		`CN=portal\00,OU=a+UID=7,O=Bank\, 銀行,C=JP`:                    false,
		`O=portal,OU=a+UID=7,O=Bank\, 銀行,C=JP`:                        false,
		`CN=portal,OU=a+UID=7+UID=7,O=Bank\, 銀行,C=JP`:                 false,
		`CN=portal,OU=a+UID=7,O=Bank\, 銀行,organizationIdentifier=JP`:  false,
	} {
		n, err := dn.Parse(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n.Matches(subject) != same {
			t.Errorf("%s: matches is %v", name, !same)
		}
	}
	if (dn.Name{}).Matches(der(t)) {
		t.Error("no name matches an empty subject")
	}
}

func TestParseRefuses(t *testing.T) {
	for _, name := range []string{"", "portal", "CN=a,", "CN=a;b=c=d", "XX=a", "CN=" + strings.Repeat("a", 1024), ".=a"} {
		if _, err := dn.Parse(name); err == nil {
			t.Errorf("%.20q is taken", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("CN=portal,O=Bank\\, Ltd.,C=JP", []byte{0x30, 0})
	f.Add("2.5.4.3=#0c0161+UID=7", []byte{0x30, 1})
	f.Fuzz(func(t *testing.T, s string, raw []byte) {
		n, err := dn.Parse(s)
		if err != nil && n.Matches(raw) {
			t.Error("what isn't a name matches")
		}
	})
}

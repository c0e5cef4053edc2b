package radius

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
)

// Certificate is by what a client's certificate is known: exactly one of these.
// That it comes from somebody to be trusted, the trust roots have to say.
type Certificate struct {
	SubjectCN string // the Common Name of its subject
	DNSName   string // one of its names (subjectAltName), in lower case
	SHA256    string // of all of it, in lower-case hex
}

// tlsSecret is the shared secret of all clients over TLS (RFC 6614 §2.3).
const tlsSecret = "radsec"

// check says what is wrong with c.
func (c Certificate) check() error {
	given := 0
	for _, value := range []string{c.SubjectCN, c.DNSName, c.SHA256} {
		if value != "" {
			given++
		}
	}
	_, err := hex.DecodeString(c.SHA256)
	switch {
	case given != 1:
		return fmt.Errorf("%d things to know its certificate by, not one", given)
	case c.DNSName != strings.ToLower(c.DNSName):
		return fmt.Errorf("the name %s, which isn't in lower case", c.DNSName)
	case c.SHA256 != "" && (err != nil || len(c.SHA256) != 2*sha256.Size || c.SHA256 != strings.ToLower(c.SHA256)):
		return fmt.Errorf("a fingerprint that isn't %d lower-case hex digits", 2*sha256.Size)
	}
	return nil
}

// presenting returns the client that cert maps to, if it may come from addr; or
// the reason to refuse it. What only one certificate can have goes before names,
// and DNS names go before the Common Name (RFC 6614 §2.3). Of two clients whose
// DNS names it has, the address must leave one.
func (t *Clients) presenting(cert *x509.Certificate, addr netip.Addr) (*client, error) {
	var byName []Certificate
	for _, name := range cert.DNSNames {
		byName = append(byName, Certificate{DNSName: strings.ToLower(name)})
	}
	for _, keys := range [][]Certificate{
		{{SHA256: fingerprintOf(cert)}}, byName, {{SubjectCN: cert.Subject.CommonName}},
	} {
		if c, err := t.only(keys, addr); c != nil || err != nil {
			return c, err
		}
	}
	return nil, certificateUnknown
}

// only returns the one client that has one of the keys and may come from addr;
// nil if none has a key; or the reason to refuse it.
func (t *Clients) only(keys []Certificate, addr netip.Addr) (found *client, err error) {
	for _, key := range keys {
		c := t.byCertificate[key]
		switch {
		case c == nil, c == found: // found: the certificate has the name twice
		case !c.Prefix.Contains(addr.Unmap()):
			err = fmt.Errorf("%w (client %s)", certificateElsewhere, c.Name)
		case found != nil:
			return nil, fmt.Errorf("%w (clients %s and %s)", certificateAmbiguous, found.Name, c.Name)
		default:
			found = c
		}
	}
	if found != nil {
		return found, nil
	}
	return nil, err
}

// networkOf returns the network, the narrowest, of the clients that may come over
// TLS from addr; ok is false if none may.
func (t *Clients) networkOf(addr netip.Addr) (narrowest netip.Prefix, ok bool) {
	for _, p := range t.overTLS {
		if p.Contains(addr.Unmap()) && (!ok || p.Bits() > narrowest.Bits()) {
			narrowest, ok = p, true
		}
	}
	return narrowest, ok
}

func fingerprintOf(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}

// presented is what the log says about a certificate that was refused: all that
// a client's entry can name. Its sender chose it, so it is clipped.
func presented(cert *x509.Certificate) []slog.Attr {
	const most, longest = 5, 100 // names; octets of each
	clip := func(s string) string { return strings.ToValidUTF8(s[:min(len(s), longest)], "") }
	var names []string
	for _, name := range cert.DNSNames[:min(len(cert.DNSNames), most)] {
		names = append(names, clip(name))
	}
	return []slog.Attr{
		slog.String("subject_cn", clip(cert.Subject.CommonName)), slog.Any("san_dns", names),
		slog.String("sha256", fingerprintOf(cert)), slog.String("issuer", clip(cert.Issuer.String())),
	}
}

package radius

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
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
// the reason to refuse it. What only one certificate can have goes before names.
func (t *Clients) presenting(cert *x509.Certificate, addr netip.Addr) (*client, error) {
	keys := []Certificate{{SHA256: fingerprintOf(cert)}}
	for _, name := range cert.DNSNames {
		keys = append(keys, Certificate{DNSName: strings.ToLower(name)})
	}
	keys = append(keys, Certificate{SubjectCN: cert.Subject.CommonName})
	for _, key := range keys {
		c := t.byCertificate[key]
		switch {
		case c == nil:
		case !c.Prefix.Contains(addr.Unmap()):
			return nil, fmt.Errorf("%w (client %s)", certificateElsewhere, c.Name)
		default:
			return c, nil
		}
	}
	return nil, certificateUnknown
}

// mayConnect reports whether some client may come over TLS from addr.
func (t *Clients) mayConnect(addr netip.Addr) bool {
	return slices.ContainsFunc(t.overTLS, func(p netip.Prefix) bool { return p.Contains(addr.Unmap()) })
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

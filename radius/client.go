package radius

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/time/rate"

	"otpgate/radius/dictionary"
)

// Client is network gear that may ask, by the addresses it asks from.
type Client struct {
	Name   string // for logs, metrics and the audit log; unique
	Prefix netip.Prefix
	Secret Secret // shared with it, over UDP
	// Certificate makes it a client over TLS, which has no Secret.
	Certificate *Certificate
	Realm       string // of its users, unless their names have one of OtherRealms
	OtherRealms []string
	Latin1      bool           // what people type there is in ISO 8859-1, not in UTF-8
	Reply       dictionary.Set // what its Accepts carry
	Mode        Mode
	CodeFirst   bool // in ModePasswordOTP: the code stands before the password
	FirstFactor FirstFactor
	// RequireMessageAuthenticator drops an Access-Request without that
	// attribute. Without it, whoever can alter packets on the way can turn a
	// Reject into an Accept (CVE-2024-3596).
	RequireMessageAuthenticator bool
	// Rate is how many log-ins a second are evaluated; the rest is dropped. 0: no
	// limit. Accounting has accountingPerLogin times as much of its own.
	Rate int
	// Accounting says that its Accounting-Requests are kept and answered.
	Accounting bool
}

// Secret is the secret shared with a client. It does not print itself.
type Secret []byte

const hidden = "[hidden]"

// Format implements fmt.Formatter, for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hidden)) }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText implements encoding.TextMarshaler, for JSON and YAML.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Clients finds the client of an address over UDP: of those whose prefix holds
// it, the one with the longest; and over TLS that of a certificate.
type Clients struct {
	byPrefix map[netip.Prefix]*client
	bits     []int // prefix lengths in use, longest first

	byCertificate map[Certificate]*client
	overTLS       []netip.Prefix // of those
}

// client is a Client, the hashes keyed with its secret, and what it did.
type client struct {
	Client
	hashes    sync.Pool // of *hashes
	replySize dictionary.Size
	limit     *rate.Limiter // of log-ins
	accounts  *rate.Limiter // of Accounting-Requests
	tally     tally
}

// NewClients returns the table of list. It refuses an entry that can't be used
// and two entries for one name or one prefix. Address bits beyond the prefix
// length are ignored. An IPv4 prefix may be written as IPv4-mapped IPv6; ::/0
// holds IPv6 addresses only.
func NewClients(list []Client) (*Clients, error) {
	t := &Clients{byPrefix: make(map[netip.Prefix]*client, len(list)), byCertificate: make(map[Certificate]*client)}
	names := make(map[string]bool, len(list))
	for _, c := range list {
		switch {
		case c.Name == "":
			return nil, fmt.Errorf("RADIUS client for %s has no name", c.Prefix)
		case names[c.Name]:
			return nil, fmt.Errorf("two RADIUS clients are named %q", c.Name)
		case !c.Prefix.IsValid():
			return nil, fmt.Errorf("RADIUS client %q has no valid address", c.Name)
		case c.Certificate != nil && len(c.Secret) > 0:
			return nil, fmt.Errorf("RADIUS client %q has both a shared secret and a certificate", c.Name)
		case c.Certificate == nil && len(c.Secret) == 0: // RFC 2865 §3: MUST NOT be empty
			return nil, fmt.Errorf("RADIUS client %q has an empty shared secret", c.Name)
		}
		if err := c.checkMode(); err != nil {
			return nil, err
		}
		c.Prefix = unmap(c.Prefix)
		names[c.Name] = true
		if c.Certificate != nil {
			if err := t.addCertified(c); err != nil {
				return nil, err
			}
			continue
		}
		if other := t.byPrefix[c.Prefix]; other != nil {
			return nil, fmt.Errorf("RADIUS clients %q and %q have the same address %s", other.Name, c.Name, c.Prefix)
		}
		t.add(c)
	}
	slices.SortFunc(t.bits, func(a, b int) int { return b - a })
	return t, nil
}

func (t *Clients) add(c Client) {
	t.byPrefix[c.Prefix] = newClient(c)
	if !slices.Contains(t.bits, c.Prefix.Bits()) {
		t.bits = append(t.bits, c.Prefix.Bits())
	}
}

// addCertified adds a client over TLS.
func (t *Clients) addCertified(c Client) error {
	if err := c.Certificate.check(); err != nil {
		return fmt.Errorf("RADIUS client %q has %w", c.Name, err)
	}
	if other := t.byCertificate[*c.Certificate]; other != nil {
		return fmt.Errorf("RADIUS clients %q and %q have the same certificate", other.Name, c.Name)
	}
	c.Secret = Secret(tlsSecret)
	t.byCertificate[*c.Certificate] = newClient(c)
	t.overTLS = append(t.overTLS, c.Prefix)
	return nil
}

func newClient(c Client) *client {
	entry := &client{Client: c, replySize: c.Reply.Size(), limit: newClientLimit(c.Rate), accounts: newClientLimit(accountingPerLogin * c.Rate)}
	entry.hashes.New = func() any { return newHashes(c.Secret) }
	return entry
}

// all is an iterator over the clients, in no order.
func (t *Clients) all(yield func(*client) bool) {
	for _, c := range t.byPrefix {
		if !yield(c) {
			return
		}
	}
	for _, c := range t.byCertificate {
		if !yield(c) {
			return
		}
	}
}

// lookup returns the client of addr, or nil.
func (t *Clients) lookup(addr netip.Addr) *client {
	addr = addr.Unmap()
	for _, bits := range t.bits {
		prefix, err := addr.Prefix(bits)
		if err != nil { // longer than an IPv4 address
			continue
		}
		if c := t.byPrefix[prefix]; c != nil {
			return c
		}
	}
	return nil
}

// unmap returns p masked, and as IPv4 if it is IPv4-mapped.
func unmap(p netip.Prefix) netip.Prefix {
	const mappedBits = 96 // of ::ffff:0:0/96
	if p.Addr().Is4In6() && p.Bits() >= mappedBits {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mappedBits)
	}
	return p.Masked()
}

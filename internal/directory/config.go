package directory

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

const (
	// defaultLimit leaves gear, which waits 3 s for its answer, time for the rest.
	defaultLimit = 2 * time.Second
	// maxLimit is what the most patient gear waits.
	maxLimit = 10 * time.Second
	// maxServers is as many as share defaultLimit with some use.
	maxServers = 8
)

// Config is how a directory is asked.
type Config struct {
	// Name is its name in logs and metrics.
	Name string
	// Servers are asked in this order: ldaps://HOST[:PORT], or ldap://HOST[:PORT],
	// which has to do StartTLS before anything else is said.
	Servers []string
	// Roots are who may have signed the servers' certificates. nil: whom the
	// system trusts.
	Roots *x509.CertPool
	// Limit is how long Check, or Groups, takes at most, over all servers. 0: 2 s.
	Limit time.Duration

	Account Account
	Users   Users
	Groups  Groups

	Now     func() time.Time
	Log     *slog.Logger
	Metrics *Metrics
}

// Account is whom searches are made as. It is needed for every search.
type Account struct {
	DN       string
	Password Secret
}

// Users is how a person's entry is found: by Template, or else by Base and Filter.
type Users struct {
	// Template is the entry's name, with {user}: uid={user},ou=people,dc=example.
	Template string
	// Base is where the search begins, with all that is below.
	Base string
	// Filter is what finds the one entry, with {user}: (uid={user}).
	Filter string
}

// Groups is where a person's groups are: in Attribute of the entry, or else
// found by Base and Filter. All empty: nowhere. A group's name is the first
// value of its distinguished name: vpn of cn=vpn,ou=groups,dc=example.
type Groups struct {
	// Attribute holds names of groups' entries: memberOf.
	Attribute string
	// Base is where the search begins, with all that is below.
	Base string
	// Filter finds the groups, with {dn} or {user}: (member={dn}).
	Filter string
}

// Secret is a password. It does not print itself.
type Secret []byte

const hidden = "[hidden]"

// Format implements fmt.Formatter, for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hidden)) }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText implements encoding.TextMarshaler, for JSON and YAML.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

func (g Groups) any() bool { return g.Attribute != "" || g.Filter != "" }

// check says what is wrong with c.
func (c Config) check() error {
	switch n := len(c.Servers); {
	case n == 0 || n > maxServers:
		return fmt.Errorf("%d servers; 1 to %d can be asked", n, maxServers)
	case c.Limit < 0 || c.Limit > maxLimit:
		return fmt.Errorf("a limit of %v; at most %v makes sense", c.Limit, maxLimit)
	case c.searches() && (c.Account.DN == "" || len(c.Account.Password) == 0):
		return errors.New("searches need a service account, with a name and a password")
	}
	return errors.Join(c.Users.check(), c.Groups.check())
}

// searches reports whether anything is searched.
func (c Config) searches() bool { return c.Users.Template == "" || c.Groups.any() }

func (u Users) check() error {
	if u.Template == "" {
		return checkSearch("users", u.Base, u.Filter, "{user}")
	}
	if u.Base != "" || u.Filter != "" {
		return errors.New("users are found by a template or by a search, not by both")
	}
	if !strings.Contains(u.Template, "={user}") {
		return fmt.Errorf("the template %s has no attribute with {user}, as uid={user},ou=people,dc=example has", u.Template)
	}
	if _, err := ldap.ParseDN(strings.ReplaceAll(u.Template, "{user}", "x")); err != nil {
		return fmt.Errorf("the template %s is no distinguished name: %w", u.Template, err)
	}
	return nil
}

func (g Groups) check() error {
	switch {
	case g.Attribute == "" && g.Base == "" && g.Filter == "":
		return nil
	case g.Attribute == "":
		return checkSearch("groups", g.Base, g.Filter, "{dn}", "{user}")
	case g.Base != "" || g.Filter != "":
		return errors.New("groups are in an attribute or found by a search, not both")
	}
	return nil
}

// checkSearch says what is wrong with a search for what, whose filter has to
// hold one of these placeholders: without it, it would find the same for all.
func checkSearch(what, base, filter string, placeholders ...string) error {
	if base == "" || filter == "" {
		return fmt.Errorf("a search for %s has a base and a filter", what)
	}
	if _, err := ldap.ParseDN(base); err != nil {
		return fmt.Errorf("the base %s is no distinguished name: %w", base, err)
	}
	filled := filter
	for _, p := range placeholders {
		filled = strings.ReplaceAll(filled, p, "x")
	}
	if filled == filter {
		return fmt.Errorf("the filter %s has no %s", filter, strings.Join(placeholders, " or "))
	}
	if _, err := ldap.CompileFilter(filled); err != nil {
		return fmt.Errorf("%s is no filter: %w", filter, err)
	}
	return nil
}

// parseServer reads one of Config.Servers.
func parseServer(address string) (hostPort, host string, startTLS bool, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", "", false, fmt.Errorf("the server is no URL: %w", err)
	}
	port := map[string]string{"ldap": ldap.DefaultLdapPort, "ldaps": ldap.DefaultLdapsPort}[u.Scheme]
	if port == "" || u.Hostname() == "" || *u != (url.URL{Scheme: u.Scheme, Host: u.Host}) {
		return "", "", false, fmt.Errorf("the server %s isn't ldaps://HOST[:PORT], or ldap://HOST[:PORT] for StartTLS", u.Redacted())
	}
	if u.Port() != "" {
		port = u.Port()
	}
	return net.JoinHostPort(u.Hostname(), port), u.Hostname(), u.Scheme == "ldap", nil
}

package directory

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"math"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// maxFound is how many groups a search may find: more than a user may have in
// an Accept, so that it is seen that there are too many.
const maxFound = 200

// noAttributes asks for none (RFC 4511 §4.5.1.8).
const noAttributes = "1.1"

// dnOf returns the name of user's entry, or "" if there isn't exactly one.
func (d *Directory) dnOf(ctx context.Context, s *server, user string) (string, error) {
	if t := d.cfg.Users.Template; t != "" {
		return entryName(t, user), nil
	}
	entry, err := d.entryOf(ctx, s, user, noAttributes)
	if entry == nil {
		return "", err
	}
	return entry.DN, err
}

// entryOf returns user's entry with that attribute, or nil if there isn't
// exactly one.
func (d *Directory) entryOf(ctx context.Context, s *server, user, attribute string) (*ldap.Entry, error) {
	request := &ldap.SearchRequest{
		BaseDN: d.cfg.Users.Base, Scope: ldap.ScopeWholeSubtree, SizeLimit: 2,
		Filter:     filled(d.cfg.Users.Filter, "", user),
		Attributes: []string{attribute},
	}
	if t := d.cfg.Users.Template; t != "" {
		request.BaseDN, request.Scope, request.Filter = entryName(t, user), ldap.ScopeBaseObject, "(objectClass=*)"
	}
	found, err := s.search(ctx, request)
	if request.Scope == ldap.ScopeBaseObject && ldap.IsErrorAnyOf(err, ldap.LDAPResultNoSuchObject, ldap.LDAPResultInvalidDNSyntax) {
		return nil, nil
	}
	if err != nil {
		return nil, setup(err, request.BaseDN)
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return found[0], nil
	}
	d.log(ctx, slog.LevelWarn, "The directory has more than one entry for a user, who therefore can't log in; make the filter narrower",
		slog.String("user", user), slog.String("entry", found[0].DN), slog.String("another", found[1].DN))
	return nil, nil
}

// groupsAt returns the names of the entries of user's groups.
func (d *Directory) groupsAt(ctx context.Context, s *server, user string) ([]string, error) {
	if attribute := d.cfg.Groups.Attribute; attribute != "" {
		entry, err := d.entryOf(ctx, s, user, attribute)
		if entry == nil {
			return nil, err
		}
		return entry.GetEqualFoldAttributeValues(attribute), nil
	}
	dn, err := d.dnOf(ctx, s, user)
	if err != nil {
		return nil, err
	}
	unknown := dn == ""
	if unknown { // Without a search the answer would come sooner than for a person who exists.
		dn, user = d.nobody(), rand.Text()
	}
	found, err := s.search(ctx, &ldap.SearchRequest{
		BaseDN: d.cfg.Groups.Base, Scope: ldap.ScopeWholeSubtree, SizeLimit: maxFound,
		Filter:     filled(d.cfg.Groups.Filter, dn, user),
		Attributes: []string{noAttributes},
	})
	if err != nil {
		return nil, setup(err, d.cfg.Groups.Base)
	}
	if unknown {
		return nil, nil
	}
	dns := make([]string, len(found))
	for i, entry := range found {
		dns[i] = entry.DN
	}
	return dns, nil
}

// pingAt is Ping of one server.
func (d *Directory) pingAt(ctx context.Context, s *server) error {
	if !d.cfg.searches() {
		c, err := s.dial(ctx)
		if err != nil {
			return late(ctx, err)
		}
		c.close()
		return nil
	}
	probe := pool{open: s.dialAccount, now: d.cfg.Now}
	defer probe.close()
	for _, base := range []string{d.cfg.Users.Base, d.cfg.Groups.Base} {
		if base == "" {
			continue
		}
		_, err := searchOver(ctx, &probe, &ldap.SearchRequest{
			BaseDN: base, Scope: ldap.ScopeBaseObject, Filter: "(objectClass=*)", Attributes: []string{noAttributes},
		})
		if err != nil {
			return setup(err, base)
		}
	}
	return probe.use(ctx, func(*connection) error { return nil })
}

func (s *server) search(ctx context.Context, request *ldap.SearchRequest) ([]*ldap.Entry, error) {
	return searchOver(ctx, &s.searches, request)
}

// searchOver searches over a connection of p. Referrals aren't followed: they
// would take the service account's password to servers nobody has named. Where
// there are more entries than the limit, it returns as many.
func searchOver(ctx context.Context, p *pool, request *ldap.SearchRequest) (found []*ldap.Entry, err error) {
	request.DerefAliases = ldap.NeverDerefAliases
	request.TimeLimit = int(math.Ceil(maxLimit.Seconds()))
	err = p.use(ctx, func(c *connection) error {
		result, err := c.Search(request)
		if ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) && len(result.Entries) > 0 {
			err = nil
		}
		if result != nil {
			found = result.Entries
		}
		return err
	})
	return found, err
}

// setup turns the answers to a search under base that somebody has to mend.
func setup(err error, base string) error {
	switch {
	case ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject):
		return fmt.Errorf("%w: there is no %s, or the service account mayn't see it: %w", ErrSetup, base, explained(err))
	case ldap.IsErrorWithCode(err, ldap.LDAPResultInsufficientAccessRights):
		return fmt.Errorf("%w: the service account mayn't search %s: %w", ErrSetup, base, explained(err))
	case ldap.IsErrorWithCode(err, ldap.LDAPResultReferral):
		return fmt.Errorf("%w: it refers to another server for %s; name that one: %w", ErrSetup, base, explained(err))
	}
	return err
}

// filled puts dn and user into a filter, as values (RFC 4515 §3). In one go:
// a user may be called {dn}.
func filled(filter, dn, user string) string {
	return strings.NewReplacer("{user}", ldap.EscapeFilter(user), "{dn}", ldap.EscapeFilter(dn)).Replace(filter)
}

// entryName puts user into a template, as a value (RFC 4514 §2.4).
func entryName(template, user string) string {
	return strings.ReplaceAll(template, "{user}", ldap.EscapeDN(user))
}

// nobody is the name of an entry that isn't there. It stands where people's do,
// for servers that look up the parent first.
func (d *Directory) nobody() string {
	return "cn=" + rand.Text() + "," + d.cfg.Users.Base
}

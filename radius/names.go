package radius

import (
	"fmt"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
	"layeh.com/radius/rfc2865"

	"otpgate/verifier"
)

// subject is whom a request is about.
type subject struct {
	sent  string // the User-Name, octet by octet: what MS-CHAPv2 hashes
	realm string
	user  string // in realm
}

// subject returns whom the request names. An attribute bounds that to 253 octets.
func (s *Server) subject(r *request) (subject, error) {
	if r.count(rfc2865.UserName_Type) != 1 { // RFC 2865 §5.44: 0-1
		return subject{}, noUserName
	}
	return s.namedIn(r, rfc2865.UserName_GetString(&r.packet))
}

// namedIn is named for a name in a request, which the log then has.
func (s *Server) namedIn(r *request, name string) (subject, error) {
	who, err := s.named(r.client, name)
	if err == nil {
		r.user = who.user + "@" + who.realm
	}
	return who, err
}

// named returns whom a client means by a name, octet by octet as it was sent.
func (s *Server) named(c *client, name string) (subject, error) {
	who := subject{sent: name}
	who.realm, who.user = c.split(c.decode(name))
	if s.Realms[who.realm].LowerNames {
		who.user = strings.ToLower(who.user)
	}
	if err := verifier.CheckUserName(who.user); err != nil {
		return subject{}, fmt.Errorf("%w: %w", userNameUnusable, err)
	}
	return who, nil
}

// split takes the realm off a name: REALM\NAME, or NAME@REALM (RFC 7542), where it is
// one of the client's, in upper or lower case. Everything else belongs to the name,
// as with a customer who is known by a mail address. It is done once: what is left
// may look like a realm again, and is none.
func (c *Client) split(name string) (realm, user string) {
	if prefix, rest, ok := strings.Cut(name, `\`); ok {
		if realm, ok := c.realmNamed(prefix); ok {
			return realm, rest
		}
	}
	if i := strings.LastIndexByte(name, '@'); i >= 0 {
		if realm, ok := c.realmNamed(name[i+1:]); ok {
			return realm, name[:i]
		}
	}
	return c.Realm, name
}

func (c *Client) realmNamed(name string) (realm string, ok bool) {
	if strings.EqualFold(name, c.Realm) {
		return c.Realm, true
	}
	i := slices.IndexFunc(c.OtherRealms, func(id string) bool { return strings.EqualFold(name, id) })
	if i < 0 {
		return "", false
	}
	return c.OtherRealms[i], true
}

// folded is what all the names have in common that a directory takes for one
// person: by LDAP they are compared in NFKC, without case and with spaces that
// matter only once (RFC 4518 §2.2, §2.3, §2.6.1), by Active Directory without accents
// too. It groups tries, and never says who somebody is, so two people for one cost
// nothing but that they share a rate.
func folded(name string) string {
	withoutMarks := strings.Map(func(c rune) rune {
		if unicode.Is(unicode.Mn, c) {
			return -1
		}
		return c
	}, norm.NFKD.String(name))
	return strings.Join(strings.Fields(cases.Fold().String(withoutMarks)), " ")
}

// decode is what somebody typed at the client, in UTF-8.
func (c *Client) decode(s string) string {
	if c.Latin1 {
		return fromLatin1(s)
	}
	return s
}

// fromLatin1 decodes ISO 8859-1, whose octets are Unicode's first 256.
func fromLatin1(s string) string {
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	return string(runes)
}

// toLatin1 encodes ISO 8859-1, with a question mark for what that hasn't.
func toLatin1(s string) string {
	octets := make([]byte, 0, len(s))
	for _, c := range s {
		if c > 0xff {
			c = '?'
		}
		octets = append(octets, byte(c))
	}
	return string(octets)
}

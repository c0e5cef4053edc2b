package directory

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/go-ldap/ldap/v3"
)

// What groups may be, in octets: what the gate takes for a user's, and so what
// has room in an Accept. A test holds them to the gate's.
const (
	maxGroup       = 64
	maxGroups      = 16
	maxGroupsBytes = 200 // with the commas between
)

// names returns the groups whose entries have these names, in order. Which of
// too many are left out, mustn't depend on the server's mood.
func (d *Directory) names(dns []string) []string {
	var all, kept []string
	for _, dn := range dns {
		if name, ok := groupName(dn); ok {
			all = append(all, name)
		} else {
			d.leaveOut(dn, "its name has a comma, can't be printed, or is too long")
		}
	}
	slices.Sort(all)
	size := 0
	for _, name := range slices.Compact(all) {
		if len(kept) == maxGroups || size+len(name) > maxGroupsBytes {
			d.leaveOut(name, "a user has too many groups; find only those that matter, by a filter")
			continue
		}
		size += len(name) + len(",")
		kept = append(kept, name)
	}
	return kept
}

// groupName is the name of the group whose entry is called dn: its first value.
func groupName(dn string) (string, bool) {
	parsed, err := ldap.ParseDN(dn)
	if err != nil || len(parsed.RDNs) == 0 || len(parsed.RDNs[0].Attributes) == 0 {
		return "", false
	}
	name := parsed.RDNs[0].Attributes[0].Value
	return name, name != "" && len(name) <= maxGroup && utf8.ValidString(name) && strings.TrimSpace(name) == name &&
		!strings.ContainsFunc(name, func(r rune) bool { return r == ',' || !unicode.IsGraphic(r) })
}

// maxLeftOut is how many groups are remembered to have been logged: more are
// of no use to whoever reads the log.
const maxLeftOut = 100

// leftOut is what was logged as left out.
type leftOut struct {
	mu   sync.Mutex // guards seen
	seen map[string]bool
}

// first reports whether group wasn't seen before and is worth a line.
func (l *leftOut) first(group string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen[group] || len(l.seen) >= maxLeftOut {
		return false
	}
	if l.seen == nil {
		l.seen = map[string]bool{}
	}
	l.seen[group] = true
	return true
}

func (d *Directory) leaveOut(group, why string) {
	const longest = 200 // octets
	group = strings.ToValidUTF8(group[:min(len(group), longest)], "")
	if d.leftOut.first(group) {
		d.log(context.Background(), slog.LevelWarn, "A group of the directory is left out", slog.String("group", group), slog.String("reason", why))
	}
}

package verifier

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"otpgate/internal/audit"
	"otpgate/internal/store"
)

// Bounds on the groups of one user, in bytes. A RADIUS attribute holds 247 of a
// vendor's: all groups, joined by commas, fit into one with some words around.
const (
	MaxGroup       = 64
	MaxGroups      = 16
	MaxGroupsBytes = 200
)

// SetGroups puts a user into these groups, and no others. A *Refusal if there is
// no such user, or the groups can't be a user's.
func (v *Verifier) SetGroups(ctx context.Context, by By, realm, name string, groups []string) (User, Receipt, error) {
	if err := v.checkUser(realm, name); err != nil {
		return User{}, Receipt{}, err
	}
	if err := checkGroups(groups); err != nil {
		return User{}, Receipt{}, err
	}
	var u User
	receipt, err := v.do(ctx, by, func(tx store.Txn, _ time.Time) (entry audit.Entry, err error) {
		if u, err = readUser(tx, realm, name); err != nil {
			return entry, err
		}
		detail := "groups: " + inGroups(groups) + "; before: " + inGroups(u.Groups)
		u.Groups = slices.Clone(groups)
		return stepGroups.onUser(u, by.andWhy(detail)), putJSON(tx, userKey(realm, name), u)
	})
	return u, receipt, err
}

// inGroups is groups for a sentence.
func inGroups(groups []string) string {
	if len(groups) == 0 {
		return "none"
	}
	return strings.Join(groups, ", ")
}

func checkGroups(groups []string) error {
	if len(groups) > MaxGroups {
		return refuse("leave some out", "%d groups are too many; a user may have %d", len(groups), MaxGroups)
	}
	if n := len(strings.Join(groups, ",")); n > MaxGroupsBytes {
		return refuse("take fewer, or shorter names", "the names of the groups have %d bytes with the commas between; %d are allowed", n, MaxGroupsBytes)
	}
	for i, g := range groups {
		switch {
		case g == "" || len(g) > MaxGroup:
			return refuse("see groups in gateway.yaml", "the name of a group has 1 to %d bytes, and %.70q has %d", MaxGroup, g, len(g))
		case !utf8.ValidString(g) || strings.TrimSpace(g) != g ||
			strings.ContainsFunc(g, func(r rune) bool { return r == ',' || !unicode.IsGraphic(r) }):
			return refuse("name groups one by one, with spaces between", "%.70q is no name of a group: it has a comma, a space at its ends, or what can't be printed", g)
		case slices.Contains(groups[:i], g):
			return refuse("name it once", "group %s is named twice", g)
		}
	}
	return nil
}

// groupsOf is the groups of who has just been accepted; none if there is no such
// user here, for whom another server has vouched.
func groupsOf(r store.Reader, realm, name string) ([]string, error) {
	var u User
	_, err := getJSON(r, userKey(realm, name), &u)
	return u.Groups, err
}

// Package dictionary knows the RADIUS attributes that an Access-Accept may be
// told to carry: their names, numbers and what their values may be.
//
// New checks what gateway.yaml asks for, once, at the start; Entry.Encode makes
// the octets, at each log-in, and can't fail any more. For that everything has a
// bound beforehand: a value is checked with the longest groups that a user may
// have, and Size says how long a user name still fits.
//
// A text may have {user}, {realm}, {group} and {groups} in it. An attribute with
// {group} is sent once for each of the user's groups, and one with {groups} once,
// with their names joined by commas; to somebody in no group, neither is sent.
//
// The table (table.go) has what decides about a log-in at the gear that people
// have. It leaves out what the door itself puts into answers (State, EAP-Message,
// Message-Authenticator, the keys of MS-CHAP) and what has to be hidden under the
// shared secret (Tunnel-Password).
//
// It doesn't own which attributes an answer gets (radius), nor the file (config).
package dictionary

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Bounds on the names that stand in for placeholders, in octets. The verifier
// and the configuration refuse longer ones.
const (
	MaxRealm       = 32
	MaxGroup       = 64
	MaxGroups      = 16  // how many a user may have
	MaxGroupsBytes = 200 // all of one user's, joined by commas
)

const (
	maxValue   = 253 // RFC 2865 §5: a length of 255 less type and length
	header     = 2
	vendorType = 26
	// vendorHeader is the vendor's id and the type and length of its own (RFC
	// 2865 §5.26).
	vendorHeader = 6

	// leastUser is how long a user name must fit at least. A longer one that
	// doesn't is refused before its code is used up.
	leastUser = 32

	maxTag24 = 1<<24 - 1 // RFC 2868 §3.1: the first octet is the tag, here none
)

// Set is the attributes that one place in gateway.yaml asks for, in its order.
// No name is there twice.
type Set []Entry

// Entry is one attribute that an answer is to carry, with one or more values.
type Entry struct {
	Name      string
	attribute attribute
	values    []value
}

// value is one value: octets, or a text with placeholders.
type value struct {
	octets []byte
	text   string // if there are placeholders
}

// attribute is a row of the table.
type attribute struct {
	name   string
	vendor uint32 // 0: a standard one
	number byte
	kind   kind
	names  []named // of an integer's values
}

type named struct {
	name   string
	number uint32
}

type kind int

const (
	text kind = iota
	integer
	integer24 // behind a tag, which is left at none
	address   // IPv4
	address6
	prefix6
	octets // in hexadecimal
)

// Names are those of all attributes, in the table's order.
func Names() []string {
	rows := table()
	names := make([]string, len(rows))
	for i, row := range rows {
		names[i] = row.name
	}
	return names
}

// ValueError says what is wrong with a value: "must …".
type ValueError struct {
	Index   int // of the value
	Problem string
}

func (e *ValueError) Error() string { return e.Problem }

// New returns the attribute of that name with these values. The error is a
// *ValueError if one of them can't be the attribute's.
func New(name string, values []string) (Entry, error) {
	rows := table()
	i := slices.IndexFunc(rows, func(row attribute) bool { return row.name == name })
	if i < 0 {
		return Entry{}, fmt.Errorf("there is no attribute %q", name)
	}
	e := Entry{Name: name, attribute: rows[i]}
	for i, s := range values {
		v, problem := e.attribute.parse(s)
		if problem != "" {
			return Entry{}, &ValueError{i, problem}
		}
		e.values = append(e.values, v)
	}
	return e, nil
}

func (a attribute) parse(s string) (v value, problem string) {
	switch a.kind {
	case text:
		return a.parseText(s)
	case octets:
		return a.parseOctets(s)
	case address, address6, prefix6:
		return a.parseAddress(s)
	case integer, integer24:
		n, problem := a.parseInteger(s)
		if problem != "" {
			return v, problem
		}
		v.octets = binary.BigEndian.AppendUint32(nil, n)
	}
	return v, ""
}

func (a attribute) parseAddress(s string) (v value, problem string) {
	switch ip, err := netip.ParseAddr(s); {
	case a.kind == address && err == nil && ip.Is4(),
		a.kind == address6 && err == nil && ip.Is6() && ip.Zone() == "":
		return value{octets: ip.AsSlice()}, ""
	case a.kind == address:
		return v, fmt.Sprintf("must be an IPv4 address, such as 192.0.2.10, not %.60q", s)
	case a.kind == address6:
		return v, fmt.Sprintf("must be an IPv6 address, such as 2001:db8::10, not %.60q", s)
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is6() || p != p.Masked() {
		return v, fmt.Sprintf("must be an IPv6 prefix without bits beyond its length, such as 2001:db8:1::/48, not %.60q", s)
	}
	// RFC 3162 §2.3: a reserved octet, the length in bits, the prefix.
	return value{octets: append([]byte{0, byte(p.Bits())}, p.Addr().AsSlice()...)}, ""
}

func (a attribute) parseOctets(s string) (v value, problem string) {
	digits, ok := strings.CutPrefix(s, "0x")
	b, err := hex.DecodeString(digits)
	switch {
	case !ok || err != nil || len(b) == 0:
		return v, fmt.Sprintf("must be octets in hexadecimal, such as 0x01a0, not %.60q", s)
	case len(b) > a.room():
		return v, fmt.Sprintf("has %d octets, and %d fit into the attribute", len(b), a.room())
	}
	return value{octets: b}, ""
}

func (a attribute) parseInteger(s string) (n uint32, problem string) {
	most := uint32(math.MaxUint32)
	if a.kind == integer24 {
		most = maxTag24
	}
	var names []string
	for _, known := range a.names {
		if known.name == s {
			return known.number, ""
		}
		names = append(names, known.name)
	}
	i, err := strconv.ParseUint(s, 10, 32)
	if err == nil && uint32(i) <= most && strconv.FormatUint(i, 10) == s {
		return uint32(i), ""
	}
	want := fmt.Sprintf("a whole number from 0 to %d", most)
	if len(names) > 0 {
		want = strings.Join(names, ", ") + ", or " + want
	}
	return 0, fmt.Sprintf("must be %s, not %.60q", want, s)
}

// placeholder is what looks like one. Other braces stand for themselves: Junos
// takes regular expressions.
var placeholder = regexp.MustCompile(`\{[A-Za-z_]+\}`)

const (
	userMark   = "{user}"
	realmMark  = "{realm}"
	groupMark  = "{group}"
	groupsMark = "{groups}"
)

func (a attribute) parseText(s string) (v value, problem string) {
	if s == "" {
		return v, "must not be empty"
	}
	marks := placeholder.FindAllString(s, -1)
	for _, mark := range marks {
		if mark != userMark && mark != realmMark && mark != groupMark && mark != groupsMark {
			return v, fmt.Sprintf("has the placeholder %.60s; there are %s, %s, %s and %s", mark, userMark, realmMark, groupMark, groupsMark)
		}
	}
	if n := longest(s, leastUser); n > a.room() {
		return v, fmt.Sprintf("can get %d octets long, and %d fit into the attribute", n, a.room())
	}
	if len(marks) == 0 {
		return value{octets: []byte(s)}, ""
	}
	return value{text: s}, ""
}

// longest is how many octets a text can get for a user whose name has that many.
func longest(s string, user int) int {
	n := len(s)
	for mark, octets := range map[string]int{
		userMark: user, realmMark: MaxRealm, groupMark: MaxGroup, groupsMark: MaxGroupsBytes,
	} {
		n += strings.Count(s, mark) * (octets - len(mark))
	}
	return n
}

// room is how many octets a value may have.
func (a attribute) room() int {
	if a.vendor != 0 {
		return maxValue - vendorHeader
	}
	return maxValue
}

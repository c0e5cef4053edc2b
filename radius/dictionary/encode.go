package dictionary

import (
	"encoding/binary"
	"strings"
)

// Person is whose names stand in for the placeholders.
type Person struct {
	User, Realm string
	Groups      []string
}

// Encode calls add with the type and value of each attribute that e is to p, in
// order. They have the lengths that Size says.
func (e Entry) Encode(p Person, add func(kind byte, value []byte)) {
	for _, v := range e.values {
		switch {
		case v.text == "":
			e.attribute.frame(v.octets, add)
		case len(p.Groups) == 0 && v.hasGroups():
		case strings.Contains(v.text, groupMark):
			for _, group := range p.Groups {
				e.attribute.frame(v.fill(p, group), add)
			}
		default:
			e.attribute.frame(v.fill(p, ""), add)
		}
	}
}

func (v value) hasGroups() bool {
	return strings.Contains(v.text, groupMark) || strings.Contains(v.text, groupsMark)
}

// fill puts the names in, in one pass: what looks like a placeholder in a name
// is none.
func (v value) fill(p Person, group string) []byte {
	return []byte(strings.NewReplacer(
		userMark, p.User, realmMark, p.Realm, groupMark, group, groupsMark, strings.Join(p.Groups, ","),
	).Replace(v.text))
}

// frame gives add the value, inside a Vendor-Specific if it is a vendor's (RFC
// 2865 §5.26): one in each, as some gear reads no more.
func (a attribute) frame(octets []byte, add func(byte, []byte)) {
	if a.vendor == 0 {
		add(a.number, octets)
		return
	}
	b := binary.BigEndian.AppendUint32(make([]byte, 0, vendorHeader+len(octets)), a.vendor)
	b = append(b, a.number, byte(len(octets)+header))
	add(vendorType, append(b, octets...))
}

// Size bounds what attributes take in a packet.
type Size struct {
	fixed    int // octets, whoever it is
	perOctet int // octets for each one of the user's name
	maxUser  int // octets of the longest name that fits into each attribute; 0: any does
}

// Octets is how many a user with that name gets at most; ok is false if the name
// is too long for one of the attributes.
func (s Size) Octets(user string) (n int, ok bool) {
	return s.fixed + s.perOctet*len(user), s.maxUser == 0 || len(user) <= s.maxUser
}

// Plus is the size of both.
func (s Size) Plus(t Size) Size {
	return Size{s.fixed + t.fixed, s.perOctet + t.perOctet, shorter(s.maxUser, t.maxUser)}
}

// shorter is the shorter of two maxUsers.
func shorter(a, b int) int {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// Size is what the set takes at most.
func (s Set) Size() Size {
	var sum Size
	for _, e := range s {
		sum = sum.Plus(e.size())
	}
	return sum
}

// LargestOf is what a user gets at most who is in some of these groups, of which
// each attribute comes from one.
func LargestOf(groups map[string]Set) Size {
	largest := map[string]Size{}
	for _, set := range groups {
		for _, e := range set {
			size := e.size()
			if other, ok := largest[e.Name]; ok {
				size = Size{max(size.fixed, other.fixed), max(size.perOctet, other.perOctet), shorter(size.maxUser, other.maxUser)}
			}
			largest[e.Name] = size
		}
	}
	var sum Size
	for _, size := range largest {
		sum = sum.Plus(size)
	}
	return sum
}

func (e Entry) size() Size {
	var s Size
	frame := header
	if e.attribute.vendor != 0 {
		frame += vendorHeader
	}
	for _, v := range e.values {
		if v.text == "" {
			s.fixed += frame + len(v.octets)
			continue
		}
		times, users := 1, strings.Count(v.text, userMark)
		if strings.Contains(v.text, groupMark) {
			times = MaxGroups
		}
		fixed := longest(v.text, 0)
		if n := strings.Count(v.text, groupMark); n > 0 {
			// All groups together are no longer than MaxGroupsBytes.
			s.fixed += n*MaxGroupsBytes - times*n*MaxGroup
		}
		s.fixed += times * (frame + fixed)
		s.perOctet += times * users
		if users > 0 {
			s.maxUser = shorter(s.maxUser, (e.attribute.room()-fixed)/users)
		}
	}
	return s
}

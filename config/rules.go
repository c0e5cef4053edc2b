package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// field is one key of a mapping: a field of a struct in types.go.
type field struct {
	key   string
	index int
	rules rules
}

// rules are what a field's jsonschema tag asks of its value. They are the
// keywords of JSON Schema, so that editors check by the same ones.
type rules struct {
	required, nullable   bool
	byDefault            string
	enum                 []string
	minimum, maximum     string // of a number or a duration, as written
	minLength, maxLength int    // in characters; a maxLength of 0 is none
	minItems, maxItems   int    // a maxItems of 0 is none
	pattern              *regexp.Regexp
	must                 string // what pattern asks, in words: "must …"
	format               string
}

// fieldsOf reads the tags of a struct, once for each type.
func (d *decoder) fieldsOf(t reflect.Type) []field {
	if fields, ok := d.fields[t]; ok {
		return fields
	}
	var fields []field
	for i := range t.NumField() {
		f := t.Field(i)
		if key := f.Tag.Get("yaml"); key != "" && key != "-" {
			fields = append(fields, field{key, i, parseRules(f.Tag)})
		}
	}
	d.fields[t] = fields
	return fields
}

func parseRules(tag reflect.StructTag) rules {
	r := rules{must: tag.Get("must")}
	for word := range strings.SplitSeq(tag.Get("jsonschema"), ",") {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "required":
			r.required = true
		case "nullable":
			r.nullable = true
		case "default":
			r.byDefault = value
		case "enum":
			r.enum = append(r.enum, value)
		case "minimum":
			r.minimum = value
		case "maximum":
			r.maximum = value
		case "minLength":
			r.minLength = number(value)
		case "maxLength":
			r.maxLength = number(value)
		case "minItems":
			r.minItems = number(value)
		case "maxItems":
			r.maxItems = number(value)
		case "pattern":
			r.pattern = regexp.MustCompile(value)
		case "format":
			r.format = value
		}
	}
	return r
}

// number reads a number of a tag, which is ours and tested.
func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic("config: a tag has the number " + s)
	}
	return n
}

// ofItem are the rules of a list that hold for each of its items.
func (r rules) ofItem() rules {
	r.required, r.nullable, r.minItems, r.maxItems = true, false, 0, 0
	return r
}

func (r rules) checkInt(i int) string {
	if i < number(r.minimum) || i > number(r.maximum) {
		return fmt.Sprintf("must be from %s to %s, not %d", r.minimum, r.maximum, i)
	}
	return ""
}

func (r rules) checkDuration(d time.Duration) string {
	least, err1 := time.ParseDuration(r.minimum)
	most, err2 := time.ParseDuration(r.maximum)
	if err := errors.Join(err1, err2); err != nil {
		panic("config: a tag's bounds: " + err.Error())
	}
	if d < least || d > most {
		return fmt.Sprintf("must be from %s to %s, not %s", r.minimum, r.maximum, d)
	}
	return ""
}

func (r rules) checkText(s string) string {
	length := utf8.RuneCountInString(s)
	switch {
	case strings.ContainsFunc(s, unicode.IsControl):
		return "must not have line breaks, tabs or other control characters in it"
	case len(r.enum) > 0:
		if slices.Contains(r.enum, s) {
			return ""
		}
		return fmt.Sprintf("must be %s, not %s", alternatives(r.enum), quote(s))
	case r.maxLength > 0 && length > r.maxLength:
		return fmt.Sprintf("must have at most %d characters, and has %d", r.maxLength, length)
	case length < r.minLength:
		return "must not be empty"
	case r.pattern != nil && !r.pattern.MatchString(s):
		return fmt.Sprintf("must %s, not %s", r.must, quote(s))
	case r.format == "host-port":
		return checkHostPort(s)
	}
	return ""
}

// checkHostPort checks an address to listen on. A name other than localhost is
// refused: what it resolves to may be another machine tomorrow.
func checkHostPort(s string) string {
	host, port, err := net.SplitHostPort(s)
	if err == nil && host != "" && host != "localhost" {
		_, err = netip.ParseAddr(host)
	}
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Sprintf("must be an address and a port, such as 127.0.0.1:8443, [::1]:8443 or :8443, not %s", quote(s))
	}
	return ""
}

func known(fields []field, key string) bool {
	for _, f := range fields {
		if f.key == key {
			return true
		}
	}
	return false
}

// suggest names the key that was probably meant, or else all there are.
func suggest(key string, fields []field) string {
	var names, begin []string
	nearest, least := "", max(2, len(key)/3)+1
	for _, f := range fields {
		names = append(names, f.key)
		if strings.HasPrefix(f.key, key) {
			begin = append(begin, f.key)
		}
		if far := distance(key, f.key); far < least {
			nearest, least = f.key, far
		}
	}
	switch {
	case nearest != "":
		return "did you mean " + nearest + "?"
	case len(begin) > 0 && key != "":
		return "did you mean " + alternatives(begin) + "?"
	}
	return "known here: " + strings.Join(names, ", ")
}

// distance is how many letters must be changed, added or left out to make b of
// a (Levenshtein).
func distance(a, b string) int {
	const longest = 40 // bytes; no key is near that long
	if len(a) > longest {
		return longest
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// alternatives is "a", "a or b", "a, b or c".
func alternatives(words []string) string {
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

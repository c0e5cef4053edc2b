package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// decoder walks YAML nodes and Go values side by side. It goes on after a
// fault, so that one run finds them all.
type decoder struct {
	file   string                // as faults name it
	dir    string                // where relative paths start
	at     map[string]*yaml.Node // what stands in the file, by path
	fields map[reflect.Type][]field
	faults Faults
}

func newDecoder(file, dir string) *decoder {
	return &decoder{file: file, dir: dir, at: map[string]*yaml.Node{}, fields: map[reflect.Type][]field{}}
}

// has says whether the file gives a value at path.
func (d *decoder) has(path string) bool { return d.at[path] != nil }

// value decodes n into v.
func (d *decoder) value(n *yaml.Node, v reflect.Value, r rules, path string) {
	d.at[path] = n
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		d.fault(path, "anchors (&) and aliases (*) aren't allowed here: write the value out")
		return
	}
	switch p := v.Addr().Interface().(type) {
	case *Reply:
		*p = d.reply(n, path)
		return
	case *ReplyByGroup:
		*p = d.replyByGroup(n, path)
		return
	}
	switch isScalar := scalarType(v); {
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem(), r, path)
	case v.Kind() == reflect.Struct && !isScalar:
		d.mapping(n, v, path)
	case v.Kind() == reflect.Slice:
		d.list(n, v, r, path)
	default:
		d.scalar(n, v, r, path)
	}
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.fault(path, "must be keys with values, not %s", describe(n))
		return
	}
	fields := d.fieldsOf(v.Type())
	given := d.keys(n, fields, path)
	for _, f := range fields {
		d.field(given[f.key], f, v.Field(f.index), join(path, f.key))
	}
}

// keys returns the values of n by key, and records unknown and repeated keys.
func (d *decoder) keys(n *yaml.Node, fields []field, path string) map[string]*yaml.Node {
	given, first := map[string]*yaml.Node{}, map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		name := key.Value
		if key.Kind != yaml.ScalarNode {
			d.faultAt(key.Line, key.Column, path, "a key must be a word, not %s", describe(key))
			continue
		}
		if line, twice := first[name]; twice {
			d.faultAt(key.Line, key.Column, join(path, name), "is given twice: the first is in line %d", line)
			continue
		}
		first[name] = key.Line
		if !known(fields, name) {
			d.faultAt(key.Line, key.Column, join(path, name), "unknown key; %s", suggest(name, fields))
			continue
		}
		if value.Kind == yaml.ScalarNode && value.ShortTag() == nullTag && value.Value == "" {
			// Nothing has no place: the parser gives it the next word's.
			value.Line, value.Column = key.Line, key.Column
		}
		given[name] = value
	}
	return given
}

// field decodes one key of a mapping; n is nil if the file doesn't have it. A
// nullable key with nothing after it is as good as no key: that is what is
// left when all below it is commented out.
func (d *decoder) field(n *yaml.Node, f field, v reflect.Value, path string) {
	if n != nil && n.ShortTag() == nullTag && f.rules.nullable {
		n = nil
	}
	switch {
	case n != nil:
		d.value(n, v, f.rules, path)
	case f.rules.required:
		d.fault(path, "is missing")
	case f.rules.byDefault != "":
		if problem := d.set(v, f.rules.byDefault, f.rules); problem != "" {
			d.fault(path, "the default %s", problem)
		}
	case v.Kind() == reflect.Struct && !scalarType(v):
		for _, inner := range d.fieldsOf(v.Type()) {
			d.field(nil, inner, v.Field(inner.index), join(path, inner.key))
		}
	}
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, r rules, path string) {
	if n.Kind != yaml.SequenceNode {
		d.fault(path, "must be a list, not %s", describe(n))
		return
	}
	if len(n.Content) < r.minItems {
		d.fault(path, "must have at least %d, and has %d", r.minItems, len(n.Content))
	}
	if r.maxItems > 0 && len(n.Content) > r.maxItems {
		d.fault(path, "must have at most %d, and has %d", r.maxItems, len(n.Content))
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		d.value(item, v.Index(i), r.ofItem(), fmt.Sprintf("%s[%d]", path, i))
	}
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, r rules, path string) {
	want, tag := wanted(v)
	if n.Kind == yaml.ScalarNode && n.ShortTag() == tag {
		if problem := d.set(v, n.Value, r); problem != "" {
			d.fault(path, "%s", problem)
		}
		return
	}
	hint := ""
	switch {
	case n.Kind != yaml.ScalarNode:
	case n.ShortTag() == nullTag && n.Value == "" && tag == strTag:
		hint = " (a value that begins with # needs quotes)"
	case want == text && n.ShortTag() != nullTag:
		hint = ": put it in quotes, " + quote(n.Value)
	case n.ShortTag() == strTag && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		hint = ": leave out the quotes"
	}
	d.fault(path, "must be %s, not %s%s", want, describe(n), hint)
}

// set gives v the value that text stands for, and says what is wrong with it.
func (d *decoder) set(v reflect.Value, s string, r rules) (problem string) {
	switch p := v.Addr().Interface().(type) {
	case *netip.Prefix:
		*p, problem = parseNetwork(s)
	case *time.Duration:
		duration, err := time.ParseDuration(s)
		if err != nil {
			return fmt.Sprintf("must be %s, not %s", aDuration, quote(s))
		}
		if problem = r.checkDuration(duration); problem == "" {
			*p = duration
		}
	case *string:
		if problem = r.checkText(s); problem != "" {
			return problem
		}
		if r.format == "path" && !filepath.IsAbs(s) {
			s = filepath.Join(d.dir, s)
		}
		*p = s
	case *int:
		i, err := strconv.Atoi(s)
		if err != nil || strconv.Itoa(i) != s {
			return fmt.Sprintf("must be %s in plain digits, not %s", aNumber, quote(s))
		}
		if problem = r.checkInt(i); problem == "" {
			*p = i
		}
	case *bool:
		if s != "true" && s != "false" {
			return fmt.Sprintf("must be %s, not %s", aBool, quote(s))
		}
		*p = s == "true"
	}
	return problem
}

// parseNetwork reads an address or a CIDR prefix.
func parseNetwork(s string) (netip.Prefix, string) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), ""
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil || p.Addr().Is4In6():
		return netip.Prefix{}, fmt.Sprintf("must be %s, not %s", aNetwork, quote(s))
	case p != p.Masked():
		return netip.Prefix{}, fmt.Sprintf("%s is an address inside a network: write %s for the network or %s for the one machine",
			s, p.Masked(), p.Addr())
	}
	return p, ""
}

// The YAML tags of scalars.
const (
	strTag  = "!!str"
	intTag  = "!!int"
	boolTag = "!!bool"
	nullTag = "!!null"
)

// What each type of value is called in "must be …".
const (
	text      = "text"
	aNumber   = "a whole number"
	aBool     = "true or false"
	aNetwork  = "an address or a network, such as 192.0.2.10 or 192.0.2.0/24"
	aDuration = "a time with its unit, such as 90s, 30m or 12h"
)

// wanted says what v takes, in words and as a YAML tag.
func wanted(v reflect.Value) (words, tag string) {
	switch v.Interface().(type) {
	case netip.Prefix:
		return aNetwork, strTag
	case time.Duration:
		return aDuration, strTag
	case int:
		return aNumber, intTag
	case bool:
		return aBool, boolTag
	}
	return text, strTag
}

// scalarType says whether v, a struct or a number to Go, is one word in YAML.
func scalarType(v reflect.Value) bool {
	switch v.Interface().(type) {
	case netip.Prefix, time.Duration:
		return true
	}
	return false
}

// describe says in a few words what stands at n.
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "keys with values"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.ShortTag() == nullTag:
		return "empty"
	}
	switch n.ShortTag() {
	case strTag:
		return "the text " + quote(n.Value)
	case intTag, "!!float":
		return "the number " + strings.Trim(quote(n.Value), `"`)
	}
	return quote(n.Value)
}

func join(path, key string) string {
	if strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_' && r != '-' }) || key == "" {
		key = quote(key)
	} else {
		key = clip(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// quote shows a value from the file, clipped and without control characters.
func quote(s string) string { return strconv.Quote(clip(s)) }

// clip bounds what a fault repeats from the file.
func clip(s string) string {
	const most = 60 // characters: what is wrong is seen by then
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}

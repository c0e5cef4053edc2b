package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/invopop/jsonschema"
	"go.yaml.in/yaml/v4"

	"otpgate/radius/dictionary"
)

const (
	// maxValues of one attribute; maxReplySets of a realm's groups.
	maxValues    = 32
	maxReplySets = 1000
	// maxAnswer is what an answer's attributes may take, in octets: half of the
	// longest packet (RFC 2865 §3). The rest is for what the method and proxies
	// on the way add.
	maxAnswer = 2048
)

// Reply is attributes that an Access-Accept carries: a mapping of names to a
// value or a list of values.
type Reply = dictionary.Set

// ReplyByGroup is the attributes for members of each group.
type ReplyByGroup map[string]dictionary.Set

// reply decodes attributes.
func (d *decoder) reply(n *yaml.Node, path string) Reply {
	if n.Kind != yaml.MappingNode {
		d.fault(path, "must be attributes with their values, such as { Class: staff }, not %s", describe(n))
		return nil
	}
	var set Reply
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch line, twice := first[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			d.faultAt(key.Line, key.Column, path, "an attribute must be a word, not %s", describe(key))
			continue
		case twice:
			d.faultAt(key.Line, key.Column, join(path, key.Value), "is given twice: the first is in line %d; several values are a list", line)
			continue
		case !slices.Contains(dictionary.Names(), key.Value):
			d.faultAt(key.Line, key.Column, join(path, key.Value), "unknown attribute; %s", suggestAttribute(key.Value))
			continue
		}
		first[key.Value] = key.Line
		if value.Value == "" && value.ShortTag() == nullTag {
			value.Line, value.Column = key.Line, key.Column // see keys
		}
		if entry, ok := d.attribute(key.Value, value, join(path, key.Value)); ok {
			set = append(set, entry)
		}
	}
	return set
}

func (d *decoder) attribute(name string, n *yaml.Node, path string) (entry dictionary.Entry, ok bool) {
	d.at[path] = n
	nodes, paths := []*yaml.Node{n}, []string{path}
	if n.Kind == yaml.SequenceNode {
		if len(n.Content) == 0 || len(n.Content) > maxValues {
			d.fault(path, "must have 1 to %d values, and has %d", maxValues, len(n.Content))
			return entry, false
		}
		nodes, paths = n.Content, nil
		for i := range nodes {
			paths = append(paths, fmt.Sprintf("%s[%d]", path, i))
		}
	}
	var values []string
	for i, node := range nodes {
		d.at[paths[i]] = node
		if problem := replyValue(node); problem != "" {
			d.fault(paths[i], "%s", problem)
			return entry, false
		}
		values = append(values, node.Value)
	}
	entry, err := dictionary.New(name, values)
	if wrong := (*dictionary.ValueError)(nil); errors.As(err, &wrong) {
		d.fault(paths[wrong.Index], "%s", wrong.Problem)
	} else if err != nil {
		d.fault(path, "%v", err)
	}
	return entry, err == nil
}

// replyValue says what is wrong with a node as a value. A plain number is one of
// an integer attribute, and as good as text for the others.
func replyValue(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return "anchors (&) and aliases (*) aren't allowed here: write the value out"
	case n.Kind == yaml.MappingNode && len(n.Content) == 2:
		return "must be one value or a list of values, not keys with values (a value that begins with { needs quotes)"
	case n.Kind != yaml.ScalarNode:
		return "must be one value or a list of values, not " + describe(n)
	case n.ShortTag() == nullTag:
		return "must be a value, not empty"
	case n.ShortTag() != strTag && n.ShortTag() != intTag:
		return "must be text or a whole number, not " + describe(n) + ": put it in quotes, " + quote(n.Value)
	}
	return rules{}.checkText(n.Value)
}

// suggestAttribute names the attribute that was probably meant.
func suggestAttribute(name string) string {
	var fields []field
	for _, known := range dictionary.Names() {
		if strings.EqualFold(known, name) {
			return "did you mean " + known + "?"
		}
		fields = append(fields, field{key: known})
	}
	if hint := suggest(name, fields); strings.HasPrefix(hint, "did you mean") {
		return hint
	}
	return "otpgate config schema has the list"
}

// replyByGroup decodes the attributes of groups.
func (d *decoder) replyByGroup(n *yaml.Node, path string) ReplyByGroup {
	if n.Kind != yaml.MappingNode {
		d.fault(path, "must be groups with their attributes, such as { admins: { Class: admins } }, not %s", describe(n))
		return nil
	}
	if len(n.Content)/2 > maxReplySets {
		d.fault(path, "must have at most %d groups, and has %d", maxReplySets, len(n.Content)/2)
		return nil
	}
	groups, first := ReplyByGroup{}, map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := join(path, key.Value)
		if line, twice := first[key.Value]; twice {
			d.faultAt(key.Line, key.Column, at, "is given twice: the first is in line %d", line)
			continue
		}
		first[key.Value] = key.Line
		if problem := checkGroup(key); problem != "" {
			d.faultAt(key.Line, key.Column, at, "%s", problem)
			continue
		}
		d.at[at] = value
		groups[key.Value] = d.reply(value, at)
	}
	return groups
}

// checkGroup holds group names to what the verifier lets a user have.
func checkGroup(key *yaml.Node) string {
	name := key.Value
	switch {
	case key.Kind != yaml.ScalarNode || key.ShortTag() != strTag:
		return "the name of a group must be text: put it in quotes"
	case name == "" || len(name) > dictionary.MaxGroup:
		return fmt.Sprintf("the name of a group must have 1 to %d bytes, and has %d", dictionary.MaxGroup, len(name))
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r == ',' || !unicode.IsGraphic(r) }) ||
		strings.TrimSpace(name) != name:
		return "the name of a group must have no comma, no control character and no space at its ends"
	}
	return ""
}

// checkAnswers bounds what each client's answers can get to.
func checkAnswers(c *Config, d *decoder) {
	for i, client := range c.Radius.Clients {
		for _, r := range c.Realms {
			if r.ID != client.Realm && !slices.Contains(client.Realms, r.ID) {
				continue
			}
			size := client.Reply.Size().Plus(r.RadiusReply.Size()).Plus(dictionary.LargestOf(r.Groups))
			if n, _ := size.Octets(""); n > maxAnswer {
				d.fault(fmt.Sprintf("radius.clients[%d].reply", i),
					"can have an answer of %d octets for realm %s, with what that and its groups add, and %d are allowed", n, r.ID, maxAnswer)
			}
		}
	}
}

// replySchema describes attributes by name, for editors.
func replySchema() *jsonschema.Schema {
	var names []any
	for _, name := range dictionary.Names() {
		names = append(names, name)
	}
	one := &jsonschema.Schema{OneOf: []*jsonschema.Schema{{Type: "string", MinLength: new(uint64(1))}, {Type: "integer", Minimum: "0"}}}
	most := uint64(maxValues)
	return &jsonschema.Schema{
		Type:                 "object",
		PropertyNames:        &jsonschema.Schema{Enum: names},
		PatternProperties:    map[string]*jsonschema.Schema{".": {OneOf: append(slices.Clone(one.OneOf), &jsonschema.Schema{Type: "array", Items: one, MaxItems: &most})}},
		AdditionalProperties: jsonschema.FalseSchema,
	}
}

func replyByGroupSchema() *jsonschema.Schema {
	return &jsonschema.Schema{
		Type:                 "object",
		PatternProperties:    map[string]*jsonschema.Schema{"^[^,]+$": replySchema()},
		AdditionalProperties: jsonschema.FalseSchema,
	}
}

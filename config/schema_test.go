package config

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"otpgate/verifier/otp"
)

// schemaNode is as much of a JSON Schema as the test walks.
type schemaNode struct {
	Ref        string                `json:"$ref"`
	Defs       map[string]schemaNode `json:"$defs"`
	Properties map[string]schemaNode `json:"properties"`
	Items      *schemaNode           `json:"items"`
	OneOf      []schemaNode          `json:"oneOf"`
	Closed     *bool                 `json:"additionalProperties"`
	Text       string                `json:"description"`
}

func TestSchemaKnowsTheShippedFile(t *testing.T) {
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var root schemaNode
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	var file yaml.Node
	if err := yaml.Load(Shipped(), &file); err != nil {
		t.Fatal(err)
	}
	keys := 0
	var walk func(n *yaml.Node, s schemaNode, path string)
	walk = func(n *yaml.Node, s schemaNode, path string) {
		if len(s.OneOf) > 0 && s.Properties == nil {
			s = s.OneOf[0]
		}
		if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
			s = root.Defs[name]
		}
		switch n.Kind {
		case yaml.MappingNode:
			if s.Closed == nil || *s.Closed {
				t.Errorf("%s: the schema allows unknown keys", path)
			}
			for i := 0; i < len(n.Content); i += 2 {
				key := n.Content[i].Value
				property, ok := s.Properties[key]
				if !ok {
					t.Errorf("%s.%s isn't in the schema", path, key)
				}
				keys++
				walk(n.Content[i+1], property, path+"."+key)
			}
		case yaml.SequenceNode:
			for _, item := range n.Content {
				walk(item, *s.Items, path+"[]")
			}
		}
	}
	walk(file.Content[0], root, "")
	if keys < 30 {
		t.Errorf("only %d keys were looked at", keys)
	}
}

// configTypes are the structs of gateway.yaml.
func configTypes() []reflect.Type {
	var types []reflect.Type
	var add func(t reflect.Type)
	add = func(t reflect.Type) {
		for t.Kind() == reflect.Slice || t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() != reflect.Struct || scalarType(reflect.Zero(t)) {
			return
		}
		types = append(types, t)
		for i := range t.NumField() {
			if key := t.Field(i).Tag.Get("yaml"); key != "" && key != "-" {
				add(t.Field(i).Type)
			}
		}
	}
	add(reflect.TypeFor[Config]())
	return types
}

// The comments are the manual: each key has one, and it names the key's
// default, bounds and choices as the loader applies them.
func TestCommentsSayWhatTheTagsDo(t *testing.T) {
	comments, err := fieldComments()
	if err != nil {
		t.Fatal(err)
	}
	d := newDecoder("", "")
	for _, typ := range configTypes() {
		for _, f := range d.fieldsOf(typ) {
			name := typ.Name() + "." + typ.Field(f.index).Name
			comment := comments[name]
			if comment == "" {
				t.Errorf("%s has no comment", name)
			}
			said := append([]string{f.rules.minimum, f.rules.maximum}, f.rules.enum...)
			if f.rules.byDefault != "" {
				said = append(said, "Default: "+f.rules.byDefault+".")
			}
			for _, word := range said {
				if !strings.Contains(comment, word) {
					t.Errorf("%s: the comment doesn't say %q", name, word)
				}
			}
			if f.rules.pattern != nil && f.rules.must == "" {
				t.Errorf("%s has a pattern and no words for it", name)
			}
		}
	}
}

func TestBoundsAreTheVerifiers(t *testing.T) {
	for _, f := range newDecoder("", "").fieldsOf(reflect.TypeFor[OTP]()) {
		var least, most int
		switch f.key {
		case "digits":
			least, most = otp.MinDigits, otp.MaxDigits
		case "period":
			least, most = otp.MinPeriod, otp.MaxPeriod
		default:
			continue
		}
		if number(f.rules.minimum) != least || number(f.rules.maximum) != most {
			t.Errorf("%s: %s to %s, and the verifier has %d to %d", f.key, f.rules.minimum, f.rules.maximum, least, most)
		}
	}
}

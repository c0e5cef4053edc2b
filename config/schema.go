package config

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"reflect"
	"strings"
	"time"

	"github.com/invopop/jsonschema"
)

// typesSource is types.go itself: its comments are the schema's descriptions,
// so that the manual stands once.
//
//go:embed types.go
var typesSource string

// Schema is the JSON Schema of gateway.yaml, indented.
func Schema() ([]byte, error) {
	comments, err := fieldComments()
	if err != nil {
		return nil, err
	}
	r := jsonschema.Reflector{
		Anonymous:                  true, // its identifier would be a made-up URL
		ExpandedStruct:             true,
		FieldNameTag:               "yaml",
		RequiredFromJSONSchemaTags: true,
		LookupComment:              func(t reflect.Type, field string) string { return comments[t.Name()+"."+field] },
		Mapper:                     scalarSchema,
	}
	schema := r.Reflect(&Config{})
	schema.Title = "otpgate's gateway.yaml"
	text, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("the JSON Schema can't be written: %w", err)
	}
	return append(text, '\n'), nil
}

// scalarSchema describes the types that are structs or numbers to Go and one
// word in YAML (see scalarType), and those whose keys aren't fields.
func scalarSchema(t reflect.Type) *jsonschema.Schema {
	switch t {
	case reflect.TypeFor[netip.Prefix]():
		return &jsonschema.Schema{Type: "string", Examples: []any{"192.0.2.10", "192.0.2.0/24"}}
	case reflect.TypeFor[Reply]():
		return replySchema()
	case reflect.TypeFor[ReplyByGroup]():
		return replyByGroupSchema()
	case reflect.TypeFor[time.Duration]():
		return &jsonschema.Schema{Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(s|m|h))+$`, Examples: []any{"90s", "30m", "12h"}}
	}
	return nil
}

// fieldComments reads the comments of types.go, by "Type." and "Type.Field".
func fieldComments() (map[string]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "types.go", typesSource, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("the comments of gateway.yaml's types can't be read: %w", err)
	}
	oneLine := func(c *ast.CommentGroup) string { return strings.Join(strings.Fields(c.Text()), " ") }
	comments := map[string]string{}
	for _, decl := range file.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.TYPE {
			continue
		}
		for _, spec := range gen.Specs {
			ts := spec.(*ast.TypeSpec)
			comments[ts.Name.Name+"."] = oneLine(gen.Doc)
			st, ok := ts.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, f := range st.Fields.List {
				for _, name := range f.Names {
					comments[ts.Name.Name+"."+name.Name] = oneLine(f.Doc)
				}
			}
		}
	}
	return comments, nil
}

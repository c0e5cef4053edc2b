// Package config is gateway.yaml: its types, which are its manual; a strict
// loader that names every fault at once, with its line and column; and the
// JSON Schema that editors read.
//
//	types.go     the keys, what they mean, their defaults and bounds
//	decode.go    YAML nodes into those types, by the rules in their tags
//	check.go     what no single key can say: references, duplicates, files
//	fault.go     how a fault is reported
//	secret.go    secrets: read, never printed, made at first start
//	schema.go    the JSON Schema, from the same tags and comments
//	shipped.yaml the file that `otpgate config init` writes
//
// A rule stands once, in a field's tag: the loader and the schema both read it
// there. Load reads the files that gateway.yaml names (secrets, certificates,
// public keys) and writes none.
//
// It does not own what the values lead to: only cmd imports this package, and
// hands plain values to the doors.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// maxFile bounds gateway.yaml, in bytes: room for some 9,000 RADIUS clients,
// and even a hostile file of that size is read in under a second.
const maxFile = 1 << 20

// Load reads and checks the file at path. Relative paths in it start at its
// directory. If anything is wrong the error is a Faults with all of it.
func Load(path string) (*Config, error) {
	data, err := readConfig(path)
	if err != nil {
		return nil, err
	}
	c, faults := parse(data, path)
	if len(faults) > 0 {
		return nil, faults
	}
	return c, nil
}

// AdminSocket returns the socket of the daemon that runs with the file at path,
// for the commands that talk to it. It looks at no other file and at no
// environment variable: the secrets are the daemon's, and a person at the
// command line needs no access to them.
func AdminSocket(path string) (string, error) {
	c, err := LoadAlone(path)
	if err != nil {
		return "", err
	}
	return c.Listen.AdminSocket, nil
}

// LoadAlone reads the file at path as Load does, but no file that it names and
// no environment variable: the Config has paths and policies, no secret and no
// key. For commands that work where no daemon runs, or can't yet.
func LoadAlone(path string) (*Config, error) {
	data, err := readConfig(path)
	if err != nil {
		return nil, err
	}
	d := newDecoder(path, filepath.Dir(path))
	c := d.config(data)
	if faults := d.sorted(); len(faults) > 0 {
		return nil, faults
	}
	return c, nil
}

func readConfig(path string) ([]byte, error) {
	whole := func(format string, args ...any) Faults {
		return Faults{{File: path, Problem: fmt.Sprintf(format, args...)}}
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, whole("there is no such file; otpgate config init writes one to begin with")
	}
	if err != nil {
		return nil, whole("can't be read: %v", reason(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, whole("can't be read: %v", reason(err))
	}
	if len(data) > maxFile {
		return nil, whole("is larger than %d MiB", maxFile>>20)
	}
	return data, nil
}

// parse is Load without the file's own reading. The Config is whole only when
// there is no fault.
func parse(data []byte, path string) (*Config, Faults) {
	d := newDecoder(path, filepath.Dir(path))
	c := d.config(data)
	if c != nil {
		check(c, d)
	}
	return c, d.sorted()
}

// config decodes data, as far as it can; nil if it is no YAML document.
func (d *decoder) config(data []byte) *Config {
	root := d.document(data)
	if root == nil {
		return nil
	}
	c := new(Config)
	d.value(root, reflect.ValueOf(c).Elem(), rules{}, "")
	c.inDataDir()
	return c
}

// document returns the root node of data, or nil with the fault recorded.
func (d *decoder) document(data []byte) *yaml.Node {
	if line, column, ok := firstInvalid(data); ok {
		d.faultAt(line, column, "", "is no UTF-8 text here; save the file as UTF-8")
		return nil
	}
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	if err != nil {
		d.faultAt(0, 0, "", "can't be read as YAML: %v", err)
		return nil
	}
	var doc, next yaml.Node
	switch err := loader.Load(&doc); {
	case errors.Is(err, io.EOF):
		d.faultAt(1, 1, "", "is empty; otpgate config init writes a file to begin with")
		return nil
	case err != nil:
		d.syntax(err)
		return nil
	}
	switch err := loader.Load(&next); {
	case err == nil:
		d.faultAt(next.Line, next.Column, "", "a second YAML document begins here; one is allowed")
		return nil
	case !errors.Is(err, io.EOF):
		d.syntax(err)
		return nil
	}
	return doc.Content[0]
}

// syntax records what the YAML parser says.
func (d *decoder) syntax(err error) {
	var le *yaml.LoadError
	if !errors.As(err, &le) {
		d.faultAt(0, 0, "", "is no valid YAML: %v", err)
		return
	}
	problem := "is no valid YAML: " + le.Message
	if le.ContextMsg != "" {
		problem += fmt.Sprintf(" (%s that begins at line %d)", le.ContextMsg, le.ContextMark.Line)
	}
	d.faultAt(le.Mark.Line, le.Mark.Column, "", "%s", problem)
}

// firstInvalid finds the first byte that isn't UTF-8: the YAML parser doesn't
// say where it is.
func firstInvalid(data []byte) (line, column int, found bool) {
	line, column = 1, 1
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		switch {
		case r == utf8.RuneError && size == 1:
			return line, column, true
		case r == '\n':
			line, column = line+1, 1
		default:
			column++
		}
		data = data[size:]
	}
	return 0, 0, false
}

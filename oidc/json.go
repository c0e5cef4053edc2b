package oidc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// maxJSONDepth is how deep objects and arrays may stand in one another: claims
// need four levels, and a request object has them one level down.
const maxJSONDepth = 8

// checkJSON reports what go-jose's decoder, which refuses members that are there
// twice, would read otherwise than another one, or not come to an end with: text
// that isn't UTF-8, endless nesting, more than one value.
func checkJSON(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("the JSON is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := checkValue(d, 0); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more than one JSON value")
	}
	return nil
}

// checkValue reads one value, which stands depth levels down.
func checkValue(d *json.Decoder, depth int) error {
	token, err := d.Token()
	if err != nil {
		return fmt.Errorf("the JSON is malformed: %w", err)
	}
	open, nested := token.(json.Delim)
	if !nested {
		return nil
	}
	if depth == maxJSONDepth {
		return fmt.Errorf("the JSON is nested more than %d deep", maxJSONDepth)
	}
	for d.More() {
		if open == '{' {
			if _, err := d.Token(); err != nil { // the member's name
				return fmt.Errorf("the JSON is malformed: %w", err)
			}
		}
		if err := checkValue(d, depth+1); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil { // the closing one
		return fmt.Errorf("the JSON is malformed: %w", err)
	}
	return nil
}

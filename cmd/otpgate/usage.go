package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// How otpgate takes what people type by habit, and what it says when that can't
// be right: exit code 2, before anything is asked of the gateway.

// habits turns "otpgate help user add" and "otpgate --version" into our own.
func habits(args []string) []string {
	switch {
	case len(args) > 0 && args[0] == "help":
		return append(slices.Clone(args[1:]), "--help")
	case len(args) == 1 && args[0] == "--version":
		return []string{"version"}
	}
	return args
}

// helpFor is the command that explains what err is about, as far as it was
// typed.
func helpFor(err error) string {
	typed := []string{"otpgate"}
	var parse *kong.ParseError
	if errors.As(err, &parse) {
		for _, p := range parse.Context.Path {
			if p.Command != nil {
				typed = append(typed, p.Command.Name)
			}
		}
	}
	return strings.Join(append(typed, "--help"), " ")
}

// oneOf refuses a value that isn't one of those allowed. The zero value is for
// a flag that wasn't given.
func oneOf[T ~string](flag string, value T, allowed ...T) error {
	if value == "" || slices.Contains(allowed, value) {
		return nil
	}
	words := make([]string, len(allowed))
	for i, a := range allowed {
		words[i] = string(a)
	}
	last := len(words) - 1
	return fmt.Errorf("%s must be %s or %s, not %.70q", flag, strings.Join(words[:last], ", "), words[last], string(value))
}

// within refuses a number outside its bounds; nil is for a flag that wasn't
// given.
func within(flag string, value *int, least, most int) error {
	if value == nil || *value >= least && *value <= most {
		return nil
	}
	return fmt.Errorf("%s must be from %d to %d, not %d", flag, least, most, *value)
}

// orZero is the value of a flag, 0 if it wasn't given.
func orZero(value *int) int {
	if value == nil {
		return 0
	}
	return *value
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9@%+=:,./_-]+$`)

// word is s as it is typed in a shell.
func word(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

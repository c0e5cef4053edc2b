package oidc

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The limits of what a client or a browser may send.
const (
	// maxBody is what a form may take: eight assertions of the size we accept,
	// far more than any honest request has.
	maxBody = 64 << 10
	// maxParams is several times what RFC 6749, OIDC Core and RFC 9126 define
	// together.
	maxParams = 64
	// maxURI is what browsers and proxies can be relied upon to carry.
	maxURI = 2048
)

// params are the parameters of one request, each once, none empty.
type params map[string]string

// readForm returns the parameters of a form that was posted. Parameters in the
// URL are refused: they would stand in access logs (RFC 6749 §2.3.1).
func readForm(w http.ResponseWriter, r *http.Request) (params, error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, &protocolError{status: http.StatusMethodNotAllowed, code: invalidRequest, description: "use POST"}
	}
	if r.URL.RawQuery != "" {
		return nil, refuse(invalidRequest, "parameters belong in the body, not in the URL")
	}
	body, err := readBody(w, r)
	if err != nil {
		return nil, err
	}
	return parseForm(body)
}

// readBody returns the body of a posted form.
func readBody(w http.ResponseWriter, r *http.Request) (string, error) {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/x-www-form-urlencoded" {
		return "", refuse(invalidRequest, "the body must be application/x-www-form-urlencoded")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return "", &protocolError{
			status: http.StatusRequestEntityTooLarge, code: invalidRequest,
			description: fmt.Sprintf("the body is larger than %d bytes", maxBody), // RFC 9126 §2.3
		}
	}
	if err != nil {
		return "", refuse(invalidRequest, "the body can't be read").because(err)
	}
	return string(body), nil
}

// parseForm parses a form strictly. An empty parameter counts as left out; one
// that is there twice is an error (RFC 6749 §3.1, §3.2).
func parseForm(body string) (params, error) {
	values, err := parseValues(body)
	if err != nil {
		return nil, err
	}
	form := make(params, len(values))
	for name, vs := range values {
		if len(vs) > 1 {
			return nil, refuse(invalidRequest, "a parameter is there twice")
		}
		if !utf8.ValidString(vs[0]) {
			return nil, refuse(invalidRequest, "a parameter is not UTF-8")
		}
		if vs[0] != "" {
			form[name] = vs[0]
		}
	}
	return form, nil
}

// parseValues parses a form or a query of at most maxParams.
func parseValues(form string) (url.Values, error) {
	if strings.Count(form, "&") >= maxParams {
		return nil, refuse(invalidRequest, fmt.Sprintf("more than %d parameters", maxParams))
	}
	values, err := url.ParseQuery(form)
	if err != nil {
		return nil, refuse(invalidRequest, "the form is malformed").because(err)
	}
	return values, nil
}

// printable reports whether s has 1 to limit octets of UTF-8 that can be shown
// and logged as they are: no control or format characters.
func printable(s string, limit int) bool {
	if s == "" || len(s) > limit || !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

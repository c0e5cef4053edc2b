package pskc

import (
	"bufio"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

const (
	// maxTokenBytes bounds one tag, one run of text or one comment. The longest
	// in the field is a certificate in base64, 2 to 4 KiB.
	maxTokenBytes = 16 << 10
	// maxDepth bounds how deep elements nest: RFC 6030 needs eight levels, its
	// extensions a few more.
	maxDepth = 24
	// maxAttributes bounds those of one element, namespaces included.
	maxAttributes = 32
	// maxChildren bounds those of one element: RFC 6030 needs nine, its extensions
	// a few more. Each is kept in mind, or compared with those before it.
	maxChildren = 64
)

// scanner reads XML as a stream of elements. It knows nothing of RFC 6030.
type scanner struct {
	dec   *xml.Decoder
	in    *meter
	depth int
	begun bool // something was read
}

func newScanner(r io.Reader) *scanner {
	in := &meter{r: bufio.NewReader(r)}
	// Strict, and no Entity map: entities beyond XML's own five are errors.
	// No CharsetReader: so is any encoding but UTF-8.
	return &scanner{dec: xml.NewDecoder(in), in: in}
}

var errTooLong = errors.New("token too long")

// meter lets at most left bytes through: the decoder holds a whole token in
// memory. The decoder reads it byte by byte, as it is an io.ByteReader.
type meter struct {
	r    *bufio.Reader
	left int
}

// ReadByte implements io.ByteReader.
func (m *meter) ReadByte() (byte, error) {
	if m.left == 0 {
		return 0, errTooLong
	}
	m.left--
	return m.r.ReadByte()
}

// Read implements io.Reader.
func (m *meter) Read(p []byte) (int, error) {
	if m.left == 0 {
		return 0, errTooLong
	}
	n, err := m.r.Read(p[:min(len(p), m.left)])
	m.left -= n
	return n, err
}

// line is where reading stands.
func (s *scanner) line() int {
	line, _ := s.dec.InputPos()
	return line
}

func (s *scanner) fail(format string, args ...any) error {
	return &FileError{Line: s.line(), Problem: fmt.Sprintf(format, args...)}
}

// next returns the next start, end, text or comment; io.EOF behind the last.
func (s *scanner) next() (xml.Token, error) {
	s.in.left = maxTokenBytes
	token, err := s.dec.Token()
	if err != nil {
		return nil, s.fault(err)
	}
	begun := s.begun
	s.begun = true
	switch t := token.(type) {
	case xml.StartElement:
		if s.depth++; s.depth > maxDepth {
			return nil, s.fail("elements nest deeper than %d", maxDepth)
		}
		return t, s.checkAttributes(t)
	case xml.EndElement:
		s.depth--
	case xml.ProcInst:
		if begun || t.Target != "xml" {
			return nil, s.fail("a processing instruction <?%.40s is not allowed", t.Target)
		}
		return s.next()
	case xml.Directive:
		return nil, s.fail("a document type definition is not allowed")
	}
	return token, nil
}

// checkAttributes refuses an attribute that stands twice: XML forbids it, the
// decoder doesn't look.
func (s *scanner) checkAttributes(e xml.StartElement) error {
	if len(e.Attr) > maxAttributes {
		return s.fail("<%.40s> has more than %d attributes", e.Name.Local, maxAttributes)
	}
	for i, a := range e.Attr {
		if slices.ContainsFunc(e.Attr[:i], func(b xml.Attr) bool { return a.Name == b.Name }) {
			return s.fail("<%.40s> has the attribute %.40s twice", e.Name.Local, a.Name.Local)
		}
	}
	return nil
}

// fault gives the decoder's errors a line and words; those of the reader under
// it pass as they are.
func (s *scanner) fault(err error) error {
	var syntax *xml.SyntaxError
	switch {
	case errors.Is(err, errTooLong):
		return s.fail("a tag or a text is longer than %d bytes", maxTokenBytes)
	case errors.As(err, &syntax):
		return &FileError{Line: syntax.Line, Problem: "this is no well-formed XML: " + syntax.Msg}
	case errors.Is(err, io.EOF):
		return io.EOF
	case strings.HasPrefix(err.Error(), "xml:"): // an encoding or version that it can't read
		return s.fail("this XML can't be read: %s", strings.TrimPrefix(err.Error(), "xml: "))
	}
	return err
}

// root returns the document's element.
func (s *scanner) root() (xml.StartElement, error) {
	for {
		token, err := s.next()
		if errors.Is(err, io.EOF) {
			return xml.StartElement{}, s.fail("the file is empty")
		}
		if err != nil {
			return xml.StartElement{}, err
		}
		switch t := token.(type) {
		case xml.StartElement:
			return t, nil
		case xml.CharData:
			if s.blank(t) != nil {
				return xml.StartElement{}, s.fail("this is no XML file")
			}
		}
	}
}

// end checks that nothing follows the document's element.
func (s *scanner) end() error {
	for {
		token, err := s.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch t := token.(type) {
		case xml.StartElement:
			return s.fail("<%.40s> follows the end of the document", t.Name.Local)
		case xml.CharData:
			if err := s.blank(t); err != nil {
				return err
			}
		}
	}
}

// each calls fn for each child of the element that was just begun, up to its
// end. fn reads the child to its end. A child may stand twice only if it is
// named in repeated.
func (s *scanner) each(fn func(xml.StartElement) error, repeated ...string) error {
	return s.list("", fn, repeated...)
}

// list is each for an element that may have any number of the child named item.
func (s *scanner) list(item string, fn func(xml.StartElement) error, repeated ...string) error {
	var seen []xml.Name
	children := 0
	for {
		token, err := s.next()
		if err != nil {
			return s.cutOff(err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			if t.Name.Local != item {
				if children++; children > maxChildren {
					return s.fail("an element has more than %d others in it", maxChildren)
				}
				if !slices.Contains(repeated, t.Name.Local) {
					if slices.Contains(seen, t.Name) {
						return s.fail("<%.40s> stands twice", t.Name.Local)
					}
					seen = append(seen, t.Name)
				}
			}
			if err := fn(t); err != nil {
				return err
			}
		case xml.EndElement:
			return nil
		case xml.CharData:
			if err := s.blank(t); err != nil {
				return err
			}
		}
	}
}

// text is what stands in the element that was just begun, up to its end, without
// the white space around it. A comment within is refused: parsers differ in
// what they make of the two halves.
func (s *scanner) text() (string, error) {
	var text strings.Builder
	for {
		token, err := s.next()
		if err != nil {
			return "", s.cutOff(err)
		}
		switch t := token.(type) {
		case xml.CharData:
			if text.Len()+len(t) > maxTokenBytes {
				return "", s.fault(errTooLong)
			}
			text.Write(t)
		case xml.EndElement:
			return strings.TrimSpace(text.String()), nil
		case xml.StartElement:
			return "", s.fail("<%.40s> stands where a value must", t.Name.Local)
		case xml.Comment:
			return "", s.fail("a comment stands within a value")
		}
	}
}

// skip reads the element that was just begun to its end.
func (s *scanner) skip() error {
	for outside := s.depth - 1; s.depth > outside; {
		if _, err := s.next(); err != nil {
			return s.cutOff(err)
		}
	}
	return nil
}

// empty reads the element that was just begun to its end and refuses anything in
// it.
func (s *scanner) empty() error {
	return s.each(func(e xml.StartElement) error { return s.unknown(e) })
}

func (s *scanner) unknown(e xml.StartElement) error {
	if e.Name.Space == "" {
		return s.fail("the element <%.40s> is not expected here", e.Name.Local)
	}
	return s.fail("the element <%.40s> of %.80q is not expected here", e.Name.Local, e.Name.Space)
}

func (s *scanner) blank(text xml.CharData) error {
	if strings.TrimSpace(string(text)) != "" {
		return s.fail("text stands between elements")
	}
	return nil
}

// cutOff is for an end of the file within an element.
func (s *scanner) cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		return s.fail("the file ends too early")
	}
	return err
}

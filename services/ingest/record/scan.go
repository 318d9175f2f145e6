package record

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// scanner walks over one line. i is the next octet to look at.
type scanner struct {
	b []byte
	i int
}

// malformed says what was expected where, and what is there instead.
func (s *scanner) malformed(want string) error {
	got := "the end of the line"
	if s.i < len(s.b) {
		got = quote(s.b[s.i:min(len(s.b), s.i+8)])
	}
	return &Error{Reason: fmt.Sprintf("malformed JSON at octet %d: want %s, got %s", s.i+1, want, got)}
}

// next skips white space and returns the octet there, 0 at the end.
func (s *scanner) next() byte {
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

// take steps over c, if that is the next octet after white space.
func (s *scanner) take(c byte) bool {
	if s.next() != c || s.i >= len(s.b) {
		return false
	}
	s.i++
	return true
}

// open steps over the brace that begins the object.
func (s *scanner) open() error {
	if s.take('{') {
		return nil
	}
	if strings.HasPrefix(string(s.b[:min(3, len(s.b))]), "\ufeff") {
		return &Error{Reason: "the line begins with a byte order mark; send plain UTF-8"}
	}
	return &Error{Reason: "want one JSON object per line, got " + s.kind()}
}

// end makes sure that nothing follows the object.
func (s *scanner) end() error {
	if s.next(); s.i < len(s.b) {
		return s.malformed("nothing after the object (one object per line)")
	}
	return nil
}

// name reads up to and over the colon after a field's name. more is false when
// the object ended instead.
func (s *scanner) name(first bool) (name string, more bool, err error) {
	if s.take('}') {
		return "", false, nil
	}
	if !first && !s.take(',') {
		return "", false, s.malformed(`"," or "}"`)
	}
	if s.next() != '"' {
		return "", false, s.malformed("a field name in double quotes")
	}
	name, err = s.quoted("")
	if err != nil {
		return "", false, err
	}
	if !s.take(':') {
		return "", false, s.malformed(`":" after the field name`)
	}
	return name, true, nil
}

// kind names what stands at the next octet, for error texts.
func (s *scanner) kind() string {
	switch c := s.next(); {
	case s.i >= len(s.b):
		return "nothing"
	case c == '"':
		return "a text"
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case c == '-' && s.i+1 < len(s.b) && isDigit(s.b[s.i+1]) || isDigit(c):
		return "a number"
	}
	end := s.i
	for end < len(s.b) && !strings.ContainsRune(" \t\r\n,}]", rune(s.b[end])) {
		end++
	}
	word := s.b[s.i:end]
	switch string(word) {
	case "true", "false", "null":
		return string(word)
	}
	return quote(word)
}

// text reads a string value.
func (s *scanner) text(field string) (string, error) {
	if s.next() != '"' {
		return "", &Error{field, "want a text in double quotes, got " + s.kind()}
	}
	return s.quoted(field)
}

// quoted reads a JSON string that begins at the next octet. field is named in
// errors; "" stands for a field's name itself.
func (s *scanner) quoted(field string) (string, error) {
	start := s.i + 1
	for s.i = start; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '"':
			raw := s.b[start:s.i]
			if !utf8.Valid(raw) {
				return "", s.badText(field, "not UTF-8")
			}
			s.i++
			return string(raw), nil
		case c == '\\':
			return s.escaped(field, start)
		case c < 0x20:
			return "", s.badText(field, fmt.Sprintf("control character %U must be escaped", c))
		}
	}
	return "", s.badText(field, "text without its closing quote")
}

// badText is an error inside of a string.
func (s *scanner) badText(field, reason string) error {
	if field == "" {
		reason = fmt.Sprintf("malformed field name at octet %d: %s", s.i+1, reason)
	}
	return &Error{field, reason}
}

// escaped is the slow half of quoted: s.i is at the first backslash.
func (s *scanner) escaped(field string, start int) (string, error) {
	out := append([]byte(nil), s.b[start:s.i]...)
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			if !utf8.Valid(out) {
				return "", s.badText(field, "not UTF-8")
			}
			s.i++
			return string(out), nil
		case c == '\\':
			r, ok := s.escape()
			if !ok {
				return "", s.badText(field, "malformed escape in the text")
			}
			out = utf8.AppendRune(out, r)
		case c < 0x20:
			return "", s.badText(field, fmt.Sprintf("control character %U must be escaped", c))
		default:
			out = append(out, c)
			s.i++
		}
	}
	return "", s.badText(field, "text without its closing quote")
}

// escape reads one escape; a surrogate must come with its other half.
func (s *scanner) escape() (rune, bool) {
	if s.i+1 >= len(s.b) {
		return 0, false
	}
	c := s.b[s.i+1]
	if c == 'u' {
		r, ok := s.unit()
		if !ok || !utf16.IsSurrogate(r) {
			return r, ok
		}
		low, ok := s.unit()
		r = utf16.DecodeRune(r, low)
		return r, ok && r != utf8.RuneError
	}
	s.i += 2
	if at := strings.IndexByte(`"\/bfnrt`, c); at >= 0 {
		return rune("\"\\/\b\f\n\r\t"[at]), true
	}
	return 0, false
}

// unit reads one \uXXXX.
func (s *scanner) unit() (rune, bool) {
	if s.i+6 > len(s.b) || s.b[s.i] != '\\' || s.b[s.i+1] != 'u' {
		return 0, false
	}
	r, err := strconv.ParseUint(string(s.b[s.i+2:s.i+6]), 16, 16)
	if err != nil {
		return 0, false
	}
	s.i += 6
	return rune(r), true
}

// number steps over a JSON number (RFC 8259 section 6) and returns its text,
// which is empty when there is none. integer tells that it has neither a
// fraction nor an exponent.
func (s *scanner) number() (text string, integer bool) {
	s.next()
	i := s.i
	digits := func() bool {
		from := i
		for i < len(s.b) && isDigit(s.b[i]) {
			i++
		}
		return i > from
	}
	at := func(set string) bool { return i < len(s.b) && strings.IndexByte(set, s.b[i]) >= 0 }

	if at("-") {
		i++
	}
	whole := i
	if !digits() || s.b[whole] == '0' && i > whole+1 {
		return "", false
	}
	integer = true
	if at(".") {
		i++
		if integer = false; !digits() {
			return "", false
		}
	}
	if at("eE") {
		i++
		if at("+-") {
			i++
		}
		if integer = false; !digits() {
			return "", false
		}
	}
	text, s.i = string(s.b[s.i:i]), i
	return text, integer
}

// float reads a number of any form.
func (s *scanner) float(field string) (float64, error) {
	kind := s.kind()
	text, _ := s.number()
	if text == "" {
		if kind == "a number" {
			kind = "a malformed one"
		}
		return 0, &Error{field, "want a finite number, got " + kind}
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsInf(v, 0) {
		return 0, &Error{field, "too large for a 64-bit number: " + quote([]byte(text))}
	}
	return v, nil
}

// integer reads a whole number without fraction and exponent.
func (s *scanner) integer(field string) (int64, error) {
	kind := s.kind()
	text, whole := s.number()
	if text == "" {
		return 0, &Error{field, "want an integer of 0 or more, got " + kind}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if !whole || err != nil {
		return 0, &Error{field, "want an integer of 0 to 2^63-1, got " + quote([]byte(text))}
	}
	return n, nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

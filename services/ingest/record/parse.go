package record

import (
	"strconv"
	"strings"
	"time"

	"github.com/mdmesh/mdmesh/store"
)

// The fields of a record, as bits of what was seen.
const (
	sawSeries = 1 << iota
	sawID
	sawTime
	sawValue
	sawRev

	required = sawSeries | sawTime | sawValue
)

// Parse reads one line without its line end: a JSON object with the fields
// series, time, value and optionally id and rev, each at most once, in any
// order, and no others. The record owns its memory; line may be reused.
//
// The general decoder would let pass what the contract forbids (a field twice,
// "Series" for "series", half a surrogate pair) and could seldom name the field
// at fault, so the line is scanned here. Errors are *Error. Parse never panics.
func Parse(line []byte) (store.Record, error) {
	s := scanner{b: line}
	var r store.Record
	if err := s.open(); err != nil {
		return r, err
	}
	seen := 0
	for {
		name, more, err := s.name(seen == 0)
		if err != nil {
			return store.Record{}, err
		}
		if !more {
			break
		}
		bit, err := s.field(&r, name)
		if err != nil {
			return store.Record{}, err
		}
		if seen&bit != 0 {
			return store.Record{}, &Error{name, "given twice"}
		}
		seen |= bit
	}
	if err := s.end(); err != nil {
		return store.Record{}, err
	}
	if seen&required != required {
		return store.Record{}, missing(seen)
	}
	if err := Check(r); err != nil {
		return store.Record{}, err
	}
	return r, nil
}

// missing names every required field that was not seen.
func missing(seen int) error {
	var names []string
	for i, name := range []string{"series", "id", "time", "value", "rev"} {
		if bit := 1 << i; required&bit != 0 && seen&bit == 0 {
			names = append(names, strconv.Quote(name))
		}
	}
	word := "field"
	if len(names) > 1 {
		word = "fields"
	}
	return &Error{Reason: "missing " + word + " " + strings.Join(names, ", ")}
}

// field reads the value that belongs to name into r and returns the field's bit.
func (s *scanner) field(r *store.Record, name string) (int, error) {
	switch name {
	case "series":
		text, err := s.text(name)
		r.Series = text
		return sawSeries, err
	case "id":
		text, err := s.text(name)
		if err == nil && text == "" {
			err = &Error{name, "empty; leave it out to have one made"}
		}
		r.ID = text
		return sawID, err
	case "time":
		text, err := s.text(name)
		if err != nil {
			return sawTime, err
		}
		r.Time, err = parseTime(text)
		return sawTime, err
	case "value":
		value, err := s.float(name)
		r.Value = value
		return sawValue, err
	case "rev":
		rev, err := s.integer(name)
		r.Rev = rev
		return sawRev, err
	}
	return 0, unknown(name)
}

// unknown refuses a field that the contract does not have.
func unknown(name string) error {
	const fields = "the fields are series, id, time, value and rev"
	if name == "" {
		return &Error{Reason: "field without a name; " + fields}
	}
	if len(name) > 40 {
		name = strings.ToValidUTF8(name[:40], "") + "..."
	}
	return &Error{name, "unknown; " + fields}
}

// parseTime reads RFC 3339, of which section 5.6 allows lower-case t and z.
func parseTime(text string) (time.Time, error) {
	var t time.Time
	if err := t.UnmarshalText([]byte(strings.ToUpper(text))); err != nil {
		return t, &Error{"time", "want RFC 3339 such as 2006-01-02T15:04:05Z, got " + quote([]byte(text))}
	}
	return t.UTC(), nil
}

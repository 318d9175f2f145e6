// Package record is the text of the pipeline's front door: one measurement as
// one line of JSON, and the one-line answer to it. Ingest, its clients
// (lineclient, and through it hostmetrics and feed) and transform share it.
//
// The one invariant: what Parse accepts, Check accepts, and what Append wrote
// Parse reads back equal. So a record keeps its identity over any number of
// resends, and the store can tell a duplicate from a conflict.
//
// Start reading at Parse (parse.go), then Append and Answer here.
package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/mdmesh/mdmesh/store"
)

// MaxLine is the longest line in octets, its line end not counted.
const MaxLine = 64 << 10

// Error tells what is wrong with one record. Its text is short, printable and
// fit to be sent to whoever wrote the line.
type Error struct {
	Field  string // "series", "id", "time", "value", "rev", an unknown field's name, or "" for the line as a whole
	Reason string
}

// Error names the field, where there is one, and the reason.
func (e *Error) Error() string {
	if e.Field == "" {
		return e.Reason
	}
	return fmt.Sprintf("field %q: %s", e.Field, e.Reason)
}

// Check tells whether r may be sent: the bounds are the store's. An empty ID
// passes: ingest makes one. The error, if any, is an *Error that names the first bad
// field.
func Check(r store.Record) error {
	if r.ID == "" {
		r.ID = "made"
	}
	var bad *store.FieldError
	if errors.As(r.Validate(), &bad) {
		return &Error{bad.Field, bad.Reason}
	}
	return nil
}

// Append writes r as one JSON object without a line end and returns the longer
// slice. The id is left out when empty, the rev when 0; the time is in UTC with
// as many digits of the second as it needs, the value with as many as bring the
// same number back.
func Append(dst []byte, r store.Record) []byte {
	dst = append(dst, `{"series":`...)
	dst = appendText(dst, r.Series)
	if r.ID != "" {
		dst = append(dst, `,"id":`...)
		dst = appendText(dst, r.ID)
	}
	dst = append(dst, `,"time":"`...)
	dst = r.Time.UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, `","value":`...)
	dst = appendNumber(dst, r.Value)
	if r.Rev != 0 {
		dst = append(dst, `,"rev":`...)
		dst = strconv.AppendInt(dst, r.Rev, 10)
	}
	return append(dst, '}')
}

// appendNumber writes plain digits where people expect them and an exponent
// for the very small and the very large.
func appendNumber(dst []byte, v float64) []byte {
	format := byte('f')
	if a := math.Abs(v); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(dst, v, format, -1, 64)
}

// appendText writes s as a JSON string. What is no UTF-8 becomes U+FFFD.
func appendText(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}

// Answer is what ingest says to one line.
type Answer struct {
	OK    bool   // the record is durable
	Error string // why not, when OK is false
	// Closing tells that the answer belongs to no line: the connection ends
	// here, and every line not answered before was not confirmed.
	Closing bool
}

// Append writes a as one line with its line end and returns the longer slice.
func (a Answer) Append(dst []byte) []byte {
	if a.OK {
		return append(dst, "{\"ok\": true}\n"...)
	}
	dst = append(dst, `{"ok": false, "error": `...)
	dst = appendText(dst, a.Error)
	if a.Closing {
		dst = append(dst, `, "closing": true`...)
	}
	return append(dst, "}\n"...)
}

// ErrBadAnswer is wrapped by what ParseAnswer returns.
var ErrBadAnswer = errors.New("not an answer of ingest")

// ParseAnswer reads one line of ingest's, with or without its line end. Keys it
// does not know are passed over.
func ParseAnswer(line []byte) (Answer, error) {
	line = bytes.TrimSpace(line)
	if string(line) == `{"ok": true}` {
		return Answer{OK: true}, nil
	}
	var a struct {
		OK      *bool  `json:"ok"`
		Error   string `json:"error"`
		Closing bool   `json:"closing"`
	}
	if err := json.Unmarshal(line, &a); err != nil {
		return Answer{}, fmt.Errorf("%w: %s: %w", ErrBadAnswer, quote(line), err)
	}
	if a.OK == nil {
		return Answer{}, fmt.Errorf("%w: %s has no \"ok\"", ErrBadAnswer, quote(line))
	}
	return Answer{OK: *a.OK, Error: a.Error, Closing: a.Closing}, nil
}

// quote shows the beginning of b in printable characters.
func quote(b []byte) string {
	const most = 40
	if len(b) > most {
		return strconv.QuoteToASCII(string(b[:most])) + "..."
	}
	return strconv.QuoteToASCII(string(b))
}

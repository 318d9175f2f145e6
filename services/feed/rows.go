package feed

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
)

const (
	// maxRow bounds a row in octets, and maxFields its fields.
	maxRow    = 1 << 20
	maxFields = 10_000
	// maxQuotedLines bounds the lines over which one quoted field may run. Beyond,
	// a quote was most likely left open, and costs its own line only.
	maxQuotedLines = 100
)

// rowError is about one row; the next one may be read.
type rowError struct{ text string }

func (e *rowError) Error() string { return e.text }

// row is one line of the file, or several where a quoted field runs over them.
type row struct {
	line   int // of the file, from 1, where the row begins
	fields []string
}

// ahead is what next returned before.
type ahead struct {
	row row
	err error
}

// lineRead is what readLine returned before.
type lineRead struct {
	text string
	err  error
}

// rows reads CSV within bounds. The usual reader for it has none, and takes
// everything after one stray quote for a single field.
type rows struct {
	in     *bufio.Reader
	comma  byte
	line   int        // number of the last line that was read
	back   []lineRead // lines to be read again
	ahead  []ahead    // rows that were looked at before
	replay bool       // ... and are to be returned now
}

// counter counts the octets of a file as they are read.
type counter struct {
	in   io.Reader
	read atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.read.Add(int64(n))
	return n, err
}

// newRows unpacks gzip, drops a byte order mark and finds the separator.
func newRows(in io.Reader) (*rows, error) {
	r := &rows{in: bufio.NewReaderSize(in, 64<<10)}
	if magic, _ := r.in.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		unpacked, err := gzip.NewReader(r.in)
		if err != nil {
			return nil, fmt.Errorf("unpack: %w", err)
		}
		r.in = bufio.NewReaderSize(unpacked, 64<<10)
	}
	if mark, _ := r.in.Peek(3); string(mark) == "\ufeff" {
		_, _ = r.in.Discard(3)
	}
	head, err := r.in.Peek(32 << 10)
	if len(head) == 0 {
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return nil, errors.New("the file is empty")
	}
	r.comma = separator(head)
	return r, nil
}

// separator picks what occurs most often in the first line.
func separator(head []byte) byte {
	head = bytes.TrimLeft(head, "\r\n")
	if at := bytes.IndexByte(head, '\n'); at >= 0 {
		head = head[:at]
	}
	best := byte(',')
	for _, c := range []byte(";\t|") {
		if bytes.Count(head, []byte{c}) > bytes.Count(head, []byte{best}) {
			best = c
		}
	}
	return best
}

// next returns the next row that is not blank. A *rowError is about that row
// only; io.EOF and everything else is final. row.line is set in every case.
func (r *rows) next() (row, error) {
	if r.replay && len(r.ahead) > 0 {
		first := r.ahead[0]
		r.ahead = r.ahead[1:]
		return first.row, first.err
	}
	for {
		text, err := r.readLine()
		at := row{line: r.line}
		if err != nil {
			return at, err
		}
		if strings.TrimSpace(text) == "" {
			continue
		}
		if at.fields, err = r.split(text); errors.Is(err, errOpenQuote) {
			at.fields, err = r.quoted(text)
		}
		return at, err
	}
}

// quoted joins lines until the quote that text leaves open is closed. If that
// gives no good row, the lines are put back: the quote costs its own line only.
func (r *rows) quoted(text string) ([]string, error) {
	var more []lineRead
	for len(more) < maxQuotedLines && len(text) <= maxRow {
		line, err := r.readLine()
		if errors.Is(err, io.EOF) {
			break
		}
		more = append(more, lineRead{line, err})
		if err != nil {
			break
		}
		if text += "\n" + line; !strings.Contains(line, `"`) {
			continue
		}
		fields, err := r.split(text)
		if err == nil {
			return fields, nil
		}
		if !errors.Is(err, errOpenQuote) {
			break
		}
	}
	r.back = append(more, r.back...)
	r.line -= len(more)
	return nil, errOpenQuote
}

var (
	errOpenQuote  = &rowError{"a quote is not closed"}
	errStrayQuote = &rowError{"text after a closing quote"}
	errTooLong    = &rowError{fmt.Sprintf("the line is longer than %d octets", maxRow)}
	errTooMany    = &rowError{fmt.Sprintf("more than %d fields", maxFields)}
)

// split cuts one row into fields (RFC 4180): a field that begins with a quote
// ends with one and holds two for each of its own. Blanks around fields go.
func (r *rows) split(text string) ([]string, error) {
	var fields []string
	for rest := text; ; {
		if len(fields) == maxFields {
			return nil, errTooMany
		}
		trimmed := strings.TrimLeft(rest, " ")
		if !strings.HasPrefix(trimmed, `"`) {
			field, after, more := strings.Cut(rest, string(r.comma))
			fields = append(fields, strings.TrimSpace(field))
			if rest = after; !more {
				return fields, nil
			}
			continue
		}
		field, after, ok := unquote(trimmed[1:])
		if !ok {
			return nil, errOpenQuote
		}
		fields = append(fields, field)
		if after = strings.TrimLeft(after, " "); after == "" {
			return fields, nil
		}
		if after[0] != r.comma {
			return nil, errStrayQuote
		}
		rest = after[1:]
	}
}

// unquote reads up to and over the closing quote.
func unquote(text string) (field, after string, ok bool) {
	var b strings.Builder
	for {
		part, rest, found := strings.Cut(text, `"`)
		if !found {
			return "", "", false
		}
		b.WriteString(part)
		if !strings.HasPrefix(rest, `"`) {
			return b.String(), rest, true
		}
		b.WriteByte('"')
		text = rest[1:]
	}
}

// readLine returns the next line without its end. The rest of a line that is too
// long is skipped.
func (r *rows) readLine() (string, error) {
	if len(r.back) > 0 {
		first := r.back[0]
		r.back = r.back[1:]
		r.line++
		return first.text, first.err
	}
	var long []byte
	tooLong := false
	for {
		part, err := r.in.ReadSlice('\n')
		if err == nil || errors.Is(err, io.EOF) && len(long)+len(part) > 0 || tooLong && errors.Is(err, io.EOF) {
			r.line++
			if tooLong || len(long)+len(part) > maxRow {
				return "", errTooLong
			}
			return strings.TrimSuffix(strings.TrimSuffix(string(append(long, part...)), "\n"), "\r"), nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return "", err
		}
		if tooLong = tooLong || len(long)+len(part) > maxRow; tooLong {
			long = nil
		} else {
			long = append(long, part...)
		}
	}
}

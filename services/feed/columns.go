package feed

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/mdmesh/mdmesh/services/ingest/record"
	"github.com/mdmesh/mdmesh/store"
)

// lookAhead is how many rows of data are looked at before columns are chosen.
const lookAhead = 20

// maxListed bounds the columns an error lists.
const maxListed = 40

// The names by which columns are guessed, the best first.
var (
	timeNames  = []string{"timestamp", "datetime", "date_time", "time", "@timestamp", "date", "ts"}
	valueNames = []string{"value"}
)

// Columns is what was found about a file's layout.
type Columns struct {
	Header []string // names; "1", "2", ... where the file has none
	Time   string   // names of the columns in use
	Value  string
	Series string // name of the column; "" when all rows are of one series
	Name   string // of that one series

	time, value, series int // indexes; series is -1 when all rows are of one
	times               timeParser
}

// record makes a record, without id, of one row.
func (c *Columns) record(row row) (store.Record, error) {
	if need := max(c.time, c.value, c.series) + 1; len(row.fields) < need {
		return store.Record{}, &rowError{fmt.Sprintf("%d fields, want at least %d", len(row.fields), need)}
	}
	at, err := c.times.parse(row.fields[c.time])
	if err != nil {
		return store.Record{}, fmt.Errorf("column %q: %w", c.Time, err)
	}
	value, err := parseValue(row.fields[c.value])
	if err != nil {
		return store.Record{}, fmt.Errorf("column %q: %w", c.Value, err)
	}
	rec := store.Record{Series: c.Name, Time: at, Value: value}
	if c.series >= 0 {
		rec.Series = row.fields[c.series]
	}
	return rec, record.Check(rec)
}

// parseValue reads a finite number in plain or exponent notation.
func parseValue(text string) (float64, error) {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(v) || math.IsInf(v, 0) || strings.ContainsAny(text, "xX_") {
		return 0, &rowError{fmt.Sprintf("want a number, got %s", quote(text))}
	}
	return v, nil
}

// quote shows the beginning of a field.
func quote(text string) string {
	if len(text) > 40 {
		return strconv.Quote(text[:40]) + "..."
	}
	return strconv.Quote(text)
}

// prepare looks at the first rows, decides which columns to use and puts the rows
// of data back.
func (r *run) prepare() error {
	head, data, err := r.rows.begin()
	if err != nil {
		return fmt.Errorf("feed: %s: %w", r.name(), err)
	}
	r.cols, err = chooseColumns(head, data, r.cfg, r.name())
	if err != nil {
		return fmt.Errorf("feed: %s: %w", r.name(), err)
	}
	return nil
}

// begin reads the header, if there is one, and a few rows of data. What it read
// as data will be returned by next again.
func (r *rows) begin() (head []string, data [][]string, err error) {
	first, err := r.next()
	if errors.Is(err, io.EOF) {
		return nil, nil, errors.New("the file has no rows")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("line %d: %w", first.line, err)
	}
	if isHeader(first.fields) {
		head = first.fields
	} else {
		for i := range first.fields {
			head = append(head, strconv.Itoa(i+1))
		}
		r.ahead = append(r.ahead, ahead{first, nil})
		data = append(data, first.fields)
	}
	for len(data) < lookAhead {
		next, err := r.next()
		if errors.Is(err, io.EOF) {
			break
		}
		var bad *rowError
		if err == nil {
			data = append(data, next.fields)
		}
		r.ahead = append(r.ahead, ahead{next, err})
		if err != nil && !errors.As(err, &bad) || len(r.ahead) > 10*lookAhead {
			break
		}
	}
	r.replay = true
	return head, data, nil
}

// isHeader tells names from data: no field of a header is a number or a time,
// and most have some text.
func isHeader(fields []string) bool {
	var times timeParser
	named := 0
	for _, f := range fields {
		if _, err := parseValue(f); err == nil {
			return false
		}
		if _, err := times.parse(f); err == nil {
			return false
		}
		if f != "" {
			named++
		}
	}
	return named > 0
}

// chooseColumns applies what was asked for and guesses the rest.
func chooseColumns(head []string, data [][]string, cfg Config, name string) (Columns, error) {
	c := Columns{Header: head, series: -1, Name: name}
	var err error
	if c.time, err = chooseTime(head, data, cfg.Time); err != nil {
		return c, err
	}
	switch {
	case cfg.Series == "":
		c.series = chooseSeries(head, cfg.Value, c.time)
	default:
		if c.series = find(head, cfg.Series); c.series < 0 {
			c.Name = cfg.Series
		}
	}
	if c.value, err = chooseValue(head, data, cfg.Value, c.time, c.series); err != nil {
		return c, err
	}
	c.Time, c.Value = head[c.time], head[c.value]
	if c.series >= 0 {
		c.Series, c.Name = head[c.series], ""
	} else if err := record.Check(store.Record{Series: c.Name, Time: exampleTime}); err != nil {
		return c, fmt.Errorf("%w; choose another with --series", err)
	}
	return c, nil
}

// chooseSeries finds the column called series, unless it is asked for as another; -1
// if there is none.
func chooseSeries(head []string, value string, time int) int {
	i := find(head, "series")
	if i == time || value != "" && find(head, value) == i {
		return -1
	}
	return i
}

// chooseTime finds the column of times. A guess must be proved by the data.
func chooseTime(head []string, data [][]string, asked string) (int, error) {
	if asked != "" {
		return named(head, asked, "time")
	}
	for _, name := range timeNames {
		if i := find(head, name); i >= 0 && holdsTimes(data, i, true) {
			return i, nil
		}
	}
	for i := range head {
		if holdsTimes(data, i, false) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("no column looks like times; name one with --time; %s", list(head))
}

// chooseValue finds the column of numbers.
func chooseValue(head []string, data [][]string, asked string, time, series int) (int, error) {
	if asked != "" {
		return named(head, asked, "value")
	}
	for _, name := range valueNames {
		if i := find(head, name); i >= 0 && i != time {
			return i, nil
		}
	}
	for i := range head {
		if i != time && i != series && holdsNumbers(data, i) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("no column looks like numbers; name one with --value; %s", list(head))
}

// find returns the index of a column by its name, or by its number; -1 if there
// is none.
func find(head []string, name string) int {
	same := func(h string) bool { return strings.EqualFold(strings.TrimSpace(h), strings.TrimSpace(name)) }
	if i := slices.IndexFunc(head, same); i >= 0 {
		return i
	}
	if n, err := strconv.Atoi(name); err == nil && n >= 1 && n <= len(head) {
		return n - 1
	}
	return -1
}

// named is find with an error that shows what there is.
func named(head []string, name, role string) (int, error) {
	if i := find(head, name); i >= 0 {
		return i, nil
	}
	return 0, fmt.Errorf("no column %q for --%s; %s", name, role, list(head))
}

// list names the columns of a file.
func list(head []string) string {
	var names []string
	for _, h := range head[:min(len(head), maxListed)] {
		names = append(names, quote(h))
	}
	text := "the columns are " + strings.Join(names, ", ")
	if len(head) > maxListed {
		text += fmt.Sprintf(" and %d more", len(head)-maxListed)
	}
	return text
}

// holdsTimes tells whether a column holds times. numeric allows counts since
// 1970, which any number could be.
func holdsTimes(data [][]string, column int, numeric bool) bool {
	var times timeParser
	return holds(data, column, func(f string) bool {
		_, isNumber := parseValue(f)
		_, err := times.parse(f)
		return err == nil && (numeric || isNumber != nil)
	})
}

// holdsNumbers is the same for numbers.
func holdsNumbers(data [][]string, column int) bool {
	return holds(data, column, func(f string) bool {
		_, err := parseValue(f)
		return err == nil
	})
}

// holds tells whether most fields that are not empty fit; a few may be spoilt.
// Without data every column will do, as no row can suffer from it.
func holds(data [][]string, column int, fits func(string) bool) bool {
	if len(data) == 0 {
		return true
	}
	good, bad := 0, 0
	for _, fields := range data {
		if column >= len(fields) || fields[column] == "" {
			continue
		}
		if fits(fields[column]) {
			good++
		} else {
			bad++
		}
	}
	return good > bad
}

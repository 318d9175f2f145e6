package feed

import (
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

// readRows returns every row, and the line numbers of those that are bad.
func readRows(t testing.TB, text string) (good [][]string, bad []int) {
	t.Helper()
	r, err := newRows(strings.NewReader(text))
	if err != nil {
		return nil, nil
	}
	last := 0
	for {
		row, err := r.next()
		if errors.Is(err, io.EOF) {
			return good, bad
		}
		var one *rowError
		if err != nil && !errors.As(err, &one) {
			return good, bad // packed badly
		}
		if row.line <= last {
			t.Fatalf("%q: line %d after line %d", text, row.line, last)
		}
		if last = row.line; err != nil {
			bad = append(bad, row.line)
		} else {
			good = append(good, row.fields)
		}
	}
}

func TestAQuoteLeftOpenCostsOneLine(t *testing.T) {
	t.Parallel()
	good, bad := readRows(t, "a,b\n\"open,1\nc,2\n\"fine\",3\n\"x\"y,4\nd,5\n")
	want := [][]string{{"a", "b"}, {"c", "2"}, {"fine", "3"}, {"d", "5"}}
	if !slices.EqualFunc(good, want, slices.Equal) || !slices.Equal(bad, []int{2, 5}) {
		t.Errorf("rows %q, bad lines %v", good, bad)
	}
	many := "a,b\n\"" + strings.Repeat("x,1\n", 500)
	if good, bad := readRows(t, many); len(good) != 500 || !slices.Equal(bad, []int{2}) {
		t.Errorf("%d rows, bad lines %v", len(good), bad)
	}
}

// FuzzRows holds the reader against the general one wherever that accepts the
// input: then both must see the same fields.
func FuzzRows(f *testing.F) {
	for _, seed := range []string{
		"a,b\n1,2\n", "a;b\r\n\"x;\"\"y\"\"\";2\r\n", "\"a\nb\",c\n", "\"open\na,b\n", "\ufeffa\tb\n\n1\t2", "\x1f\x8b", "a,b\n\"x\"y\n", ",\n,",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		good, bad := readRows(t, text)
		if strings.HasPrefix(text, "\x1f\x8b") || strings.HasPrefix(text, "\ufeff") || strings.ContainsAny(text, " \r;|\t\v\f\u0085\u00a0") {
			return // treated in ways that the general reader has not
		}
		for _, r := range text {
			if r > 0x7f {
				return
			}
		}
		general := csv.NewReader(strings.NewReader(text))
		general.FieldsPerRecord = -1
		want, err := general.ReadAll()
		if err != nil || len(want) == 0 || strings.Count(text, "\n") > maxQuotedLines {
			return
		}
		if !slices.EqualFunc(good, want, slices.Equal) || len(bad) > 0 {
			t.Fatalf("%q: %q and bad lines %v, the general reader %q", text, good, bad, want)
		}
	})
}

func FuzzTimes(f *testing.F) {
	for _, seed := range []string{"2016/01/01 00:30:04.91", "2014-07-01 00:00:00", "2014-07-01T00:00:00+02:00", "1404172800", "1404172800.25", "1404172800000", "-1e300", "1e10", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var fresh, used timeParser
		used.last = len(layouts) - 1
		a, err1 := fresh.parse(text)
		b, err2 := used.parse(text)
		if !a.Equal(b) || (err1 == nil) != (err2 == nil) {
			t.Fatalf("%q is %v, %v or %v, %v, depending on what came before", text, a, err1, b, err2)
		}
	})
}

func TestTimes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"2016/01/01 00:30:04.91":    "2016-01-01T00:30:04.91Z",
		"2014-07-01 00:30:00":       "2014-07-01T00:30:00Z",
		"2014-07-01T00:30:00":       "2014-07-01T00:30:00Z",
		"2014-07-01T00:30:00+02:00": "2014-06-30T22:30:00Z",
		"2014-07-01 00:30:00+02:00": "2014-06-30T22:30:00Z",
		"2014-07-01 00:30:00 -0100": "2014-07-01T01:30:00Z",
		"2014-07-01":                "2014-07-01T00:00:00Z",
		"1404172800":                "2014-07-01T00:00:00Z",
		"1404172800.25":             "2014-07-01T00:00:00.25Z",
		"1404172800123":             "2014-07-01T00:00:00.123Z",
		"0":                         "1970-01-01T00:00:00Z",
	} {
		var p timeParser
		if got, err := p.parse(text); err != nil || got.Format("2006-01-02T15:04:05.999999999Z07:00") != want {
			t.Errorf("%q is %v, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "yesterday", "2014-13-01", "01/07/2014", "1e300", "99999999999999999", "NaN"} {
		var p timeParser
		if got, err := p.parse(text); err == nil {
			t.Errorf("%q is %v, want an error", text, got)
		}
	}
}

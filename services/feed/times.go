package feed

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// exampleTime is any instant that a record may carry.
var exampleTime = time.Unix(0, 0)

// layouts are the written forms of time that are understood; without a zone they
// are UTC. A fraction of the second may follow the seconds in each (package time
// accepts it unasked).
var layouts = []string{
	time.RFC3339,
	"2006-01-02 15:04:05",
	"2006-01-02T15:04:05",
	"2006/01/02 15:04:05",
	"2006-01-02 15:04:05Z07:00",
	"2006-01-02 15:04:05 -0700",
	"2006-01-02 15:04",
	"2006-01-02T15:04",
	"2006/01/02 15:04",
	"2006-01-02",
	"2006/01/02",
}

// timeParser reads times; the zero value is ready. It remembers the layout that
// fitted last, as a file seldom mixes them.
type timeParser struct{ last int }

// parse reads one of layouts, or a count since 1970 of seconds or, when it is
// too large for those, milliseconds.
func (p *timeParser) parse(text string) (time.Time, error) {
	if n, err := parseValue(text); err == nil {
		return unixTime(text, n)
	}
	if t, err := time.Parse(layouts[p.last], text); err == nil {
		return t.UTC(), nil
	}
	for i, layout := range layouts {
		if t, err := time.Parse(layout, text); err == nil {
			p.last = i
			return t.UTC(), nil
		}
	}
	return time.Time{}, &rowError{fmt.Sprintf("want a time such as 2006-01-02 15:04:05 or 2006-01-02T15:04:05Z, got %s", quote(text))}
}

const (
	// Beyond about the years -1200 and 5100 a count is not of seconds.
	maxSeconds = 1e11
	maxMillis  = maxSeconds * 1000
)

// unixTime tells seconds and milliseconds apart by their size.
func unixTime(text string, n float64) (time.Time, error) {
	if whole, err := strconv.ParseInt(text, 10, 64); err == nil { // exact
		switch {
		case math.Abs(n) < maxSeconds:
			return time.Unix(whole, 0).UTC(), nil
		case math.Abs(n) < maxMillis:
			return time.UnixMilli(whole).UTC(), nil
		}
	} else if math.Abs(n) < maxSeconds { // a fraction: microseconds are what a float64 carries
		return time.UnixMicro(int64(math.Round(n * 1e6))).UTC(), nil
	} else if math.Abs(n) < maxMillis {
		return time.UnixMicro(int64(math.Round(n * 1e3))).UTC(), nil
	}
	return time.Time{}, &rowError{fmt.Sprintf("want seconds or milliseconds since 1970, got %s", quote(text))}
}

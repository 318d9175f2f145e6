package store

import (
	"errors"
	"fmt"
	"math"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxName bounds the octets of a series name and of a row's id.
const MaxName = 200

// The instants a row may have: 1678 to 2261 in UTC, so that every window that
// contains one can be written as int64 Unix nanoseconds.
var (
	minTime = time.Date(1678, 1, 1, 0, 0, 0, 0, time.UTC)
	endTime = time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC)
)

// ErrRecord is the class of every error of Validate: the record can never be
// stored, so trying again is useless.
var ErrRecord = errors.New("bad record")

// Validate tells the first bound the record breaks, in words that say what to do.
// Every engine refuses what Validate refuses.
func (r Record) Validate() error {
	if err := validName("series", r.Series); err != nil {
		return err
	}
	for _, c := range r.Series {
		if unicode.IsControl(c) {
			return fmt.Errorf("%w: series %q: has a control character; leave it out", ErrRecord, r.Series)
		}
	}
	if err := validName("id", r.ID); err != nil {
		return err
	}
	if r.Time.Before(minTime) || !r.Time.Before(endTime) {
		return fmt.Errorf("%w: time %s: outside the years 1678 to 2261", ErrRecord, r.Time.UTC().Format(time.RFC3339))
	}
	if math.IsNaN(r.Value) || math.IsInf(r.Value, 0) {
		return fmt.Errorf("%w: value %v: give a finite number", ErrRecord, r.Value)
	}
	if r.Rev < 0 {
		return fmt.Errorf("%w: rev %d: give 0 or more", ErrRecord, r.Rev)
	}
	return nil
}

func validName(what, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: %s: is empty; give 1 to %d octets", ErrRecord, what, MaxName)
	case len(name) > MaxName:
		return fmt.Errorf("%w: %s: has %d octets; give 1 to %d", ErrRecord, what, len(name), MaxName)
	case !utf8.ValidString(name):
		return fmt.Errorf("%w: %s %q: is not UTF-8", ErrRecord, what, name)
	}
	return nil
}

// String returns the word used on the wire, such as "inserted".
func (o Outcome) String() string {
	switch o {
	case Inserted:
		return "inserted"
	case Duplicate:
		return "duplicate"
	case Revised:
		return "revised"
	case Conflict:
		return "conflict"
	}
	return fmt.Sprintf("outcome-%d", uint8(o))
}

// Length returns how long the window is, and 0 for a word that is no window.
func (w Window) Length() time.Duration {
	switch w {
	case TenSeconds:
		return 10 * time.Second
	case Minute:
		return time.Minute
	case Hour:
		return time.Hour
	case Day:
		return 24 * time.Hour
	}
	return 0
}

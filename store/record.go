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

// FieldError is what Validate returns: what is wrong with which field ("series",
// "id", "time", "value", "rev"), short, printable and fit to be shown to strangers.
type FieldError struct{ Field, Reason string }

// Error names the field and the reason.
func (e *FieldError) Error() string { return fmt.Sprintf("%v: %s: %s", ErrRecord, e.Field, e.Reason) }

// Unwrap makes it an ErrRecord.
func (e *FieldError) Unwrap() error { return ErrRecord }

// Validate tells the first bound the record breaks; the error is a *FieldError.
// Every engine refuses what Validate refuses.
func (r Record) Validate() error {
	if err := validName("series", r.Series); err != nil {
		return err
	}
	if err := validName("id", r.ID); err != nil {
		return err
	}
	switch {
	case r.Time.Before(minTime), !r.Time.Before(endTime):
		return &FieldError{"time", "outside of the years 1678 to 2261"}
	case math.IsNaN(r.Value), math.IsInf(r.Value, 0):
		return &FieldError{"value", "want a finite number"}
	case r.Rev < 0:
		return &FieldError{"rev", "want an integer of 0 or more"}
	}
	return nil
}

func validName(field, name string) error {
	switch {
	case name == "":
		return &FieldError{field, "empty"}
	case len(name) > MaxName:
		return &FieldError{field, fmt.Sprintf("%d octets long, the limit is %d", len(name), MaxName)}
	case !utf8.ValidString(name):
		return &FieldError{field, "not UTF-8"}
	}
	for _, c := range name {
		if unicode.IsControl(c) {
			return &FieldError{field, fmt.Sprintf("holds the control character %U", c)}
		}
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

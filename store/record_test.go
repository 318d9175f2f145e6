package store_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/store"
)

func TestValidate(t *testing.T) {
	t.Parallel()
	good := store.Record{Series: "s", ID: "i", Time: time.Unix(0, 0), Value: 1}
	with := func(change func(*store.Record)) store.Record {
		r := good
		change(&r)
		return r
	}
	year := func(y int) time.Time { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC) }
	for name, test := range map[string]struct {
		record store.Record
		field  string // "" means good
	}{
		"good":               {good, ""},
		"longest names":      {with(func(r *store.Record) { r.Series = strings.Repeat("s", 200); r.ID = strings.Repeat("i", 200) }), ""},
		"no series":          {with(func(r *store.Record) { r.Series = "" }), "series"},
		"long series":        {with(func(r *store.Record) { r.Series = strings.Repeat("s", 201) }), "series"},
		"control in series":  {with(func(r *store.Record) { r.Series = "a\tb" }), "series"},
		"series is no text":  {with(func(r *store.Record) { r.Series = "\xff" }), "series"},
		"no id":              {with(func(r *store.Record) { r.ID = "" }), "id"},
		"long id":            {with(func(r *store.Record) { r.ID = strings.Repeat("ä", 101) }), "id"},
		"control in id":      {with(func(r *store.Record) { r.ID = "a\nb" }), "id"},
		"id is no text":      {with(func(r *store.Record) { r.ID = "\xc3" }), "id"},
		"first instant":      {with(func(r *store.Record) { r.Time = year(1678) }), ""},
		"before the first":   {with(func(r *store.Record) { r.Time = year(1678).Add(-1) }), "time"},
		"last instant":       {with(func(r *store.Record) { r.Time = year(2262).Add(-1) }), ""},
		"after the last":     {with(func(r *store.Record) { r.Time = year(2262) }), "time"},
		"zero time":          {with(func(r *store.Record) { r.Time = time.Time{} }), "time"},
		"not a number":       {with(func(r *store.Record) { r.Value = math.NaN() }), "value"},
		"infinity":           {with(func(r *store.Record) { r.Value = math.Inf(-1) }), "value"},
		"greatest value":     {with(func(r *store.Record) { r.Value = math.MaxFloat64 }), ""},
		"negative rev":       {with(func(r *store.Record) { r.Rev = -1 }), "rev"},
		"greatest rev":       {with(func(r *store.Record) { r.Rev = math.MaxInt64 }), ""},
		"zone of the sender": {with(func(r *store.Record) { r.Time = time.Unix(0, 0).In(time.FixedZone("x", 3600)) }), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := test.record.Validate()
			switch {
			case test.field == "" && err != nil:
				t.Errorf("%v, want none", err)
			case test.field != "" && !errors.Is(err, store.ErrRecord):
				t.Errorf("%v, want %v", err, store.ErrRecord)
			case test.field != "" && !strings.HasPrefix(err.Error(), "bad record: "+test.field+" ") &&
				!strings.HasPrefix(err.Error(), "bad record: "+test.field+":"):
				t.Errorf("%v does not name the field %s", err, test.field)
			}
		})
	}
}

func TestWindows(t *testing.T) {
	t.Parallel()
	for i, w := range store.Windows {
		if w.Length() <= 0 {
			t.Errorf("%s has no length", w)
		}
		if i > 0 && w.Length()%store.Windows[i-1].Length() != 0 {
			t.Errorf("%s is not made of whole windows of %s", w, store.Windows[i-1])
		}
	}
	if l := store.Window("week").Length(); l != 0 {
		t.Errorf("week lasts %v, want 0", l)
	}
}

func TestOutcomeWords(t *testing.T) {
	t.Parallel()
	want := map[store.Outcome]string{store.Inserted: "inserted", store.Duplicate: "duplicate", store.Revised: "revised", store.Conflict: "conflict", 0: "outcome-0"}
	for o, word := range want {
		if o.String() != word {
			t.Errorf("%d is %q, want %q", o, o, word)
		}
	}
}

package record

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/mdmesh/mdmesh/store"
)

func TestParse(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		line string
		want store.Record
	}{
		"plain":           {`{"series":"cpu","time":"2026-11-21T08:00:00Z","value":1.5}`, store.Record{Series: "cpu", Time: at, Value: 1.5}},
		"every field":     {`{"id":"a-1","rev":7,"series":"cpu","time":"2026-11-21T08:00:00Z","value":-2e3}`, store.Record{Series: "cpu", ID: "a-1", Time: at, Value: -2000, Rev: 7}},
		"white space":     {" \t{ \"series\" : \"cpu\" , \"time\" : \"2026-11-21T08:00:00Z\" , \"value\" : 0 } \r", store.Record{Series: "cpu", Time: at}},
		"zone":            {`{"series":"cpu","time":"2026-11-21T09:30:00+01:30","value":0}`, store.Record{Series: "cpu", Time: at}},
		"nanoseconds":     {`{"series":"cpu","time":"2026-11-21T08:00:00.123456789Z","value":0}`, store.Record{Series: "cpu", Time: at.Add(123456789)}},
		"lower-case time": {`{"series":"cpu","time":"2026-11-21t08:00:00z","value":0}`, store.Record{Series: "cpu", Time: at}},
		"escapes":         {`{"series":"a\"\\\/\u00e9\ud83d\ude00","time":"2026-11-21T08:00:00Z","value":0}`, store.Record{Series: "a\"\\/é😀", Time: at}},
		"plain UTF-8":     {`{"series":"Größe","time":"2026-11-21T08:00:00Z","value":0}`, store.Record{Series: "Größe", Time: at}},
		"escaped name":    {`{"s\u0065ries":"cpu","time":"2026-11-21T08:00:00Z","value":0}`, store.Record{Series: "cpu", Time: at}},
		"tiny value":      {`{"series":"cpu","time":"2026-11-21T08:00:00Z","value":1e-400}`, store.Record{Series: "cpu", Time: at}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Parse([]byte(tc.line))
			if err != nil || got != tc.want {
				t.Fatalf("Parse(%s) = %+v, %v; want %+v", tc.line, got, err, tc.want)
			}
		})
	}
}

func TestParseRefusesAndSaysWhy(t *testing.T) {
	t.Parallel()
	const head = `{"series":"cpu","time":"2026-11-21T08:00:00Z",`
	tests := map[string]struct{ line, field, text string }{
		"empty":             {``, "", "got nothing"},
		"array":             {`[1]`, "", "got an array"},
		"garbage":           {"\x16\x03\x01", "", "one JSON object per line"},
		"byte order mark":   {"\ufeff{}", "", "byte order mark"},
		"nothing in it":     {`{}`, "", `missing fields "series", "time", "value"`},
		"no value":          {head[:len(head)-1] + `}`, "", `missing field "value"`},
		"unknown field":     {head + `"value":1,"colour":"red"}`, "colour", "unknown; the fields are"},
		"wrong case":        {`{"Series":"cpu"}`, "Series", "unknown"},
		"nameless field":    {`{"":1}`, "", "field without a name"},
		"long field":        {`{"` + strings.Repeat("é", 500) + `":1}`, strings.Repeat("é", 20) + "...", "unknown"},
		"twice":             {head + `"value":1,"value":1}`, "value", "given twice"},
		"not a number":      {head + `"value":NaN}`, "value", `want a finite number, got "NaN"`},
		"minus infinity":    {head + `"value":-Infinity}`, "value", `got "-Infinity"`},
		"too large":         {head + `"value":1e400}`, "value", "too large"},
		"number as text":    {head + `"value":"1"}`, "value", "got a text"},
		"null value":        {head + `"value":null}`, "value", "got null"},
		"leading zero":      {head + `"value":01}`, "value", "malformed"},
		"no digits":         {head + `"value":1.}`, "value", "malformed"},
		"plus":              {head + `"value":+1}`, "value", `got "+1"`},
		"hex":               {head + `"value":0x1F}`, "", "malformed JSON"},
		"object value":      {head + `"value":{}}`, "value", "got an object"},
		"series a number":   {`{"series":7}`, "series", "want a text in double quotes, got a number"},
		"series empty":      {`{"series":"","time":"2026-11-21T08:00:00Z","value":1}`, "series", "empty"},
		"series long":       {`{"series":"` + strings.Repeat("x", 201) + `","time":"2026-11-21T08:00:00Z","value":1}`, "series", "201 octets long"},
		"series control":    {`{"series":"a\u0007","time":"2026-11-21T08:00:00Z","value":1}`, "series", "control character U+0007"},
		"series raw tab":    {"{\"series\":\"a\tb\"}", "series", "must be escaped"},
		"series no UTF-8":   {"{\"series\":\"a\xff\"}", "series", "not UTF-8"},
		"no UTF-8, escaped": {"{\"series\":\"\\n\xff\"}", "series", "not UTF-8"},
		"half a surrogate":  {`{"series":"\ud83d"}`, "series", "malformed escape"},
		"bad hex":           {"{\"series\":\"\\u001\x10\"}", "series", "malformed escape"},
		"unknown escape":    {`{"series":"\x41"}`, "series", "malformed escape"},
		"id null":           {head + `"value":1,"id":null}`, "id", "got null"},
		"id empty":          {head + `"value":1,"id":""}`, "id", "leave it out"},
		"id a number":       {head + `"value":1,"id":5}`, "id", "got a number"},
		"time a number":     {`{"time":1700000000}`, "time", "got a number"},
		"time without zone": {`{"time":"2026-11-21T08:00:00"}`, "time", "want RFC 3339"},
		"time nonsense":     {`{"time":"yesterday"}`, "time", `got "yesterday"`},
		"time out of range": {`{"series":"cpu","time":"0001-01-01T00:00:00Z","value":1}`, "time", "1678"},
		"rev negative":      {head + `"value":1,"rev":-1}`, "rev", "0 or more"},
		"rev fraction":      {head + `"value":1,"rev":1.0}`, "rev", "want an integer"},
		"rev huge":          {head + `"value":1,"rev":9223372036854775808}`, "rev", "2^63-1"},
		"rev text":          {head + `"value":1,"rev":"1"}`, "rev", "got a text"},
		"cut short":         {head + `"value":1`, "", "the end of the line"},
		"cut in text":       {`{"series":"cp`, "series", "closing quote"},
		"cut in name":       {`{"seri`, "", "malformed field name"},
		"no colon":          {`{"series" "cpu"}`, "", `":" after`},
		"no comma":          {head + `"value":1 "rev":1}`, "", `"," or "}"`},
		"comma at end":      {head + `"value":1,}`, "", "field name in double quotes"},
		"two objects":       {head + `"value":1}{}`, "", "one object per line"},
		"single quotes":     {`{'series':'cpu'}`, "", "double quotes"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse([]byte(tc.line))
			var bad *Error
			if !errors.As(err, &bad) {
				t.Fatalf("Parse(%s) = %v, want an *Error", tc.line, err)
			}
			if bad.Field != tc.field || !strings.Contains(bad.Reason, tc.text) {
				t.Fatalf("Parse(%s): field %q, reason %q; want field %q, reason with %q", tc.line, bad.Field, bad.Reason, tc.field, tc.text)
			}
		})
	}
}

func TestAppendWritesWhatOthersRead(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("there", 3600)
	r := store.Record{Series: "a \"b\"\\<é>", ID: "id", Time: time.Date(2026, 11, 21, 9, 0, 0, 500, zone), Value: 0.1, Rev: 3}
	line := Append(nil, r)
	var m map[string]any
	if err := json.Unmarshal(line, &m); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	want := map[string]any{"series": r.Series, "id": "id", "time": "2026-11-21T08:00:00.0000005Z", "value": 0.1, "rev": 3.0}
	for k, v := range want {
		if m[k] != v {
			t.Errorf("%s = %v, want %v", k, m[k], v)
		}
	}
	if got := string(Append(nil, store.Record{Series: "s", Time: time.Unix(0, 0), Value: 1e6})); got != `{"series":"s","time":"1970-01-01T00:00:00Z","value":1000000}` {
		t.Errorf("short form: %s", got)
	}
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		answer Answer
		line   string
	}{
		"ok":       {Answer{OK: true}, `{"ok": true}`},
		"conflict": {Answer{Error: "conflict"}, `{"ok": false, "error": "conflict"}`},
		"quotes":   {Answer{Error: "field \"value\": \n"}, `{"ok": false, "error": "field \"value\": \u000a"}`},
		"closing":  {Answer{Error: "full", Closing: true}, `{"ok": false, "error": "full", "closing": true}`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			line := tc.answer.Append(nil)
			if string(line) != tc.line+"\n" {
				t.Errorf("Append = %q, want %q", line, tc.line)
			}
			if got, err := ParseAnswer(line); err != nil || got != tc.answer {
				t.Errorf("ParseAnswer = %+v, %v; want %+v", got, err, tc.answer)
			}
		})
	}
	if got, err := ParseAnswer([]byte(`{"rows":1,"ok":true}`)); err != nil || !got.OK {
		t.Errorf("a key of later versions: %+v, %v", got, err)
	}
	for _, line := range []string{"", "true", `{"ok":1}`, `{"error":"x"}`, `HTTP/1.1 400`, `{"ok":true}{}`} {
		if _, err := ParseAnswer([]byte(line)); !errors.Is(err, ErrBadAnswer) {
			t.Errorf("ParseAnswer(%q) = %v, want ErrBadAnswer", line, err)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	good := store.Record{Series: "s", Time: time.Unix(0, 0)}
	tests := map[string]struct {
		spoil func(*store.Record)
		field string
	}{
		"good":        {func(*store.Record) {}, ""},
		"no series":   {func(r *store.Record) { r.Series = "" }, "series"},
		"series":      {func(r *store.Record) { r.Series = "\xff" }, "series"},
		"id":          {func(r *store.Record) { r.ID = strings.Repeat("x", 201) }, "id"},
		"zero time":   {func(r *store.Record) { r.Time = time.Time{} }, "time"},
		"NaN":         {func(r *store.Record) { r.Value = math.NaN() }, "value"},
		"infinite":    {func(r *store.Record) { r.Value = math.Inf(-1) }, "value"},
		"rev":         {func(r *store.Record) { r.Rev = -1 }, "rev"},
		"distant day": {func(r *store.Record) { r.Time = time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC) }, "time"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := good
			tc.spoil(&r)
			err := Check(r)
			var bad *Error
			if tc.field == "" {
				if err != nil {
					t.Fatal(err)
				}
			} else if !errors.As(err, &bad) || bad.Field != tc.field {
				t.Fatalf("Check = %v, want one about %q", err, tc.field)
			}
		})
	}
}

// FuzzParse holds Parse against the general decoder: whatever is accepted is a
// JSON object with the same content, and survives Append and Parse unchanged.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"series":"cpu","time":"2026-11-21T08:00:00Z","value":1.5}`,
		`{"id":"a-1","rev":7,"series":"cp\u0075\ud83d\ude00","time":"2026-11-21t08:00:00.5+02:00","value":-2e-3}`,
		`{"series":"\u00zz`, "{\"series\":\"\xff\"}", `{"value":01}`, `{"value":1e999}`, "", "\ufeff{}", `{"a":[{}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := Parse(line)
		if err != nil {
			var bad *Error
			if !errors.As(err, &bad) {
				t.Fatalf("%q: %T is no *Error", line, err)
			}
			if text := err.Error(); len(text) > 400 || !utf8.ValidString(text) {
				t.Fatalf("%q: error text of %d octets: %q", line, len(text), text)
			}
			return
		}
		var m struct {
			Series string
			ID     string
			Time   time.Time
			Value  float64
			Rev    int64
		}
		// RFC 3339 allows the lower-case letters that the general decoder refuses.
		if err := json.Unmarshal(line, &m); err != nil && !strings.Contains(err.Error(), "parsing time") {
			t.Fatalf("%q: accepted, but %v", line, err)
		} else if err == nil && (m.Series != r.Series || m.ID != r.ID || m.Value != r.Value || m.Rev != r.Rev || !m.Time.Equal(r.Time)) {
			t.Fatalf("%q: read %+v, the general decoder %+v", line, r, m)
		}
		again, err := Parse(Append(nil, r))
		if err != nil || again != r {
			t.Fatalf("%q: %+v came back as %+v, %v", line, r, again, err)
		}
	})
}

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte(`{"ok": true}`))
	f.Add([]byte(`{"ok": false, "error": "conflict", "closing": true}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		a, err := ParseAnswer(line)
		if err != nil {
			return
		}
		if again, err := ParseAnswer(a.Append(nil)); err != nil || !a.OK && again != a || a.OK != again.OK {
			t.Fatalf("%q: %+v came back as %+v, %v", line, a, again, err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	line := []byte(`{"series":"mesh.mdbroker.cpu","id":"host-2026-11-21T08:00:00Z","time":"2026-11-21T08:00:00.123Z","value":12.5}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(line); err != nil {
			b.Fatal(err)
		}
	}
}

package transform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/store"
)

// rows is a store that remembers what it was given.
type rows struct {
	applied  []store.Record
	outcomes []store.Outcome // answered in turn; Inserted when they are used up
	err      error
}

func (r *rows) Apply(_ context.Context, records []store.Record) ([]store.Outcome, error) {
	if r.err != nil {
		return nil, r.err
	}
	r.applied = append(r.applied, records...)
	out := make([]store.Outcome, len(records))
	for i := range out {
		out[i] = store.Inserted
		if len(r.outcomes) > 0 {
			out[i], r.outcomes = r.outcomes[0], r.outcomes[1:]
		}
	}
	return out, nil
}

// publisher remembers events, or fails.
type publisher struct {
	events []string
	tries  int
	err    error
}

func (p *publisher) Publish(_ context.Context, topic string, body ...[]byte) error {
	p.tries++
	if p.err == nil {
		p.events = append(p.events, topic+" "+string(body[0]))
	}
	return p.err
}

func newService(t *testing.T, cfg Config) *Service {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func line(id string) string {
	return fmt.Sprintf(`{"series":"cpu","id":%q,"time":"2026-03-01T12:00:00Z","value":1.5,"rev":2}`, id)
}

func TestHandle(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		body     []string // frames
		outcomes []store.Outcome
		want     string
		applied  int
	}{
		"nothing":         {nil, nil, `[]`, 0},
		"only line ends":  {[]string{"\n\r\n\n"}, nil, `[]`, 0},
		"one":             {[]string{line("a")}, nil, `[{"outcome":"inserted"}]`, 1},
		"all outcomes":    {[]string{line("a") + "\n" + line("b") + "\r\n" + line("c") + "\n\n" + line("d") + "\n"}, []store.Outcome{store.Inserted, store.Duplicate, store.Revised, store.Conflict}, `[{"outcome":"inserted"},{"outcome":"duplicate"},{"outcome":"revised"},{"outcome":"conflict"}]`, 4},
		"several frames":  {[]string{line("a")[:20], line("a")[20:] + "\n", line("b")}, nil, `[{"outcome":"inserted"},{"outcome":"inserted"}]`, 2},
		"bad among good":  {[]string{line("a") + "\ngarbage\n" + line("b")}, []store.Outcome{store.Inserted, store.Duplicate}, `[{"outcome":"inserted"},{"error":*},{"outcome":"duplicate"}]`, 2},
		"no id":           {[]string{`{"series":"s","time":"2026-03-01T12:00:00Z","value":1}`}, nil, `[{"error":*}]`, 0},
		"unknown field":   {[]string{`{"series":"s","id":"1","time":"2026-03-01T12:00:00Z","value":1,"unit":"C"}`}, nil, `[{"error":*}]`, 0},
		"no value":        {[]string{`{"series":"s","id":"1","time":"2026-03-01T12:00:00Z"}`}, nil, `[{"error":*}]`, 0},
		"value too great": {[]string{`{"series":"s","id":"1","time":"2026-03-01T12:00:00Z","value":1e999}`}, nil, `[{"error":*}]`, 0},
		"no such time":    {[]string{`{"series":"s","id":"1","time":"2026-02-30T12:00:00Z","value":1}`}, nil, `[{"error":*}]`, 0},
		"time too early":  {[]string{`{"series":"s","id":"1","time":"1600-01-01T00:00:00Z","value":1}`}, nil, `[{"error":*}]`, 0},
		"negative rev":    {[]string{`{"series":"s","id":"1","time":"2026-03-01T12:00:00Z","value":1,"rev":-1}`}, nil, `[{"error":*}]`, 0},
		"broken rev":      {[]string{`{"series":"s","id":"1","time":"2026-03-01T12:00:00Z","value":1,"rev":1.5}`}, nil, `[{"error":*}]`, 0},
		"long series":     {[]string{`{"series":"` + strings.Repeat("s", 201) + `","id":"1","time":"2026-03-01T12:00:00Z","value":1}`}, nil, `[{"error":*}]`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &rows{outcomes: test.outcomes}
			var body [][]byte
			for _, frame := range test.body {
				body = append(body, []byte(frame))
			}
			answer, err := newService(t, Config{Rows: r}).Handle(t.Context(), body)
			if err != nil || len(answer) != 1 {
				t.Fatalf("%q, %v", answer, err)
			}
			if got := withoutErrors(t, answer[0]); got != test.want {
				t.Errorf("%s (%s), want %s", answer[0], got, test.want)
			}
			if len(r.applied) != test.applied {
				t.Errorf("%d records applied, want %d", len(r.applied), test.applied)
			}
		})
	}
}

// withoutErrors replaces every error text, which is for people, by a star.
func withoutErrors(t *testing.T, answer []byte) string {
	t.Helper()
	var items []item
	if err := json.Unmarshal(answer, &items); err != nil {
		t.Fatalf("%s: %v", answer, err)
	}
	parts := []string{}
	for _, i := range items {
		if i.Error != "" {
			parts = append(parts, `{"error":*}`)
		} else {
			parts = append(parts, fmt.Sprintf(`{"outcome":%q}`, i.Outcome))
		}
	}
	return "[" + strings.Join(parts, ",") + "]"
}

func TestHandlePassesTheRecordOn(t *testing.T) {
	t.Parallel()
	r := &rows{}
	if _, err := newService(t, Config{Rows: r}).Handle(t.Context(), [][]byte{[]byte(line("a"))}); err != nil {
		t.Fatal(err)
	}
	want := store.Record{Series: "cpu", ID: "a", Time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Value: 1.5, Rev: 2}
	if len(r.applied) != 1 || r.applied[0] != want {
		t.Errorf("%+v, want %+v", r.applied, want)
	}
}

func TestHandleBounds(t *testing.T) {
	t.Parallel()
	r := &rows{}
	s := newService(t, Config{Rows: r})
	full := []byte(strings.Repeat(line("a")+"\n", MaxRecords))
	if _, err := s.Handle(t.Context(), [][]byte{full}); err != nil || len(r.applied) != MaxRecords {
		t.Fatalf("%d records: %v, %d applied", MaxRecords, err, len(r.applied))
	}
	for name, body := range map[string][]byte{
		"records": append(full, line("b")...),
		"octets":  make([]byte, MaxOctets+1),
	} {
		if _, err := s.Handle(t.Context(), [][]byte{body}); !errors.Is(err, mdp.TooBig) {
			t.Errorf("%s: %v, want %v", name, err, mdp.TooBig)
		}
	}
	if len(r.applied) != MaxRecords {
		t.Error("a refused request was applied")
	}
}

func TestHandleStoreErrors(t *testing.T) {
	t.Parallel()
	r := &rows{err: fmt.Errorf("apply: %w: locked", store.ErrUnavailable)}
	p := &publisher{}
	s := newService(t, Config{Rows: r, Publisher: p})
	_, err := s.Handle(t.Context(), [][]byte{[]byte(line("a"))})
	var e *mdp.Error
	if !errors.As(err, &e) || e.Status != mdp.Busy || e.RetryAfter != retryAfter {
		t.Errorf("unavailable: %#v, want BUSY with advice", err)
	}
	r.err = errors.New("damaged")
	if _, err := s.Handle(t.Context(), [][]byte{[]byte(line("a"))}); !errors.Is(err, r.err) || errors.As(err, &e) {
		t.Errorf("damaged: %v, want it wrapped", err)
	}
	if p.tries != 0 {
		t.Error("a hint was sent though nothing was written")
	}
	if got := s.Stats(); got.Requests != 2 || got.Unavailable != 1 {
		t.Errorf("%+v", got)
	}
}

// TestStoreFailuresAreLogged once per outage, however many requests meet it.
func TestStoreFailuresAreLogged(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	r := &rows{}
	s := newService(t, Config{Rows: r, Logger: hclog.New(&hclog.LoggerOptions{Output: &text})})
	for _, err := range []error{nil, store.ErrUnavailable, store.ErrUnavailable, nil, nil, errors.New("odd"), nil} {
		r.err = err
		_, _ = s.Handle(t.Context(), [][]byte{[]byte(line("a"))})
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	r.err = context.Canceled // the request was given up
	_, _ = s.Handle(gone, [][]byte{[]byte(line("a"))})
	for words, times := range map[string]int{"store fails": 2, "error=odd": 1, "store answers again": 2, "\n": 4} {
		if got := strings.Count(text.String(), words); got != times {
			t.Errorf("%q occurs %d times, want %d, in:\n%s", words, got, times, &text)
		}
	}
}

// TestRun ends with ctx, or with what the store will never recover from.
func TestRun(t *testing.T) {
	t.Parallel()
	r := &rows{err: store.ErrUnavailable}
	s := newService(t, Config{Rows: r})
	call := func() { _, _ = s.Handle(t.Context(), [][]byte{[]byte(line("a"))}) }
	call()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ended); err != nil {
		t.Errorf("Run = %v, want nil at the end of its context", err)
	}
	r.err = fmt.Errorf("page 7: %w", store.ErrUnusable)
	call()
	call()
	if err := s.Run(t.Context()); !errors.Is(err, r.err) {
		t.Errorf("Run = %v, want %v", err, r.err)
	}
}

func TestHints(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{}
		r := &rows{}
		s := newService(t, Config{Rows: r, Publisher: p})
		call := func(outcomes ...store.Outcome) {
			t.Helper()
			r.outcomes = outcomes
			body := line("a") + "\n" + strings.Replace(line("b"), "cpu", "load", 1) + "\n" + line("c")
			if _, err := s.Handle(t.Context(), [][]byte{[]byte(body)}); err != nil {
				t.Fatal(err)
			}
		}
		call(store.Revised, store.Duplicate, store.Inserted)
		call(store.Duplicate, store.Duplicate, store.Conflict)
		call(store.Inserted, store.Inserted, store.Inserted)
		want := []string{`dirty {"series":["cpu"]}`, `dirty {"series":["cpu","load"]}`}
		if !slices.Equal(p.events, want) {
			t.Errorf("%q, want %q", p.events, want)
		}

		p.err = errors.New("no broker")
		call() // fails, and is answered all the same
		call() // not tried
		time.Sleep(hintPause)
		p.err = nil
		call()
		if got := s.Stats(); got.HintsSent != 3 || got.HintsFailed != 1 || got.HintsSkipped != 1 || p.tries != 4 {
			t.Errorf("%+v after %d tries", got, p.tries)
		}
	})
}

func TestNewWantsRows(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}); err == nil {
		t.Error("no error")
	}
}

// FuzzHandle feeds any body: as many items as lines, each with one of outcome and error.
func FuzzHandle(f *testing.F) {
	f.Add([]byte(line("a") + "\n" + line("b")))
	f.Add([]byte("{}\n[]\n\x00\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := &rows{}
		s, err := New(Config{Rows: r})
		if err != nil {
			t.Fatal(err)
		}
		answer, err := s.Handle(context.Background(), [][]byte{body})
		if err != nil {
			return
		}
		var items []item
		if err := json.Unmarshal(answer[0], &items); err != nil {
			t.Fatal(err)
		}
		good := 0
		for _, i := range items {
			if (i.Outcome == "") == (i.Error == "") {
				t.Fatalf("item %+v", i)
			}
			if i.Error == "" {
				good++
			}
		}
		if good != len(r.applied) {
			t.Fatalf("%d good items for %d applied", good, len(r.applied))
		}
	})
}

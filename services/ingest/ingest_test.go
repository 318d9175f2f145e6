package ingest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/services/ingest/record"
	"github.com/mdmesh/mdmesh/store"
)

func TestEveryLineIsAnsweredInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, l := newTransform(), newPipes()
		s := start(t, Config{Caller: f}, l)
		p := newPeer(t, l.dial(t))
		p.send(line("a", "1", 1, 0) +
			"\r\n   \n" + // blank: no answer
			strings.TrimSuffix(line("a", "2", 2, 0), "\n") + "\r\n" +
			"rubbish\n" +
			line("a", "1", 1, 0) + // again
			line("a", "1", 9, 0) + // other content, no higher rev
			line("a", "1", 9, 1) +
			`{"series":"a","time":"2026-11-21T08:00:00Z","value":NaN}` + "\n" +
			`{"series":"b","time":"2026-11-21T08:00:00Z","value":3}` + "\n")
		p.expect(ok, ok,
			`{"ok": false, "error": "want one JSON object per line, got \"rubbish\""}`,
			ok,
			`{"ok": false, "error": "conflict"}`,
			ok,
			`{"ok": false, "error": "field \"value\": want a finite number, got \"NaN\""}`,
			ok)
		if got := f.rows[key{"a", "1"}].Value; got != 9 || f.rowCount() != 3 || !f.services["transform"] {
			t.Errorf("rows %+v, services %v", f.rows, f.services)
		}
		totals := s.State().Totals
		for name, want := range map[string]uint64{"lines": 8, "lines_malformed": 2, "records_inserted": 3, "records_duplicate": 1, "records_conflict": 1, "records_revised": 1} {
			if totals[name] != want {
				t.Errorf("%s = %d, want %d", name, totals[name], want)
			}
		}
		_ = p.conn.Close()
		synctest.Wait()
		if st := s.State(); st.Connections != 0 || st.Unanswered != 0 || st.HeldBytes != 0 || st.Calls != 0 {
			t.Errorf("state after all is done: %+v", st)
		}
	})
}

// TestFailedCallsAreMadeAgainWithTheSameIDs provokes every failure the mesh
// knows, before and after the effect, and counts effects by id.
func TestFailedCallsAreMadeAgainWithTheSameIDs(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	failWith := func(s mdp.Status) func(context.Context) error {
		return func(context.Context) error { return mdp.Errorf(s, "provoked") }
	}
	tests := map[string]func(context.Context) error{
		"hangs":        hang,
		"busy":         func(context.Context) error { return &mdp.Error{Status: mdp.Busy, RetryAfter: 3 * time.Second} },
		"worker lost":  failWith(mdp.WorkerLost),
		"no worker":    failWith(mdp.NoWorker),
		"broker lost":  failWith(mdp.BrokerLost),
		"peer lost":    failWith(mdp.PeerLost),
		"expired":      failWith(mdp.Expired),
		"no space":     failWith(mdp.NoSpace),
		"app error":    failWith(mdp.AppError),
		"other errors": func(context.Context) error { return errors.New("provoked") },
	}
	for name, fail := range tests {
		for _, when := range []string{"before", "after"} {
			t.Run(name+"/"+when, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					f, l := newTransform(), newPipes()
					hook := func(ctx context.Context, call int, _ []store.Record) error {
						if call <= 3 {
							return fail(ctx)
						}
						return nil
					}
					if f.before = hook; when == "after" {
						f.before, f.after = nil, hook
					}
					start(t, Config{Caller: f, Batches: 1}, l)
					p := newPeer(t, l.dial(t))
					begin := time.Now()
					p.send(`{"series":"a","time":"2026-11-21T08:00:00Z","value":3}` + "\n")
					p.expect(ok)
					if f.inserted != 1 || len(f.calls) != 4 {
						t.Errorf("%d rows after %d calls, want 1 after 4", f.inserted, len(f.calls))
					}
					for _, c := range f.calls {
						if c[0] != f.calls[0][0] {
							t.Errorf("tries differ: %+v and %+v", c[0], f.calls[0][0])
						}
					}
					if d := time.Since(begin); name == "busy" && d < 9*time.Second {
						t.Errorf("did not wait as long as asked: %v", d)
					}
				})
			})
		}
	}
}

func TestRepliesThatDoNotFitAreNotBelieved(t *testing.T) {
	t.Parallel()
	for name, reply := range map[string]string{
		"empty": "", "no JSON": "{", "object": "{}", "too few": "[]", "too many": `[{"outcome":"inserted"},{"outcome":"inserted"}]`,
		"unknown outcome": `[{"outcome":"perhaps"}]`, "null": "null", "nothing said": `[{}]`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f, l := newTransform(), newPipes()
				f.reply = func(call int, good []byte) []byte {
					if call == 1 {
						return []byte(reply)
					}
					return good
				}
				start(t, Config{Caller: f}, l)
				p := newPeer(t, l.dial(t))
				p.send(line("a", "1", 1, 0))
				p.expect(ok)
				if len(f.calls) != 2 || f.inserted != 1 {
					t.Errorf("%d calls, %d rows", len(f.calls), f.inserted)
				}
			})
		})
	}
}

// TestRevisionsStayInOrder loses the replies of executed calls while several
// revisions of one record are under way: none may be called a conflict.
func TestRevisionsStayInOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, l := newTransform(), newPipes()
		f.after = func(_ context.Context, call int, _ []store.Record) error {
			if call%2 == 1 {
				return mdp.WorkerLost
			}
			return nil
		}
		start(t, Config{Caller: f}, l)
		p := newPeer(t, l.dial(t))
		const revisions = 20
		var text strings.Builder
		for rev := range int64(revisions) {
			text.WriteString(line("a", "1", float64(rev), rev))
			text.WriteString(line("a", fmt.Sprint("other-", rev), 1, 0))
		}
		p.send(text.String())
		for range 2 * revisions {
			p.expect(ok)
		}
		if got := f.rows[key{"a", "1"}]; got.Rev != revisions-1 || got.Value != revisions-1 {
			t.Errorf("the row is %+v", got)
		}
	})
}

func TestExactlyOnceUnderRandomFailures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, l := newTransform(), newPipes()
		var mu sync.Mutex
		dice := rand.New(rand.NewPCG(1, 2))
		roll := func(ctx context.Context, _ int, _ []store.Record) error {
			mu.Lock()
			n := dice.IntN(10)
			mu.Unlock()
			switch n {
			case 0:
				return mdp.WorkerLost
			case 1:
				<-ctx.Done()
				return mdp.Expired
			case 2:
				return &mdp.Error{Status: mdp.Busy, RetryAfter: 10 * time.Millisecond}
			}
			return nil
		}
		f.before, f.after = roll, roll
		s := start(t, Config{Caller: f, BatchRecords: 20, CallTimeout: time.Second}, l)
		const peers, each = 10, 300
		var all sync.WaitGroup
		for n := range peers {
			p := newPeer(t, l.dial(t))
			all.Go(func() {
				for i := range each {
					p.send(line("s", fmt.Sprintf("%d-%d", n, i), float64(i), 0))
				}
			})
			all.Go(func() {
				for i := range each {
					if got := p.answer(); got != ok {
						t.Errorf("peer %d, answer %d: %s", n, i, got)
						return
					}
				}
			})
		}
		all.Wait()
		if f.inserted != peers*each || f.rowCount() != peers*each {
			t.Errorf("%d rows inserted, %d there; want %d", f.inserted, f.rowCount(), peers*each)
		}
		if s.State().Totals["calls_failed"] == 0 {
			t.Error("no call failed: the test proves nothing")
		}
	})
}

func TestBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, l := newTransform(), newPipes()
		gate := make(chan struct{})
		f.before = func(_ context.Context, call int, _ []store.Record) error {
			if call == 1 {
				<-gate
			}
			return nil
		}
		start(t, Config{Caller: f, CallTimeout: time.Hour}, l)
		p, q := newPeer(t, l.dial(t)), newPeer(t, l.dial(t))

		p.send(line("a", "first", 0, 0)) // leaves at once, as nothing else is under way
		synctest.Wait()
		if got := f.sizes(); !slices.Equal(got, []int{1}) {
			t.Fatalf("calls %v, want one of 1", got)
		}
		for i := range 3 { // wait for company, and from both connections
			p.send(line("a", fmt.Sprint("p", i), 0, 0))
			q.send(line("a", fmt.Sprint("q", i), 0, 0))
		}
		synctest.Wait()
		if got := f.sizes(); len(got) != 1 {
			t.Fatalf("calls %v before the delay has passed", got)
		}
		time.Sleep(5 * time.Millisecond) // fake time
		synctest.Wait()
		if got := f.sizes(); !slices.Equal(got, []int{1, 6}) {
			t.Fatalf("calls %v, want 1 and 6", got)
		}
		for i := range 501 { // a full batch does not wait
			q.send(line("a", fmt.Sprint("r", i), 0, 0))
		}
		synctest.Wait()
		if got := f.sizes(); !slices.Equal(got, []int{1, 6, 500}) {
			t.Fatalf("calls %v, want 1, 6 and 500", got)
		}
		for range 3 {
			q.expect(ok) // although the first call of all still hangs
		}
		close(gate)
		p.expect(ok, ok, ok, ok)
	})
}

func TestARefusedRecordHurtsNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, l := newTransform(), newPipes()
		f.before = func(_ context.Context, _ int, records []store.Record) error {
			for _, r := range records {
				if r.Value == 13 {
					return mdp.Errorf(mdp.BadRequest, "unlucky")
				}
			}
			return nil
		}
		start(t, Config{Caller: f}, l)
		p := newPeer(t, l.dial(t))
		var text strings.Builder
		for i := range 40 {
			text.WriteString(line("a", fmt.Sprint(i), float64(i), 0))
		}
		p.send(text.String())
		for i := range 40 {
			if got := p.answer(); (got == ok) != (i != 13) || i == 13 && !strings.Contains(got, "unlucky") {
				t.Errorf("answer %d: %s", i, got)
			}
		}
	})
}

func TestErrorsOfTransformReachTheSender(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, l := newTransform(), newPipes()
		f.reply = func(int, []byte) []byte {
			return []byte(`[{"error":"` + strings.Repeat("é", 10000) + `"}]`)
		}
		start(t, Config{Caller: f}, l)
		p := newPeer(t, l.dial(t))
		p.send(line("a", "1", 1, 0))
		a, err := record.ParseAnswer([]byte(p.answer()))
		if err != nil || a.OK || len(a.Error) > maxErrorText+3 || !strings.HasPrefix(a.Error, "éé") {
			t.Errorf("answer %+v, %v", a, err)
		}
	})
}

func TestNewRefusesNonsense(t *testing.T) {
	t.Parallel()
	f := newTransform()
	for text, cfg := range map[string]Config{
		"no caller":       {},
		"HOST:PORT":       {Caller: f, Listen: "localhost"},
		"--insecure":      {Caller: f, Listen: "0.0.0.0:5570"},
		"use a loopback":  {Caller: f, Listen: ":5570"},
		"not be negative": {Caller: f, MaxBad: -1},
		"hold one line":   {Caller: f, MaxHeld: 10},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("New(%+v) = %v, want an error with %q", cfg, err, text)
		}
	}
	for _, cfg := range []Config{{Caller: f}, {Caller: f, Listen: "tcp://[::1]:0"}, {Caller: f, Listen: "0.0.0.0:0", Insecure: true}} {
		if _, err := New(cfg); err != nil {
			t.Errorf("New(%+v): %v", cfg, err)
		}
	}
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Caller: newTransform()}, nil)
	second, err := New(Config{Caller: newTransform(), Listen: s.addr})
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(t.Context()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("Run = %v, want address in use", err)
	}
}

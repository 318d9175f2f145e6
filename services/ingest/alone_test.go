package ingest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/store"
)

const unlucky = 13

// breakOn fails every call that has an unlucky record.
func breakOn(status mdp.Status) func(context.Context, int, []store.Record) error {
	return func(_ context.Context, _ int, records []store.Record) error {
		for _, r := range records {
			if r.Value == unlucky {
				return mdp.Errorf(status, "provoked")
			}
		}
		return nil
	}
}

// TestARecordThatBreaksTransformHoldsUpNoOtherClient: with more such records than
// there are batches the others are answered as before, the records are found, and
// their client hears of them in the end.
func TestARecordThatBreaksTransformHoldsUpNoOtherClient(t *testing.T) {
	t.Parallel()
	for _, status := range []mdp.Status{mdp.AppError, mdp.Internal, mdp.WorkerLost} {
		t.Run(status.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f, l := newTransform(), newPipes()
				f.before = breakOn(status)
				s := start(t, Config{Caller: f, Batches: 2, BatchRecords: 20}, l)
				p, q := newPeer(t, l.dial(t)), newPeer(t, l.dial(t))
				const lines, every = 100, 10
				var text strings.Builder
				for i := range lines {
					value := float64(100 + i)
					if i%every == 0 {
						value = unlucky
					}
					text.WriteString(line("a", fmt.Sprint(i), value, 0))
				}
				text.WriteString(line("a", "0", 1, 1)) // mends the first of them, once that is answered
				p.send(text.String())
				for i := range 200 {
					q.send(line("b", fmt.Sprint(i), 1, 0))
					q.expect(ok)
					time.Sleep(100 * time.Millisecond) // fake time
				}
				for i := range lines {
					got := p.answer()
					if i%every != 0 && got != ok || i%every == 0 && !strings.Contains(got, `"ok": false, "error": "transform fails on this record`) {
						t.Errorf("answer %d: %s", i, got)
					}
				}
				p.expect(ok)
				if got := f.rows[key{"a", "0"}]; got.Value != 1 || f.rowCount() != lines-lines/every+1+200 {
					t.Errorf("%d rows, the mended one is %+v", f.rowCount(), got)
				}
				if st := s.State(); st.Calls != 0 || st.Unanswered != 0 || len(s.places) != 0 {
					t.Errorf("left: %+v, %d places", st, len(s.places))
				}
			})
		})
	}
}

// TestNoRecordIsRefusedWhileTransformAnswersNobody: when every call fails it is
// not the records' fault, however long it takes.
func TestNoRecordIsRefusedWhileTransformAnswersNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, l := newTransform(), newPipes()
		begin := time.Now()
		f.before = func(context.Context, int, []store.Record) error {
			if time.Since(begin) < time.Hour {
				return mdp.Errorf(mdp.AppError, "provoked")
			}
			return nil
		}
		start(t, Config{Caller: f, BatchRecords: 50}, l)
		p := newPeer(t, l.dial(t))
		const lines = 1000
		var text strings.Builder
		for i := range lines {
			text.WriteString(line("a", fmt.Sprint(i), 0, 0))
			text.WriteString(line("a", fmt.Sprint(i), 1, 1))
		}
		p.send(text.String())
		time.Sleep(time.Hour) // fake time
		for range 2 * lines {
			p.expect(ok)
		}
		if f.inserted != lines {
			t.Errorf("%d rows, want %d", f.inserted, lines)
		}
		for k, r := range f.rows {
			if r.Rev != 1 {
				t.Errorf("%v is %+v", k, r)
			}
		}
	})
}

// TestALoneRecordEndsWithTheServer, unanswered, as all that is under way then.
func TestALoneRecordEndsWithTheServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, l := newTransform(), newPipes()
		f.before = breakOn(mdp.AppError)
		s := start(t, Config{Caller: f}, l)
		p := newPeer(t, l.dial(t))
		p.send(line("a", "1", unlucky, 0) + line("a", "1", 1, 1))
		time.Sleep(time.Minute) // fake time
		if len(s.places) != 1 {
			t.Fatalf("%d records are tried alone, want 1", len(s.places))
		}
		s.end()
		p.expect("")
		if st := s.State(); st.Calls != 0 || st.Totals["records_unanswered"] != 2 {
			t.Errorf("state %+v", st)
		}
	})
}

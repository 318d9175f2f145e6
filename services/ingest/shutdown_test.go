package ingest

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/store"
)

func TestShutdownAnswersWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, l := newTransform(), newPipes()
		f.before = func(ctx context.Context, _ int, _ []store.Record) error {
			time.Sleep(time.Second) // fake time: a slow commit
			return ctx.Err()
		}
		s := start(t, Config{Caller: f, Batches: 1}, l)
		p := newPeer(t, l.dial(t))
		p.send(line("a", "1", 1, 0))
		p.send(line("a", "2", 1, 0))
		p.send(`{"series":"a","ti`)
		synctest.Wait()
		begin := time.Now()
		s.end()
		p.expect(ok, ok, "") // and no word about half a line
		if f.rowCount() != 2 || time.Since(begin) > 3*time.Second {
			t.Errorf("%d rows after %v", f.rowCount(), time.Since(begin))
		}
	})
}

// TestShutdownReachesAReaderThatIsHeldUp ends the server while a reader waits
// for room, so that the order to stop comes between two reads.
func TestShutdownReachesAReaderThatIsHeldUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, l := newTransform(), newPipes()
		f.before = func(ctx context.Context, _ int, _ []store.Record) error {
			time.Sleep(time.Second) // fake time: a slow commit
			return ctx.Err()
		}
		s := start(t, Config{Caller: f, MaxUnanswered: 1}, l)
		p := newPeer(t, l.dial(t))
		p.send(line("a", "1", 1, 0) + line("a", "2", 1, 0))
		synctest.Wait()
		begin := time.Now()
		s.end()
		p.expect(ok, ok, "")
		if d := time.Since(begin); d != 2*time.Second {
			t.Errorf("ended after %v, want the two seconds that two commits take", d)
		}
	})
}

// TestClosingLetsTheClientFinish ends a connection that is still being written
// to: first our direction only, or a reset could overtake the last answers.
func TestClosingLetsTheClientFinish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, l := newTransform(), newPipes()
		ends := make(chan string, 10)
		l.wrap = func(c net.Conn) net.Conn { return halfConn{c, ends} }
		s := start(t, Config{Caller: f, MaxBad: 1}, l)
		p := newPeer(t, l.dial(t))
		p.send("bad\n")
		synctest.Wait()
		for range 50 { // what a client had under way
			p.send(strings.Repeat("x", 1000) + "\n")
		}
		if first := <-ends; first != "half" || len(ends) != 0 {
			t.Errorf("the first end was %q, %d more", first, len(ends))
		}
		time.Sleep(2 * time.Second) // fake time
		if end := <-ends; end != "whole" || s.State().Connections != 0 {
			t.Errorf("then %q", end)
		}
	})
}

// halfConn can end one direction, and tells which end came when.
type halfConn struct {
	net.Conn
	ends chan<- string
}

func (c halfConn) CloseWrite() error { c.ends <- "half"; return nil }

func (c halfConn) Close() error { c.ends <- "whole"; return c.Conn.Close() }

func TestShutdownDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, l := newTransform(), newPipes()
		f.before = func(ctx context.Context, _ int, _ []store.Record) error { <-ctx.Done(); return ctx.Err() }
		s := start(t, Config{Caller: f, MaxUnanswered: 2}, l)
		p := newPeer(t, l.dial(t))
		go func() {
			for i := range 10 {
				p.send(line("a", fmt.Sprint(i), 1, 0))
			}
		}()
		synctest.Wait()
		begin := time.Now()
		s.end()
		if d := time.Since(begin); d != 3*time.Second {
			t.Errorf("ended after %v, want the drain time of 3s", d)
		}
		p.expect("") // never an answer that is not true
		if st := s.State(); st.HeldBytes != 0 || st.Totals["records_unanswered"] != 2 {
			t.Errorf("state %+v", st)
		}
	})
}

package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/store"
)

func TestASenderIsSlowedDownByWhatIsUnanswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, l := newTransform(), newPipes()
		gate := make(chan struct{})
		f.before = func(context.Context, int, []store.Record) error { <-gate; return nil }
		s := start(t, Config{Caller: f, MaxUnanswered: 4, CallTimeout: time.Hour}, l)
		p := newPeer(t, l.dial(t))
		const lines = 50
		sent := 0
		written := make(chan struct{})
		go func() {
			defer close(written)
			for i := range lines {
				p.send(line("a", fmt.Sprint(i), 0, 0))
				sent++
			}
		}()
		synctest.Wait()
		if st := s.State(); st.Unanswered != 4 || sent != 5 {
			t.Errorf("%d unanswered after %d lines, want 4 after 5", st.Unanswered, sent)
		}
		close(gate)
		for range lines {
			p.expect(ok)
		}
		<-written
	})
}

func TestHeldOctetsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, l := newTransform(), newPipes()
		gate := make(chan struct{})
		f.before = func(context.Context, int, []store.Record) error { <-gate; return nil }
		const most = 256 << 10
		s := start(t, Config{Caller: f, MaxHeld: most, CallTimeout: time.Hour}, l)
		const peers, each = 8, 400
		var all sync.WaitGroup
		for n := range peers {
			p := newPeer(t, l.dial(t))
			all.Go(func() {
				for i := range each {
					p.send(line("a", fmt.Sprintf("%d-%d", n, i), 0, 0))
				}
			})
			all.Go(func() {
				for range each {
					p.expect(ok)
				}
			})
		}
		synctest.Wait()
		if st := s.State(); st.HeldBytes > most || st.HeldBytes < most*9/10 {
			t.Errorf("%d octets held, want just below %d", st.HeldBytes, most)
		}
		close(gate)
		all.Wait()
		if f.rowCount() != peers*each {
			t.Errorf("%d rows, want %d", f.rowCount(), peers*each)
		}
	})
}

func TestASlowReaderOfAnswersIsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, l := newTransform(), newPipes()
		s := start(t, Config{Caller: f}, l)
		deaf := l.dial(t)
		if _, err := io.WriteString(deaf, line("a", "1", 1, 0)+line("a", "2", 1, 0)); err != nil {
			t.Fatal(err)
		}
		p := newPeer(t, l.dial(t))
		p.send(line("a", "3", 1, 0))
		p.expect(ok)
		time.Sleep(31 * time.Second) // fake time
		synctest.Wait()
		if st := s.State(); st.Connections != 1 || st.HeldBytes != 0 || st.Totals["connections_unheard"] != 1 {
			t.Errorf("state %+v", st)
		}
		p.send(line("a", "4", 1, 0))
		p.expect(ok)
		if f.rowCount() != 4 {
			t.Errorf("%d rows, want 4", f.rowCount())
		}
	})
}

func TestALineMustBeFinishedInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, l := newTransform(), newPipes()
		s := start(t, Config{Caller: f}, l)
		quiet, p := newPeer(t, l.dial(t)), newPeer(t, l.dial(t))
		p.send(line("a", "1", 1, 0))
		p.expect(ok)
		slow := newPeer(t, l.dial(t))
		go func() {
			for i := range 3 { // each line takes long, and none too long
				text := line("b", fmt.Sprint(i), 1, 0)
				slow.send(text[:30])
				time.Sleep(20 * time.Second) // fake time
				slow.send(text[30:])
			}
		}()
		for _, c := range line("a", "2", 1, 0)[:16] { // one octet at a time is no progress
			p.send(string(c))
			time.Sleep(2 * time.Second) // fake time
		}
		if synctest.Wait(); len(p.answers) != 1 {
			t.Fatal("still waiting for the rest of the line after 32 seconds")
		}
		slow.expect(ok, ok, ok)
		p.expect(`{"ok": false, "error": "line not finished within 30s; closing the connection", "closing": true}`, "")
		if f.rowCount() != 4 || s.State().Totals["connections_too_slow"] != 1 {
			t.Errorf("rows %v", f.rows)
		}
		time.Sleep(24 * time.Hour) // a connection without a line may be quiet for ever
		quiet.send(line("a", "3", 1, 0))
		quiet.expect(ok)
	})
}

func TestNobodyLeftToHear(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, l := newTransform(), newPipes()
		f.before = func(context.Context, int, []store.Record) error { return mdp.NoWorker }
		l.wrap = func(c net.Conn) net.Conn { return resetConn{c} }
		s := start(t, Config{Caller: f}, l)
		p := newPeer(t, l.dial(t))
		p.send(line("a", "1", 1, 0))
		time.Sleep(time.Minute) // fake time
		if st := s.State(); st.Calls != 1 || st.Totals["calls_failed"] < 20 {
			t.Errorf("while the client waits: %+v", st)
		}
		_ = p.conn.Close()
		time.Sleep(time.Minute) // fake time
		if st := s.State(); st.Calls != 0 || st.HeldBytes != 0 || st.Totals["records_abandoned"] != 1 || st.Totals["connections_broken"] != 1 {
			t.Errorf("after the client has gone: %+v", st)
		}
	})
}

// resetConn ends as a connection does whose other end has died.
type resetConn struct{ net.Conn }

func (c resetConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, io.EOF) {
		err = syscall.ECONNRESET
	}
	return n, err
}

package push

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"

	"github.com/mdmesh/mdmesh/store/mem"
)

// inMemory runs a test with fake time and a network in memory.
func inMemory(t *testing.T, c Config, test func(t *testing.T, s *Service, st *mem.Store, network *pipes)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network, st := newPipes(), mem.NewStore()
		c.Store = st
		c.listen = func() (net.Listener, error) { return network, nil }
		s := run(t, c)
		synctest.Wait()
		test(t, s, st, network)
	})
}

func TestHintBringsPointsAtOnce(t *testing.T) {
	inMemory(t, Config{Poll: time.Hour}, func(t *testing.T, s *Service, st *mem.Store, network *pipes) {
		conn, _ := greet(t, "push", network)
		begin := time.Now()
		for n := range 5 {
			st.PutPoints(tenSeconds("a", n, 1))
			s.Hint()
			collect(t, conn, 1)
		}
		if took := time.Since(begin); took > 5*hintSpacing {
			t.Errorf("five hints took %v", took)
		}
	})
}

func TestHintsCoalesce(t *testing.T) {
	inMemory(t, Config{Poll: time.Hour}, func(t *testing.T, s *Service, st *mem.Store, network *pipes) {
		before := s.Stats().Polls
		for range 1000 {
			s.Hint()
		}
		<-time.After(10 * hintSpacing)
		if polls := s.Stats().Polls - before; polls < 1 || polls > 2 {
			t.Errorf("a thousand hints made %d reads", polls)
		}
		before = s.Stats().Polls
		for range 1000 {
			s.Hint()
			<-time.After(time.Millisecond)
		}
		if polls, most := s.Stats().Polls-before, uint64(time.Second/hintSpacing)+1; polls < most/2 || polls > most {
			t.Errorf("a second of hints made %d reads, want about %d", polls, most)
		}
	})
}

func TestPollAloneHealsMissingHints(t *testing.T) {
	inMemory(t, Config{}, func(t *testing.T, s *Service, st *mem.Store, network *pipes) {
		conn, _ := greet(t, "push", network)
		for n := range 3 {
			begin := time.Now()
			st.PutPoints(tenSeconds("a", n, 1))
			collect(t, conn, 1)
			if took := time.Since(begin); took > DefaultPoll {
				t.Errorf("without a hint it took %v", took)
			}
		}
	})
}

func TestStoreFailureHeals(t *testing.T) {
	inMemory(t, Config{}, func(t *testing.T, s *Service, st *mem.Store, network *pipes) {
		conn, _ := greet(t, "push", network)
		st.Fail(errors.New("locked"))
		st.PutPoints(tenSeconds("a", 0, 1))
		<-time.After(10 * time.Second)
		if s.Stats().Failures == 0 {
			t.Error("no failure was counted")
		}
		st.Fail(nil)
		collect(t, conn, 1)
	})
}

func TestSlowReaderGetsTheLatestOnly(t *testing.T) {
	inMemory(t, Config{}, func(t *testing.T, s *Service, st *mem.Store, network *pipes) {
		slow, _ := greet(t, "push", network)
		for n := range 1000 {
			st.PutPoints(tenSeconds("a", 0, float64(n)), tenSeconds("b", 0, float64(n)))
			s.Hint()
			<-time.After(hintSpacing / 10) // 5 s in all: shorter than the write deadline
		}
		synctest.Wait()
		received := 0
		for {
			m := receive(t, slow)
			received += len(m.Points)
			last := m.Points[len(m.Points)-1]
			if last.Rev == 2000 && last.Last == 999 {
				break
			}
		}
		if received > 4 {
			t.Errorf("2,000 changes of two windows came as %d points", received)
		}
	})
}

func TestVerySlowReaderIsToldOfTheGap(t *testing.T) {
	c := Config{Cache: mem.CacheConfig{MaxOlder: 5}}
	inMemory(t, c, func(t *testing.T, s *Service, st *mem.Store, network *pipes) {
		slow, _ := greet(t, "push", network)
		st.PutPoints(tenSeconds("a", 0, 0))
		s.Hint()
		<-time.After(time.Second) // the writer is stuck with this one
		for n := 1; n <= 100; n++ {
			st.PutPoints(tenSeconds("a", n, float64(n)))
		}
		<-time.After(time.Second)
		if m := receive(t, slow); m.Gap || m.Points[0].Rev != 1 {
			t.Fatalf("first %+v", m)
		}
		m := receive(t, slow)
		if !m.Gap || len(m.Points) != 6 || m.Points[5].Rev != 101 {
			t.Errorf("after falling behind: gap %v, %d points, want a gap, five older points and the newest", m.Gap, len(m.Points))
		}
	})
}

func TestSlowReaderDoesNotHoldUpOthers(t *testing.T) {
	inMemory(t, Config{Poll: time.Hour}, func(t *testing.T, s *Service, st *mem.Store, network *pipes) {
		greet(t, "push", network) // never read again
		quick, _ := greet(t, "push", network)
		begin := time.Now()
		for n := range 20 {
			st.PutPoints(tenSeconds("a", n, 1))
			s.Hint()
			collect(t, quick, 1)
		}
		if took := time.Since(begin); took > 20*hintSpacing {
			t.Errorf("20 points took %v", took)
		}
	})
}

// ended waits until one websocket more has ended, and returns how long it took.
func ended(t *testing.T, s *Service, why reason) time.Duration {
	t.Helper()
	begin := time.Now()
	for s.Stats().Ended[string(why)] == 0 {
		<-time.After(100 * time.Millisecond)
		if time.Since(begin) > time.Hour {
			t.Fatalf("nobody ended with %q: %v", why, s.Stats().Ended)
		}
	}
	synctest.Wait()
	if n := s.Stats().Clients; n != 0 {
		t.Errorf("%d clients left", n)
	}
	return time.Since(begin)
}

func TestDeadReaderIsCut(t *testing.T) {
	inMemory(t, Config{}, func(t *testing.T, s *Service, st *mem.Store, network *pipes) {
		greet(t, "push", network) // takes nothing more
		st.PutPoints(tenSeconds("a", 0, 1))
		if took := ended(t, s, reasonWriteTimeout); took > DefaultPoll+writeWait+time.Second {
			t.Errorf("cut after %v", took)
		}
	})
}

func TestSilentClientIsCut(t *testing.T) {
	inMemory(t, Config{}, func(t *testing.T, s *Service, st *mem.Store, network *pipes) {
		conn, _ := greet(t, "push", network)
		conn.SetPingHandler(func(string) error { return nil }) // reads, but never answers
		conn.SetReadDeadline(time.Time{})
		go io.Copy(io.Discard, conn.NetConn())
		if took := ended(t, s, reasonNoPong); took > pongWait+time.Second {
			t.Errorf("cut after %v", took)
		}
	})
}

func TestQuietClientStays(t *testing.T) {
	inMemory(t, Config{}, func(t *testing.T, s *Service, st *mem.Store, network *pipes) {
		conn, _ := greet(t, "push", network)
		conn.SetReadDeadline(time.Time{})
		go conn.ReadMessage() // answers pings
		<-time.After(time.Hour)
		if s.Stats().Clients != 1 {
			t.Errorf("a client that answers pings was cut: %v", s.Stats().Ended)
		}
	})
}

func TestTooBigMessageEndsTheConnection(t *testing.T) {
	inMemory(t, Config{}, func(t *testing.T, s *Service, st *mem.Store, network *pipes) {
		conn, _ := greet(t, "push", network)
		go conn.WriteMessage(websocket.TextMessage, []byte(strings.Repeat("x", readLimit+1)))
		if _, _, err := conn.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseMessageTooBig) {
			t.Errorf("told %v", err)
		}
		ended(t, s, reasonTooBig)
	})
}

func TestLostConnectionIsNoticed(t *testing.T) {
	inMemory(t, Config{}, func(t *testing.T, s *Service, st *mem.Store, network *pipes) {
		conn, _ := greet(t, "push", network)
		conn.NetConn().Close()
		ended(t, s, reasonLost)
	})
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network, st := newPipes(), mem.NewStore()
		s, err := New(Config{Store: st, listen: func() (net.Listener, error) { return network, nil }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		polite, _ := greet(t, "push", network)
		greet(t, "push", network) // neither reads nor writes any more
		goodbye := make(chan error, 1)
		go func() {
			polite.SetReadDeadline(time.Time{})
			for {
				if _, _, err := polite.ReadMessage(); err != nil {
					goodbye <- err
					return
				}
			}
		}()
		st.PutPoints(tenSeconds("a", 0, 1)) // the stuck client's writer hangs in this one
		<-time.After(2 * DefaultPoll)
		begin := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("the end took %v", took)
		}
		if err := <-goodbye; !websocket.IsCloseError(err, websocket.CloseGoingAway) {
			t.Errorf("the client was told %v, want 1001", err)
		}
		if _, _, err := dialWS(t, "push", network, nil); err == nil {
			t.Error("still serving")
		}
		total := uint64(0)
		for _, n := range s.Stats().Ended {
			total += n
		}
		if s.Stats().Clients != 0 || total != 2 {
			t.Errorf("stats after the end: %+v", s.Stats())
		}
	})
}

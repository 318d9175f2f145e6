package pipeline

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/services/ingest/lineclient"
	"github.com/mdmesh/mdmesh/services/ingest/record"
	"github.com/mdmesh/mdmesh/store"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// feeder sends records over several connections at a steady pace.
type feeder struct {
	m      *mesh
	ledger *ledger
	pace   time.Duration // for ten records of a connection
	least  int           // records of each connection, even if stopped before

	stopped chan struct{}
	group   sync.WaitGroup

	mu       sync.Mutex
	resent   uint64
	connects uint64
	trouble  []error
}

// firstTime is close to the end of a day, so that windows of all lengths change
// while records come.
var firstTime = time.Date(2026, 11, 20, 23, 59, 30, 0, time.UTC)

// next makes record n of a connection; three series are shared by all of them.
func next(connection, n int) store.Record {
	return store.Record{
		Series: fmt.Sprintf("kept.%d", (connection+n)%3),
		ID:     fmt.Sprintf("c%d-%d", connection, n),
		Time:   firstTime.Add(time.Duration(n)*50*time.Millisecond + time.Duration(connection)*time.Millisecond),
		Value:  float64(n - 600),
	}
}

// feed begins to send over so many connections: the first as a plain program that
// waits for each answer, the others with many lines under way.
func feed(m *mesh, l *ledger, connections, least int, pace time.Duration) *feeder {
	f := &feeder{m: m, ledger: l, pace: pace, least: least, stopped: make(chan struct{})}
	f.group.Go(func() { f.keep(f.oneByOne(0)) })
	for c := range connections - 1 {
		f.group.Go(func() { f.keep(f.manyUnderWay(c + 1)) })
	}
	return f
}

func (f *feeder) keep(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.trouble = append(f.trouble, err)
	}
}

// more tells whether record n is to be sent, after the pace.
func (f *feeder) more(ticks <-chan time.Time, n int) bool {
	<-ticks
	select {
	case <-f.stopped:
		return n < f.least
	default:
		return n < 1_000_000
	}
}

// burst is how many records manyUnderWay sends at once.
const burst = 10

// manyUnderWay sends by the line client.
func (f *feeder) manyUnderWay(connection int) error {
	c, err := lineclient.New(lineclient.Config{To: f.m.address(portIngest), Window: 64, Answered: f.ledger.answered, GiveUp: meshproc.Guard})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	err = f.sendTo(ctx, c, connection)
	cancel()
	if end := <-ended; err == nil {
		err = end
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resent += c.Stats().Resent
	f.connects += c.Stats().Connections
	return err
}

func (f *feeder) sendTo(ctx context.Context, c *lineclient.Client, connection int) error {
	ticker := time.NewTicker(f.pace)
	defer ticker.Stop()
	for n := 0; f.more(ticker.C, n); {
		for range burst {
			r := next(connection, n)
			f.ledger.send(r)
			if err := c.Send(ctx, r, 0); err != nil {
				return err
			}
			n++
		}
	}
	return c.Flush(ctx)
}

// oneByOne is what a program in any language does: send a line, read the answer,
// and after any trouble do the same again.
func (f *feeder) oneByOne(connection int) error {
	ticker := time.NewTicker(max(f.pace/burst, 1))
	defer ticker.Stop()
	var conn net.Conn
	var answers *bufio.Reader
	for n := 0; f.more(ticker.C, n); n++ {
		r := next(connection, n)
		f.ledger.send(r)
		line := string(record.Append(nil, r)) + "\n"
		for begun := time.Now(); ; <-ticker.C {
			if time.Since(begun) > meshproc.Guard {
				return fmt.Errorf("no answer to %s", line)
			}
			if conn == nil {
				var err error
				if conn, err = net.Dial("tcp", f.m.address(portIngest)); err != nil {
					conn = nil
					continue
				}
				answers = bufio.NewReader(conn)
				f.mu.Lock()
				f.connects++
				f.mu.Unlock()
			}
			_ = conn.SetDeadline(time.Now().Add(meshproc.Guard))
			_, err := io.WriteString(conn, line)
			answer := ""
			if err == nil {
				answer, err = answers.ReadString('\n')
			}
			if err != nil {
				_ = conn.Close()
				conn = nil
				f.mu.Lock()
				f.resent++
				f.mu.Unlock()
				continue
			}
			if answer != okAnswer+"\n" {
				return fmt.Errorf("%s was answered %s", line, answer)
			}
			f.ledger.answered(0, nil)
			break
		}
	}
	if conn != nil {
		return conn.Close()
	}
	return nil
}

// flows waits until n more records were answered, so that a kill comes in the
// midst of work.
func (f *feeder) flows(t testing.TB, n int) {
	t.Helper()
	_, before := f.ledger.counts()
	meshproc.Eventually(t, "records are answered", func() error {
		if _, ok := f.ledger.counts(); ok < before+n {
			return fmt.Errorf("%d after %d", ok, before)
		}
		return nil
	})
}

// stop ends feeding and waits for the last answer.
func (f *feeder) stop(t testing.TB) {
	t.Helper()
	close(f.stopped)
	f.group.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, err := range f.trouble {
		t.Error(err)
	}
	if len(f.ledger.refused) > 0 {
		t.Errorf("refused: %q", f.ledger.refused)
	}
}

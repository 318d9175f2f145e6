package lineclient

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mdmesh/mdmesh/services/ingest/record"
	"github.com/mdmesh/mdmesh/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// door is an ingest in memory: it remembers every line and answers as told.
type door struct {
	// answer returns what to say to line number n (from 0) of connection c (from
	// 0), "" to close the connection instead.
	answer func(c, n int, id string) string
	refuse func(dial int) error // of a dial; optional

	mu    sync.Mutex
	dials int
	conns int
	seen  []string // ids in the order of their lines
	first []int    // lines seen when each connection began
	group sync.WaitGroup
}

func (d *door) dial(ctx context.Context, _ string) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dials++
	if d.refuse != nil {
		if err := d.refuse(d.dials); err != nil {
			return nil, err
		}
	}
	ours, theirs := net.Pipe()
	c := d.conns
	d.conns++
	d.first = append(d.first, len(d.seen))
	d.group.Go(func() { d.serve(c, theirs) })
	return ours, nil
}

func (d *door) serve(c int, conn net.Conn) {
	defer conn.Close()
	in := bufio.NewScanner(conn)
	for n := 0; in.Scan(); n++ {
		r, err := record.Parse(in.Bytes())
		if err != nil {
			_, _ = conn.Write(record.Answer{Error: err.Error()}.Append(nil))
			continue
		}
		d.mu.Lock()
		d.seen = append(d.seen, r.ID)
		d.mu.Unlock()
		text := d.answer(c, n, r.ID)
		if text == "" {
			return
		}
		if _, err := io.WriteString(conn, text); err != nil {
			return
		}
	}
}

const okLine = "{\"ok\": true}\n"

// results collects what Answered is told.
type results struct {
	mu   sync.Mutex
	tags []int64
	errs map[int64]string
}

func (r *results) answered(tag int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tags = append(r.tags, tag)
	if err != nil {
		if r.errs == nil {
			r.errs = make(map[int64]string)
		}
		r.errs[tag] = err.Error()
	}
}

func rec(i int) store.Record {
	return store.Record{Series: "s", ID: fmt.Sprintf("id-%d", i), Time: time.Unix(int64(i), 0), Value: float64(i)}
}

// start runs a client against d; end stops it and returns what Run said.
func start(t *testing.T, d *door, cfg Config) (c *Client, end func() error) {
	t.Helper()
	cfg.To, cfg.Dial = "tcp://127.0.0.1:5570", d.dial
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	end = sync.OnceValue(func() error {
		cancel()
		err := <-done
		d.group.Wait()
		return err
	})
	t.Cleanup(func() { _ = end() })
	return c, end
}

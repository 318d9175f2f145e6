package ingest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mdmesh/mdmesh/services/ingest/record"
	"github.com/mdmesh/mdmesh/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// guard bounds waits that a correct server ends long before.
const guard = 30 * time.Second

// transform is a Caller with the rules of the real service: rows by (series,
// id), replaced by a higher rev only. Hooks may fail a call before or after its
// effect.
type transform struct {
	before func(ctx context.Context, call int, records []store.Record) error
	after  func(ctx context.Context, call int, records []store.Record) error
	reply  func(call int, reply []byte) []byte

	mu       sync.Mutex
	calls    [][]store.Record
	rows     map[key]store.Record
	inserted int
	services map[string]bool
}

func newTransform() *transform {
	return &transform{rows: make(map[key]store.Record), services: make(map[string]bool)}
}

func (f *transform) Call(ctx context.Context, service string, body ...[]byte) ([][]byte, error) {
	var records []store.Record
	for _, line := range bytes.Split(bytes.TrimSuffix(bytes.Join(body, nil), []byte("\n")), []byte("\n")) {
		r, err := record.Parse(line)
		if err != nil || r.ID == "" {
			return nil, fmt.Errorf("transform was sent %q: %w", line, err)
		}
		records = append(records, r)
	}
	f.mu.Lock()
	f.services[service] = true
	f.calls = append(f.calls, records)
	call := len(f.calls)
	f.mu.Unlock()
	if f.before != nil {
		if err := f.before(ctx, call, records); err != nil {
			return nil, err
		}
	}
	reply, err := json.Marshal(f.apply(records))
	if err == nil && f.after != nil {
		err = f.after(ctx, call, records)
	}
	if f.reply != nil {
		reply = f.reply(call, reply)
	}
	return [][]byte{reply}, err
}

func (f *transform) apply(records []store.Record) []outcome {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]outcome, len(records))
	for i, r := range records {
		k := key{r.Series, r.ID}
		old, known := f.rows[k]
		switch {
		case !known:
			f.inserted++
			f.rows[k] = r
			out[i].Outcome = "inserted"
		case old == r, old.Time.Equal(r.Time) && old.Value == r.Value:
			out[i].Outcome = "duplicate"
		case r.Rev > old.Rev:
			f.rows[k] = r
			out[i].Outcome = "revised"
		default:
			out[i].Outcome = "conflict"
		}
	}
	return out
}

// sizes returns the number of records of every call so far.
func (f *transform) sizes() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	var n []int
	for _, c := range f.calls {
		n = append(n, len(c))
	}
	return n
}

func (f *transform) rowCount() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.rows)
}

// pipes is a listener in memory, so that time can be faked.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	wrap   func(net.Conn) net.Conn // the server's end; optional
}

func newPipes() *pipes {
	return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

// dial returns the client's end of a new connection.
func (p *pipes) dial(t testing.TB) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	if p.wrap != nil {
		theirs = p.wrap(theirs)
	}
	select {
	case p.conns <- theirs:
		return ours
	case <-p.closed:
		t.Fatal("the listener is closed")
		return nil
	}
}

// running is a server under test.
type running struct {
	*Server
	addr string
	end  func() // ends Run and waits for it
}

// start runs a server over pipes, or over TCP when l is nil.
func start(t testing.TB, cfg Config, l *pipes) *running {
	t.Helper()
	if l != nil {
		cfg.Listener = l
	} else {
		cfg.Listen = "127.0.0.1:0"
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	addr, err := s.Listen(ctx)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	end := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(end)
	return &running{Server: s, addr: addr.String(), end: end}
}

// peer is a client that reads answers as they come.
type peer struct {
	t       testing.TB
	conn    net.Conn
	answers chan string // closed at the end of the stream
	quit    chan struct{}
}

func newPeer(t testing.TB, conn net.Conn) *peer {
	p := &peer{t: t, conn: conn, answers: make(chan string, 1<<16), quit: make(chan struct{})}
	go func() {
		defer close(p.answers)
		in := bufio.NewReader(conn)
		for {
			line, err := in.ReadString('\n')
			if line != "" {
				p.answers <- strings.TrimSuffix(line, "\n")
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = conn.Close() })
	return p
}

func dialTCP(t testing.TB, addr string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, guard)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(guard))
	return conn
}

// send writes text; the connection may end meanwhile if the test wants that.
func (p *peer) send(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.conn, text); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		p.t.Logf("write: %v", err)
	}
}

// answer returns the next answer, "" at the end of the stream.
func (p *peer) answer() string {
	p.t.Helper()
	select {
	case a := <-p.answers:
		return a
	case <-time.After(guard):
		p.t.Fatal("no answer")
		return ""
	}
}

// expect compares the next answers with want.
func (p *peer) expect(want ...string) {
	p.t.Helper()
	for i, w := range want {
		if got := p.answer(); got != w {
			p.t.Fatalf("answer %d: %s, want %s", i+1, got, w)
		}
	}
}

const ok = `{"ok": true}`

// line makes a record's line.
func line(series, id string, value float64, rev int64) string {
	at := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
	return string(record.Append(nil, store.Record{Series: series, ID: id, Time: at, Value: value, Rev: rev})) + "\n"
}

package ingest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"

	"github.com/mdmesh/mdmesh/services/ingest/record"
	"github.com/mdmesh/mdmesh/store"
)

func TestHalfCloseStillGetsEveryAnswer(t *testing.T) {
	t.Parallel()
	f := newTransform()
	gate := make(chan struct{})
	f.before = func(context.Context, int, []store.Record) error { <-gate; return nil }
	s := start(t, Config{Caller: f}, nil)
	conn := dialTCP(t, s.addr)
	p := newPeer(t, conn)
	p.send(line("a", "1", 1, 0) + "\n" + strings.TrimSuffix(line("a", "2", 1, 0), "\n")) // the last without a newline
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	close(gate)
	p.expect(ok, ok, "")
	if f.rowCount() != 2 {
		t.Errorf("%d rows, want 2", f.rowCount())
	}
}

func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	f := newTransform()
	s := start(t, Config{Caller: f, MaxConnections: 2}, nil)
	var served []*peer
	for i := range 2 {
		p := newPeer(t, dialTCP(t, s.addr))
		p.send(line("a", fmt.Sprint(i), 1, 0))
		p.expect(ok)
		served = append(served, p)
	}
	over := newPeer(t, dialTCP(t, s.addr))
	over.send(line("a", "over", 1, 0))
	over.expect(`{"ok": false, "error": "too many connections (2); close one or try again later", "closing": true}`, "")
	for i, p := range served {
		p.send(line("b", fmt.Sprint(i), 1, 0))
		p.expect(ok)
	}
	if got := s.State(); got.Totals["connections_refused"] != 1 || f.rowCount() != 4 {
		t.Errorf("state %+v, %d rows", got, f.rowCount())
	}
	_ = served[0].conn.Close() // makes room, as soon as the server sees it
	for {
		p := newPeer(t, dialTCP(t, s.addr))
		p.send(line("c", "1", 1, 0))
		if p.answer() == ok {
			break
		}
	}
}

func TestLongLines(t *testing.T) {
	t.Parallel()
	f := newTransform()
	s := start(t, Config{Caller: f}, nil)
	p := newPeer(t, dialTCP(t, s.addr))
	pad := func(total int) string { // blanks inside of the object count
		text := strings.TrimSuffix(line("a", fmt.Sprint(total), 1, 0), "}\n")
		return text + strings.Repeat(" ", total-len(text)-1) + "}"
	}
	const tooLong = `{"ok": false, "error": "line longer than 65536 octets"}`
	p.send(pad(record.MaxLine) + "\n")
	p.send(pad(record.MaxLine-1) + "\r\n")
	p.send(pad(record.MaxLine+1) + "\n")
	p.send(pad(record.MaxLine+1) + "\r\n")
	p.send(strings.Repeat("x", 1<<20) + "\n")
	p.send(line("a", "after", 1, 0))
	p.expect(ok, ok, tooLong, tooLong, tooLong, ok)
	if f.rowCount() != 3 {
		t.Errorf("%d rows, want 3", f.rowCount())
	}
}

// TestHostileInput sends what no client should. Each must get a reason or be
// closed, and a good client beside it must not notice.
func TestHostileInput(t *testing.T) {
	t.Parallel()
	noise := make([]byte, 1<<20)
	dice := rand.New(rand.NewPCG(3, 4))
	for i := range noise {
		noise[i] = byte(dice.Uint32())
	}
	tests := map[string]struct {
		input  []byte
		answer string // must occur in the first answer
	}{
		"noise":              {noise, "one JSON object per line"},
		"http":               {[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), `got \"GET\"`},
		"tls":                {[]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n"), "one JSON object per line"},
		"zeros":              {append(make([]byte, 1<<17), '\n'), "line longer than"},
		"one endless line":   {bytes.Repeat([]byte("["), 4<<20), "line longer than"},
		"deep nesting":       {append(bytes.Repeat([]byte(`{"a":`), 10000), '\n'), `field \"a\": unknown`},
		"arrays":             {[]byte(strings.Repeat("[]\n", 5000)), "got an array"},
		"newlines":           {append(bytes.Repeat([]byte("\n"), 1<<20), []byte("x\n")...), `got \"x\"`},
		"escape characters":  {[]byte("\x1b[2J\x07\n"), `got \"\\x1b[2J\\a\"`},
		"utf-16":             {[]byte("{\x00\"\x00s\x00\"\x00:\x00\n"), "malformed JSON"},
		"control in a field": {[]byte(`{"series":"a\u0000b","time":"2026-11-21T08:00:00Z","value":1}` + "\n"), "control character U+0000"},
	}
	f := newTransform()
	s := start(t, Config{Caller: f}, nil)
	good := newPeer(t, dialTCP(t, s.addr))
	n := 0
	for name, tc := range tests {
		conn := dialTCP(t, s.addr)
		p := newPeer(t, conn)
		_, _ = conn.Write(tc.input) // may fail half-way: the server may close
		_ = conn.(*net.TCPConn).CloseWrite()
		if got := p.answer(); !strings.Contains(got, tc.answer) || !strings.HasPrefix(got, `{"ok": false`) {
			t.Errorf("%s: %q, want an error with %q", name, got, tc.answer)
		}
		answers := 1
		for p.answer() != "" {
			answers++
		}
		if answers > 101 {
			t.Errorf("%s: %d answers, want at most 100 and the reason for closing", name, answers)
		}
		n++
		good.send(line("good", fmt.Sprint(n), 1, 0))
		good.expect(ok)
	}
	if f.rowCount() != n {
		t.Errorf("%d rows, want the %d good ones", f.rowCount(), n)
	}
}

func TestTooManyBadLinesInARow(t *testing.T) {
	t.Parallel()
	f := newTransform()
	s := start(t, Config{Caller: f}, nil)
	p := newPeer(t, dialTCP(t, s.addr))
	p.send(strings.Repeat("bad\n", 99) + line("a", "1", 1, 0) + strings.Repeat("bad\n", 100) + line("a", "2", 1, 0))
	const bad = `{"ok": false, "error": "want one JSON object per line, got \"bad\""}`
	for range 99 {
		p.expect(bad)
	}
	p.expect(ok)
	for range 100 {
		p.expect(bad)
	}
	p.expect(`{"ok": false, "error": "100 unreadable lines in a row; closing the connection", "closing": true}`, "")
	if f.rowCount() != 1 || s.State().Totals["connections_too_bad"] != 1 {
		t.Errorf("%d rows, state %+v", f.rowCount(), s.State())
	}
}

// BenchmarkIngest is one client with many lines under way and a transform that
// costs nothing.
func BenchmarkIngest(b *testing.B) {
	s := start(b, Config{Caller: nothing{}}, nil)
	conn := dialTCP(b, s.addr)
	text := strings.Repeat(`{"series":"cpu.total","time":"2026-11-21T08:00:00Z","value":12.5}`+"\n", 100)
	b.ReportAllocs()
	b.ResetTimer()
	go func() {
		for i := 0; i < b.N; i += 100 {
			_, _ = io.WriteString(conn, text)
		}
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	if _, err := io.Copy(io.Discard, conn); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}

// nothing is a transform that answers and does no more.
type nothing struct{}

func (nothing) Call(_ context.Context, _ string, body ...[]byte) ([][]byte, error) {
	n := bytes.Count(body[0], []byte("\n"))
	return [][]byte{[]byte("[" + strings.Repeat(`{"outcome":"inserted"},`, n-1) + `{"outcome":"inserted"}]`)}, nil
}

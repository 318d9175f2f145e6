package ingest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// chunks is a connection whose reads return given pieces.
type chunks struct {
	net.Conn
	data []byte
	size int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.size)], c.data)
	c.data = c.data[n:]
	return n, nil
}

func (c *chunks) SetReadDeadline(time.Time) error { return nil }

const tooLongMark = "<too long>"

// readAll returns every line, with tooLongMark for those over the limit.
func readAll(t testing.TB, data []byte, longest, size int) []string {
	l := newLineReader(&chunks{data: data, size: size}, longest, time.Second)
	var got []string
	for {
		line, err := l.next()
		switch {
		case errors.Is(err, errLineTooLong):
			got = append(got, tooLongMark)
		case errors.Is(err, io.EOF):
			return got
		case err != nil:
			t.Fatal(err)
		default:
			got = append(got, string(line))
		}
		if len(l.buf) > max(longest+2, firstBuffer) {
			t.Fatalf("the buffer grew to %d octets", len(l.buf))
		}
	}
}

// splitAll says what readAll must return, in the plainest way.
func splitAll(data []byte, longest int) []string {
	var want []string
	for rest := data; len(rest) > 0; {
		line, after, _ := bytes.Cut(rest, []byte("\n"))
		rest = after
		if line = bytes.TrimSuffix(line, []byte("\r")); len(line) > longest {
			want = append(want, tooLongMark)
		} else {
			want = append(want, string(line))
		}
	}
	return want
}

func FuzzLines(f *testing.F) {
	for _, seed := range []string{"", "a\nb\r\n\nc", "12345678\n123456789\n1234567\r\n12345678\r\n", strings.Repeat("x", 100) + "\n\n1\n", "12345678\r", "123456789\r\n\r"} {
		for _, size := range []int{1, 3, 100} {
			f.Add([]byte(seed), 8, size)
		}
	}
	f.Add([]byte(strings.Repeat("y", 9000)+"\nz\n"), 8999, 4096)
	f.Fuzz(func(t *testing.T, data []byte, longest, size int) {
		if longest < 1 || longest > 1<<16 || size < 1 {
			return // out of what the server asks for
		}
		got, want := readAll(t, data, longest, size), splitAll(data, longest)
		if !slices.Equal(got, want) {
			t.Fatalf("limit %d, reads of %d, %q: %q, want %q", longest, size, data, got, want)
		}
	})
}

func TestTheBufferIsGivenBack(t *testing.T) {
	t.Parallel()
	data := slices.Concat(bytes.Repeat([]byte("x"), 50000), []byte("\n"))
	c := &chunks{data: data, size: 1 << 20}
	l := newLineReader(c, 1<<16, time.Second)
	if line, err := l.next(); err != nil || len(line) != 50000 {
		t.Fatalf("%d octets, %v", len(line), err)
	}
	if len(l.buf) <= firstBuffer {
		t.Fatalf("the buffer of %d octets never grew", len(l.buf))
	}
	c.data, c.size = []byte("short\nshort\n"), 6
	for range 2 {
		if line, err := l.next(); err != nil || string(line) != "short" {
			t.Fatalf("%q, %v", line, err)
		}
	}
	if len(l.buf) != firstBuffer {
		t.Errorf("the buffer keeps %d octets", len(l.buf))
	}
}

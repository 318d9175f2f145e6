package relay

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const guard = 30 * time.Second

// line is a connection through a relay: what one end writes, the other reads.
type line struct {
	*Relay
	near, far net.Conn
	accept    func() net.Conn
}

func open(t *testing.T) *line {
	t.Helper()
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r, err := Start("tcp://" + target.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		_ = target.Close()
	})
	l := &line{Relay: r, accept: func() net.Conn {
		c, err := target.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}}
	l.near = l.dial(t)
	l.far = l.accept()
	return l
}

func (l *line) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(l.Endpoint(), "tcp://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(guard))
	return c
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, c net.Conn, want string) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(guard))
	buf := make([]byte, len(want))
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != want {
		t.Fatalf("read %q, %v; want %q", buf, err, want)
	}
}

// silent fails if anything, the end included, arrives. What would be wrong arrives
// within the moment that is waited; a slow machine only makes the test blind.
func silent(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := c.Read(make([]byte, 1)); n > 0 || !isTimeout(err) {
		t.Fatalf("read %d octets, %v; want silence", n, err)
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func TestHealthy(t *testing.T) {
	t.Parallel()
	l := open(t)
	say(t, l.near, "there")
	hear(t, l.far, "there")
	say(t, l.far, "back")
	hear(t, l.near, "back")
	if l.Passed(Up) != 5 || l.Passed(Down) != 4 {
		t.Errorf("passed %d up and %d down", l.Passed(Up), l.Passed(Down))
	}
	_ = l.near.(*net.TCPConn).CloseWrite()
	if rest, err := io.ReadAll(l.far); len(rest) > 0 || err != nil {
		t.Errorf("%q, %v instead of the end", rest, err)
	}
	say(t, l.far, "half closed")
	hear(t, l.near, "half closed")
}

func TestStallHeals(t *testing.T) {
	t.Parallel()
	l := open(t)
	l.Fault(Up, Fault{Stall: true})
	say(t, l.near, "late")
	_ = l.near.(*net.TCPConn).CloseWrite()
	silent(t, l.far)
	say(t, l.far, "the other way")
	hear(t, l.near, "the other way")
	l.Heal()
	hear(t, l.far, "late")
	if _, err := l.far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("%v instead of the end", err)
	}
}

func TestDiscardHeals(t *testing.T) {
	t.Parallel()
	l := open(t)
	l.Fault(Up, Fault{Discard: true})
	say(t, l.near, "lost")
	silent(t, l.far)
	l.Heal()
	say(t, l.near, "kept")
	hear(t, l.far, "kept")
	l.Fault(Up, Fault{Discard: true})
	_ = l.near.Close()
	silent(t, l.far) // not even the end
}

func TestDelayKeepsOrder(t *testing.T) {
	t.Parallel()
	l := open(t)
	const delay = 30 * time.Millisecond
	l.Fault(Up, Fault{Delay: delay, Chunk: 1})
	begun := time.Now()
	say(t, l.near, "a")
	say(t, l.near, "bc")
	hear(t, l.far, "abc")
	if took := time.Since(begun); took < delay {
		t.Errorf("took %v, less than %v", took, delay)
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	l := open(t)
	l.Fault(Down, Fault{Rate: 10_000})
	begun := time.Now()
	say(t, l.far, strings.Repeat("x", 1000))
	hear(t, l.near, strings.Repeat("x", 1000))
	if took := time.Since(begun); took < 100*time.Millisecond {
		t.Errorf("1,000 octets took %v", took)
	}
}

func TestMangle(t *testing.T) {
	t.Parallel()
	l := open(t)
	l.Fault(Up, Fault{Mangle: func(p []byte) { copy(p, bytes.ToUpper(p)) }})
	say(t, l.near, "mangled")
	hear(t, l.far, "MANGLED")
}

func TestRefuseAndReset(t *testing.T) {
	t.Parallel()
	l := open(t)
	l.Refuse(true)
	say(t, l.near, "open ones stay")
	hear(t, l.far, "open ones stay")
	refused, err := net.Dial("tcp", strings.TrimPrefix(l.Endpoint(), "tcp://"))
	if err == nil {
		_ = refused.SetDeadline(time.Now().Add(guard))
		_, err = refused.Read(make([]byte, 1))
		_ = refused.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.EOF) {
		t.Errorf("%v of a refused connection", err)
	}
	l.Refuse(false)
	if n := l.Reset(); n != 1 {
		t.Errorf("%d connections were reset", n)
	}
	for _, c := range []net.Conn{l.near, l.far} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read %v instead of a reset", err)
		}
	}
	near := l.dial(t)
	far := l.accept()
	say(t, near, "again")
	hear(t, far, "again")
}

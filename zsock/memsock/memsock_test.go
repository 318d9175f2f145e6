package memsock

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect makes a network with one connection from host a to host b.
func connect(t *testing.T) (n *Net, a, b net.Conn) {
	t.Helper()
	n = New()
	l, err := n.Listen("tcp://b:0")
	if err != nil {
		t.Fatal(err)
	}
	if a, err = n.Host("a").Dial(t.Context(), "tcp://"+l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _, _ = a.Close(), b.Close(), l.Close() })
	return n, a, b
}

func write(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := c.Write([]byte(s)); err != nil {
		t.Fatalf("write %q: %v", s, err)
	}
}

func read(t *testing.T, c net.Conn, want string) {
	t.Helper()
	p := make([]byte, len(want))
	if _, err := io.ReadFull(c, p); err != nil || string(p) != want {
		t.Fatalf("read %q, %v, want %q", p, err, want)
	}
}

// silent asserts that nothing arrives for d of the bubble's time.
func silent(t *testing.T, c net.Conn, d time.Duration) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(d))
	defer func() { _ = c.SetReadDeadline(time.Time{}) }()
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read %d, %v, want nothing", n, err)
	}
}

// bubble runs f with a fake clock, so that waiting costs nothing.
func bubble(f func(t *testing.T)) func(t *testing.T) {
	return func(t *testing.T) { synctest.Test(t, f) }
}

func TestStreams(t *testing.T) {
	t.Run("both ways, in order", bubble(func(t *testing.T) {
		_, a, b := connect(t)
		write(t, a, "one")
		write(t, a, "two")
		read(t, b, "onetwo")
		write(t, b, "back")
		read(t, a, "back")
	}))
	t.Run("end of stream after what was written", bubble(func(t *testing.T) {
		_, a, b := connect(t)
		write(t, a, "last")
		_ = a.Close()
		read(t, b, "last")
		if _, err := b.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("read after close: %v", err)
		}
		if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write to a closed peer: %v", err)
		}
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read on a closed end: %v", err)
		}
	}))
	t.Run("bounded", bubble(func(t *testing.T) {
		_, a, b := connect(t)
		n, err := a.(*Conn).TryWrite(make([]byte, 2*bufferSize))
		if n != bufferSize || err != nil {
			t.Fatalf("took %d, %v", n, err)
		}
		if n, err = a.(*Conn).TryWrite([]byte("x")); n != 0 || err != nil {
			t.Fatalf("full stream took %d, %v", n, err)
		}
		_ = a.SetWriteDeadline(time.Now().Add(time.Second))
		if n, err = a.Write([]byte("x")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("full stream: %d, %v", n, err)
		}
		_ = a.SetWriteDeadline(time.Time{})
		go func() { _, _ = io.CopyN(io.Discard, b, bufferSize+1) }()
		write(t, a, "x")
	}))
	t.Run("close wakes readers", bubble(func(t *testing.T) {
		_, a, _ := connect(t)
		failed := make(chan error)
		go func() { _, err := a.Read(make([]byte, 1)); failed <- err }()
		synctest.Wait()
		_ = a.Close()
		if err := <-failed; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}))
}

func TestFaults(t *testing.T) {
	t.Run("stall holds back and heals", bubble(func(t *testing.T) {
		n, a, b := connect(t)
		n.Fault("a", "b", Fault{Stall: true})
		write(t, a, "late")
		silent(t, b, time.Hour)
		write(t, b, "other way")
		read(t, a, "other way")
		n.Heal("a", "b")
		read(t, b, "late")
	}))
	t.Run("discard is half-open", bubble(func(t *testing.T) {
		n, a, b := connect(t)
		n.Fault("a", "b", Fault{Discard: true})
		write(t, a, string(make([]byte, 3*bufferSize)))
		_ = a.Close()
		silent(t, b, time.Hour)
	}))
	t.Run("delay", bubble(func(t *testing.T) {
		n, a, b := connect(t)
		n.Fault("a", "b", Fault{Delay: time.Second})
		start := time.Now()
		write(t, a, "x")
		n.Heal("a", "b")
		write(t, a, "y")
		read(t, b, "xy")
		if took := time.Since(start); took != time.Second {
			t.Errorf("took %v", took)
		}
	}))
	t.Run("delayed and stalled", bubble(func(t *testing.T) {
		n, a, b := connect(t)
		n.Fault("a", "b", Fault{Delay: time.Second})
		write(t, a, "x")
		n.Fault("a", "b", Fault{Stall: true})
		silent(t, b, time.Minute)
		n.Heal("a", "b")
		read(t, b, "x")
	}))
	t.Run("chunk", bubble(func(t *testing.T) {
		n, a, b := connect(t)
		n.Fault("", "b", Fault{Chunk: 2})
		write(t, a, "abc")
		for _, want := range []int{2, 1} {
			if k, err := b.Read(make([]byte, 10)); k != want || err != nil {
				t.Errorf("read %d, %v, want %d", k, err, want)
			}
		}
	}))
	t.Run("mangle", bubble(func(t *testing.T) {
		n, a, b := connect(t)
		write(t, a, "a")
		n.Fault("", "", Fault{Mangle: func(p []byte) { copy(p, bytes.ToUpper(p)) }})
		write(t, a, "b")
		read(t, b, "aB")
	}))
	t.Run("reset", bubble(func(t *testing.T) {
		n, a, b := connect(t)
		write(t, a, "lost")
		if got := n.Reset("b", ""); got != 1 {
			t.Errorf("reset %d connections", got)
		}
		for _, c := range []net.Conn{a, b} {
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Error(err)
			}
			if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.ECONNRESET) {
				t.Error(err)
			}
		}
	}))
	t.Run("partition holds dials and closes", bubble(func(t *testing.T) {
		n, a, b := connect(t)
		n.Partition("a", "b")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := n.Host("a").Dial(ctx, "tcp://"+b.LocalAddr().String()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial through a partition: %v", err)
		}
		_ = a.Close()
		silent(t, b, time.Hour)
		n.Heal("b", "a")
		if _, err := b.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("after healing: %v", err)
		}
	}))
	t.Run("heal lets a waiting dial through", bubble(func(t *testing.T) {
		n, _, b := connect(t)
		n.Partition("c", "b")
		dialled := make(chan error)
		go func() {
			c, err := n.Host("c").Dial(t.Context(), "tcp://"+b.LocalAddr().String())
			if err == nil {
				_ = c.Close()
			}
			dialled <- err
		}()
		synctest.Wait()
		n.Heal("c", "b")
		if err := <-dialled; err != nil {
			t.Error(err)
		}
	}))
	t.Run("refuse", bubble(func(t *testing.T) {
		n, _, b := connect(t)
		n.Refuse("b", true)
		if _, err := n.Dial(t.Context(), "tcp://"+b.LocalAddr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Error(err)
		}
		n.Refuse("b", false)
		c, err := n.Dial(t.Context(), "tcp://"+b.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
	}))
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	n := New()
	l, err := n.Listen("inproc://here")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Listen("inproc://here"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second listener: %v", err)
	}
	if _, err := n.Dial(t.Context(), "inproc://elsewhere"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody listens: %v", err)
	}
	for _, bad := range []string{"", "inproc://", "tcp://noport", "udp://a:1"} {
		if _, err := n.Listen(bad); err == nil {
			t.Errorf("endpoint %q was accepted", bad)
		}
	}
	waiting, err := n.Dial(t.Context(), "inproc://here")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if _, err := waiting.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("never accepted: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
	_ = waiting.Close()
	if len(n.conns) != 0 {
		t.Errorf("%d connections are kept", len(n.conns))
	}
}

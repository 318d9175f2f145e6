package zsock

import (
	"context"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// roomy is TCP whose connections have a large receive buffer.
type roomy struct{ tcp }

func (roomy) Dial(ctx context.Context, endpoint string) (net.Conn, error) {
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 1<<20) })
	}}
	return d.DialContext(ctx, "tcp", endpoint[len("tcp://"):])
}

// sleeper sleeps in its first message, and then counts those before the next pause.
type sleeper struct {
	asleep, wake chan struct{}
	n            int
	paused       chan int
}

func (*sleeper) Opened(*Conn)                {}
func (*sleeper) Closed(*Batch, *Conn, error) {}

func (s *sleeper) Message(*Batch, *Conn, *Msg) {
	if s.n++; s.n == 1 {
		close(s.asleep)
		<-s.wake
	}
}

func (s *sleeper) Paused(*Batch, *Conn) { s.paused <- s.n }

// A handler that was asleep sees all that has come meanwhile before it is told of a
// pause, also if that is more than one read brings.
func TestPausedWhenAllIsRead(t *testing.T) {
	const n, size = 50, 2000 // more than one read, less than what kernels buffer
	server := newRecorder()
	l, err := Listen("tcp://127.0.0.1:0", Config{Type: Router}, server)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- l.Run(ctx) }()
	s := &sleeper{asleep: make(chan struct{}), wake: make(chan struct{}), paused: make(chan int, 100)}
	c, err := Dial(ctx, l.Endpoint(), Config{Type: Dealer, Shared: true, Network: roomy{}}, s)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = c.Run(ctx); ended <- nil }()
	peer := receive(t, server.opened)
	send(t, peer, "first")
	receive(t, s.asleep)
	for range n {
		send(t, peer, string(make([]byte, size)))
	}
	for began := time.Now(); peer.Unsent() > 0; runtime.Gosched() {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("%d octets have not arrived", peer.Unsent())
		}
	}
	close(s.wake)
	got := receive(t, s.paused)
	if got == 1 {
		got = receive(t, s.paused) // the first read brought the first message alone, and was not full
	}
	if got != 1+n {
		t.Errorf("paused after %d messages, want all %d", got, 1+n)
	}
	cancel()
	for range 2 {
		if err := receive(t, ended); err != nil {
			t.Error(err)
		}
	}
}

package actor

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mdmesh/mdmesh/worker"
	"github.com/mdmesh/mdmesh/zsock"
)

// The words a worker understands, the first frame of a request. Its answers have a
// first frame "PID ATTEMPT", then the request's other frames.
//
//	echo        answers
//	crash       the first attempt dies where CRASH_AT says
//	poison      every attempt dies
//	hold        the first attempt waits for SIGUSR1 or for the end of its context
//	stubborn    the first attempt waits for SIGUSR1 alone
//	sleep 5ms   answers after a while
//	size 1000   answers with so many octets
const halfReply = 4 << 20 // octets of the answer that is cut in two

func playWorker(ctx context.Context) error {
	h := &handler{crashAt: os.Getenv(CrashAt), released: make(chan struct{})}
	go func() {
		<-orders()
		close(h.released)
	}()
	cfg := worker.Config{
		Brokers: brokers(), Service: os.Getenv(Service), Handler: h.handle,
		Concurrency: number(Concurrency, 1), Once: os.Getenv(Once) != "",
		DrainTimeout: -1, // tests do not wait for what they hold
	}
	if h.crashAt == "mid_reply" {
		cfg.Network = h
	}
	w, err := worker.New(cfg)
	if err != nil {
		return err
	}
	go func() {
		<-w.Ready()
		tell("ready")
	}()
	err = w.Run(ctx)
	n := w.Counters()
	tell("ended requests=%d answered=%d lost=%d cancelled=%d not-taken=%d", n.Requests, n.Answered, n.Lost, n.Cancelled, n.NotTaken)
	return err
}

type handler struct {
	crashAt  string
	released chan struct{}
	armed    atomic.Bool // the next write is the last
}

func (h *handler) handle(ctx context.Context, r *worker.Request) ([][]byte, error) {
	var word, argument string
	if len(r.Body) > 0 {
		word, argument, _ = strings.Cut(string(r.Body[0]), " ")
	}
	head := fmt.Appendf(nil, "%d %d", os.Getpid(), r.Attempt)
	switch word {
	case "poison":
		tell("begun %s attempt=%d", word, r.Attempt)
		os.Exit(3)
	case "crash":
		if r.Attempt > 1 || h.crashAt == "" {
			break
		}
		if h.crashAt == "after_read" {
			die()
		}
		h.armed.Store(true)
		return [][]byte{head, make([]byte, halfReply)}, nil
	case "hold", "stubborn":
		tell("begun %s attempt=%d", word, r.Attempt)
		if r.Attempt > 1 {
			break
		}
		over := ctx.Done()
		if word == "stubborn" {
			over = nil
		}
		select {
		case <-h.released:
			tell("released")
		case <-over:
			tell("cancelled %v", context.Cause(ctx))
			return nil, context.Cause(ctx)
		}
	case "sleep":
		d, err := time.ParseDuration(argument)
		if err != nil {
			return nil, err
		}
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	case "size":
		n, err := strconv.Atoi(argument)
		return [][]byte{head, bytes.Repeat([]byte{'x'}, n)}, err
	}
	if len(r.Body) == 0 {
		return [][]byte{head}, nil
	}
	return append([][]byte{head}, r.Body[1:]...), nil
}

// die says when, because who waits for the end of a process learns of it later than
// the process's connections end.
func die() {
	tell("dies %d", time.Now().UnixNano())
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// Listen makes a handler a zsock.Network whose connections can be cut mid-way.
func (h *handler) Listen(string) (net.Listener, error) { return nil, syscall.ENOTSUP }

// Dial connects by TCP.
func (h *handler) Dial(ctx context.Context, endpoint string) (net.Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", strings.TrimPrefix(endpoint, "tcp://"))
	if err != nil {
		return nil, err
	}
	return fragile{nc, h}, nil
}

var _ zsock.Network = (*handler)(nil)

// fragile is a connection without the descriptor's short cuts, so that every octet
// passes Write.
type fragile struct {
	net.Conn
	h *handler
}

// Write dies half-way through what it is given, once it is armed and the octets are
// those of the large answer.
func (f fragile) Write(p []byte) (int, error) {
	const sent = 16 << 10 // a heartbeat is smaller
	if f.h.armed.Load() && len(p) > sent {
		_, _ = f.Conn.Write(p[:len(p)/2])
		die()
	}
	return f.Conn.Write(p)
}

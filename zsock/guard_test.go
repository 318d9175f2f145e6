package zsock

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// lateConn is a connection whose deadline passes before its octets are read.
type lateConn struct {
	net.Conn
	reads    int
	extended bool
}

func (c *lateConn) Read(p []byte) (int, error) {
	c.reads++
	if !c.extended {
		return 0, os.ErrDeadlineExceeded
	}
	p[0] = 0xff
	return 1, nil
}

func (c *lateConn) SetDeadline(t time.Time) error {
	c.extended = t.After(longAgo)
	return nil
}

// What came in time is read even if this process did not run when it was due.
func TestLastLook(t *testing.T) {
	t.Parallel()
	c := &lateConn{}
	g := &guard{Conn: c, ctx: context.Background()}
	if err := g.fill(1); err != nil || g.in[0] != 0xff {
		t.Errorf("fill: %x, %v", g.in, err)
	}
	c.extended = false
	g.in = nil
	if err := g.fill(1); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("second time: %v", err)
	}
}

// A handshake whose context has ended gets no further look.
func TestNoLookAfterTheEnd(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c := &lateConn{}
	g := &guard{Conn: c, ctx: ctx}
	if err := g.fill(1); !errors.Is(err, os.ErrDeadlineExceeded) || c.reads != 1 {
		t.Errorf("fill: %v after %d reads", err, c.reads)
	}
}

package worker

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/mdmesh/mdmesh/zsock"
)

// watched is a network whose connections tell when their reader asks for more
// octets: then it has handled every message of those it was given before.
type watched struct {
	zsock.Network // nil: TCP
	handled       func()
}

// Dial implements zsock.Network.
func (w watched) Dial(ctx context.Context, endpoint string) (net.Conn, error) {
	nc, err := w.dial(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	// What zsock looks for in a connection must show through.
	switch nc := nc.(type) {
	case *net.TCPConn:
		return &watchedTCP{nc, w.handled}, nil
	case tryWriter:
		return &watchedTryWriter{nc, w.handled}, nil
	}
	return &watchedConn{nc, w.handled}, nil
}

func (w watched) dial(ctx context.Context, endpoint string) (net.Conn, error) {
	if w.Network != nil {
		return w.Network.Dial(ctx, endpoint)
	}
	address, ok := strings.CutPrefix(endpoint, "tcp://")
	if !ok {
		return nil, fmt.Errorf("unsupported endpoint %q: use tcp://HOST:PORT", endpoint)
	}
	// A vanished broker is found by its silence within four heartbeats; this is for
	// what the kernel holds.
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: time.Second, Count: 3}}
	return d.DialContext(ctx, "tcp", address)
}

type watchedConn struct {
	net.Conn
	handled func()
}

func (c *watchedConn) Read(p []byte) (int, error) {
	c.handled()
	return c.Conn.Read(p)
}

type watchedTCP struct {
	*net.TCPConn
	handled func()
}

func (c *watchedTCP) Read(p []byte) (int, error) {
	c.handled()
	return c.TCPConn.Read(p)
}

// tryWriter is a connection in memory that can write without waiting.
type tryWriter interface {
	net.Conn
	TryWrite(p []byte) (int, error)
}

type watchedTryWriter struct {
	tryWriter
	handled func()
}

func (c *watchedTryWriter) Read(p []byte) (int, error) {
	c.handled()
	return c.tryWriter.Read(p)
}

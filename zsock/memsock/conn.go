package memsock

import (
	"net"
	"sync"
	"syscall"
	"time"
)

// Conn is one end of a connection. Each direction holds 64 KiB before its writer
// waits. Closing with unread octets does not reset the other end: [Net.Reset] does.
type Conn struct {
	net           *Net
	pair          *pair
	in, out       *stream
	local, remote addr

	once      sync.Once
	noMoreIn  bool // guarded by in.mu
	noMoreOut bool // guarded by out.mu
}

var _ net.Conn = (*Conn)(nil)

// Read waits for octets and returns what has arrived.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.in.Read(p, &c.noMoreIn)
	return n, c.wrap("read", err)
}

// Write waits until p is queued.
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.out.Write(p, &c.noMoreOut, true)
	return n, c.wrap("write", err)
}

// TryWrite queues what there is room for and never waits; n may be 0.
func (c *Conn) TryWrite(p []byte) (int, error) {
	n, err := c.out.Write(p, &c.noMoreOut, false)
	return n, c.wrap("write", err)
}

// wrap keeps io.EOF bare, as package net does.
func (c *Conn) wrap(op string, err error) error {
	switch err {
	case nil:
		return nil
	case net.ErrClosed, syscall.EPIPE, syscall.ECONNRESET:
		return &net.OpError{Op: op, Net: "mem", Source: c.local, Addr: c.remote, Err: err}
	default:
		return err
	}
}

// Close ends both directions. What was written still arrives.
func (c *Conn) Close() error {
	c.once.Do(func() {
		c.in.mu.Lock()
		c.noMoreIn = true
		c.in.mu.Unlock()
		c.out.mu.Lock()
		c.noMoreOut = true
		c.out.mu.Unlock()
		_ = c.SetDeadline(time.Time{})
		c.in.abandon()
		c.out.finish()

		c.net.mu.Lock()
		defer c.net.mu.Unlock()
		if c.pair.open--; c.pair.open == 0 {
			delete(c.net.conns, c.pair)
		}
	})
	return nil
}

// CloseWrite ends the outgoing direction; the other end reads end of stream.
func (c *Conn) CloseWrite() error {
	c.out.finish()
	return nil
}

func (c *Conn) reset() {
	c.in.fail(syscall.ECONNRESET)
	c.out.fail(syscall.ECONNRESET)
	_ = c.Close()
}

// LocalAddr is HOST:PORT, or the name of an inproc endpoint.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is HOST:PORT, or the name of an inproc endpoint.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline sets both deadlines; a time that has passed wakes who waits.
func (c *Conn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// SetReadDeadline bounds Read.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.read, t)
	return nil
}

// SetWriteDeadline bounds Write.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.write, t)
	return nil
}

package lineclient

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/mdmesh/mdmesh/services/ingest/record"
)

// chunk is about how many octets go out in one write.
const chunk = 32 << 10

// maxAnswer is the longest answer read, in octets; ingest's are far shorter.
const maxAnswer = 16 << 10

// lastWords is how long answers are read after writing has failed.
const lastWords = time.Second

// errUnasked: ingest answers lines, so an answer to none means that the two ends
// no longer agree on which answer belongs to which line.
var errUnasked = errors.New("answer without a line")

// connect lives one connection: it dials, then writes the window from its oldest
// record on while a second goroutine reads the answers. It returns why the
// connection ended, never nil, and leaves no goroutine behind.
func (c *Client) connect(ctx context.Context) error {
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	conn, err := c.cfg.Dial(dialing, c.address)
	cancel()
	if err != nil {
		return fmt.Errorf("connect to ingest: %w", err)
	}
	c.begin()
	c.cfg.Logger.Debug("connected to ingest", "to", c.address)

	ctx, end := context.WithCancelCause(ctx)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	read := make(chan struct{})
	go func() {
		defer close(read)
		end(c.read(conn))
	}()
	failed := c.write(ctx, conn)
	if c.stalled() {
		end(failed)
	}
	// Answers, or ingest's reason for closing, may still be on their way.
	_ = conn.SetReadDeadline(time.Now().Add(lastWords))
	<-read
	end(failed)
	if stop() {
		_ = conn.Close()
	}
	c.mu.Lock()
	c.stats.Connected = false
	c.mu.Unlock()
	return context.Cause(ctx)
}

// begin rewinds to the oldest record without an answer.
func (c *Client) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Connected = true
	c.stats.Connections++
	c.again = max(c.again, c.written)
	c.written = c.answered
}

// write sends what is in the window and waits for more, until ctx ends or the
// connection fails. Its timer is also what notices that no answer comes.
func (c *Client) write(ctx context.Context, conn net.Conn) error {
	var watch <-chan time.Time
	if c.cfg.GiveUp > 0 {
		ticker := time.NewTicker(max(c.cfg.GiveUp/4, time.Millisecond))
		defer ticker.Stop()
		watch = ticker.C
	}
	buf := make([]byte, 0, chunk)
	for {
		buf = c.next(buf[:0])
		if len(buf) > 0 {
			if err := conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
				return fmt.Errorf("write to ingest: %w", err)
			}
			if _, err := conn.Write(buf); err != nil {
				return fmt.Errorf("write to ingest: %w", err)
			}
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.more:
		case <-watch:
			if c.stalled() {
				return errors.New("connected, but lines stay unanswered")
			}
		}
	}
}

// next appends the lines that are due on this connection, a chunk of them at most.
func (c *Client) next(buf []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.written < c.accepted && len(buf) < chunk {
		buf = append(buf, c.lines[c.written%uint64(c.cfg.Window)]...)
		if c.written < c.again {
			c.stats.Resent++
		}
		c.written++
	}
	return buf
}

// read takes answers off the connection until it ends.
func (c *Client) read(conn net.Conn) error {
	answers := bufio.NewReaderSize(conn, maxAnswer)
	for {
		line, err := answers.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("read from ingest: %w", err)
		}
		a, err := record.ParseAnswer(line)
		if err != nil {
			return err
		}
		if a.Closing {
			return fmt.Errorf("ingest closed the connection: %s", a.Error)
		}
		if err := c.answer(a); err != nil {
			return err
		}
	}
}

// answer takes the oldest record out of the window and tells the owner.
func (c *Client) answer(a record.Answer) error {
	c.mu.Lock()
	if c.answered == c.written {
		c.mu.Unlock()
		return errUnasked
	}
	at := c.answered % uint64(c.cfg.Window)
	tag := c.tags[at]
	c.lines[at] = nil
	c.mu.Unlock()

	// Told before it counts as done, so that after Flush every call has been made.
	var err error
	if !a.OK {
		err = &Rejected{a.Error}
	}
	c.cfg.Answered(tag, err)

	c.mu.Lock()
	defer c.mu.Unlock()
	c.answered++
	c.progress = time.Now()
	if a.OK {
		c.stats.OK++
	} else {
		c.stats.Rejected++
	}
	if c.moved != nil {
		close(c.moved)
		c.moved = nil
	}
	return nil
}

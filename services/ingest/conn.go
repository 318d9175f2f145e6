package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/mdmesh/mdmesh/services/ingest/record"
	"github.com/mdmesh/mdmesh/store"
)

// overhead is what an unanswered line costs beside its octets, about.
const overhead = 256

// answerChunk is about how many octets of answers go out in one write.
const answerChunk = 16 << 10

// slot stands for one line whose answer has not been written. Slots are kept in
// the order of their lines, which is what keeps the answers in order.
type slot struct {
	done   bool
	answer record.Answer
	held   int64 // octets taken from Server.held
}

// conn is one client. Two goroutines own it: read takes lines and opens slots,
// write takes finished slots and writes their answers. The batcher finishes
// slots in between.
type conn struct {
	srv   *Server
	nc    net.Conn
	lines *lineReader
	lost  context.CancelFunc // ends the context of read and write: no answer can be written any more

	mu sync.Mutex
	// guards the following
	slots   []slot
	first   uint64 // number of slots[0]
	held    int64  // octets that slots hold
	noMore  bool   // read has ended: no further slot will be opened
	byUs    bool   // ... and the client may still be sending
	unheard bool   // the connection is gone: slots are dropped

	wake chan struct{} // capacity 1: the first slot is done, or noMore was set
	room chan struct{} // capacity 1: slots were taken away
}

func newConn(s *Server, nc net.Conn, lost context.CancelFunc) *conn {
	return &conn{
		srv:   s,
		nc:    nc,
		lines: newLineReader(nc, record.MaxLine, s.cfg.LineTimeout),
		lost:  lost,
		wake:  make(chan struct{}, 1),
		room:  make(chan struct{}, 1),
	}
}

// read takes lines until the client, the server or an excess of rubbish ends it.
func (c *conn) read(ctx context.Context) {
	byUs := false
	for bad := 0; ; {
		line, err := c.lines.next()
		if err != nil && !errors.Is(err, errLineTooLong) {
			byUs = c.readEnded(ctx, err)
			break
		}
		if err == nil && len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		c.srv.counts.add(countLines)
		ok, alive := c.take(ctx, line, err)
		if !alive {
			break
		}
		if ok {
			bad = 0
			continue
		}
		if bad++; bad >= c.srv.cfg.MaxBad {
			c.srv.counts.add(countConnTooBad)
			c.srv.log.Debug("closing a connection that sends no records", "remote", c.nc.RemoteAddr(), "bad-lines", bad)
			c.refuse(ctx, fmt.Sprintf("%d unreadable lines in a row; closing the connection", bad), true)
			byUs = true
			break
		}
	}
	c.mu.Lock()
	c.noMore, c.byUs = true, byUs
	c.mu.Unlock()
	notify(c.wake)
}

// readEnded sorts out why there is no next line and tells whether the client may
// still be sending.
func (c *conn) readEnded(ctx context.Context, err error) (byUs bool) {
	switch {
	case errors.Is(err, errStoppedByUs):
		return true
	case errors.Is(err, errLineTooSlow):
		c.srv.counts.add(countConnTooSlow)
		c.refuse(ctx, fmt.Sprintf("line not finished within %v; closing the connection", c.lines.timeout), true)
		return true
	case errors.Is(err, io.EOF), ctx.Err() != nil:
		return false
	}
	c.srv.counts.add(countConnBroken)
	c.lost()
	return false
}

// take opens a slot for one line and hands its record to the batcher, or answers
// at once that the line cannot be read. alive is false when the connection ended.
func (c *conn) take(ctx context.Context, line []byte, err error) (ok, alive bool) {
	var r store.Record
	if err != nil {
		c.srv.counts.add(countTooLong)
		err = fmt.Errorf("line longer than %d octets", record.MaxLine)
	} else if r, err = record.Parse(line); err != nil {
		c.srv.counts.add(countMalformed)
	}
	if err != nil {
		return false, c.refuse(ctx, err.Error(), false)
	}
	it := item{conn: c, key: key{r.Series, r.ID}, content: content{r.Time, r.Value, r.Rev}}
	if r.ID == "" { // before the first try, so that every try carries the same
		r.ID, it.key.id = c.srv.newID(), ""
	}
	it.line = record.Append(make([]byte, 0, len(line)+64), r)
	it.slot, alive = c.open(ctx, int64(len(it.line))+overhead)
	if !alive {
		return true, false
	}
	select {
	case c.srv.submit <- it:
		return true, true
	case <-ctx.Done():
		return true, false
	}
}

// refuse opens a slot that is already answered with an error.
func (c *conn) refuse(ctx context.Context, text string, closing bool) (alive bool) {
	number, alive := c.open(ctx, overhead)
	if alive {
		c.finish(number, record.Answer{Error: text, Closing: closing})
	}
	return alive
}

// open adds a slot. It blocks while the connection or the server holds as much
// as it may, which is what slows a sender down.
func (c *conn) open(ctx context.Context, held int64) (number uint64, alive bool) {
	if c.srv.held.Acquire(ctx, held) != nil {
		return 0, false
	}
	c.srv.heldNow.Add(held)
	for {
		c.mu.Lock()
		if c.unheard {
			c.mu.Unlock()
			c.srv.release(held)
			return 0, false
		}
		if c.roomLocked(held) {
			number = c.first + uint64(len(c.slots))
			c.slots = append(c.slots, slot{held: held})
			c.held += held
			c.mu.Unlock()
			return number, true
		}
		c.mu.Unlock()
		select {
		case <-c.room:
		case <-ctx.Done():
			c.srv.release(held)
			return 0, false
		}
	}
}

// roomLocked tells whether one more slot may be opened. No connection may hold
// more than a quarter of what the server may, or one could stop all others.
func (c *conn) roomLocked(held int64) bool {
	return len(c.slots) == 0 ||
		len(c.slots) < c.srv.cfg.MaxUnanswered && c.held+held <= c.srv.cfg.MaxHeld/4
}

// finish answers the line of a slot. It never blocks.
func (c *conn) finish(number uint64, a record.Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unheard {
		return
	}
	c.slots[number-c.first].done = true
	c.slots[number-c.first].answer = a
	if number == c.first {
		notify(c.wake)
	}
}

// write sends answers until the last line's is out, or nobody takes them.
func (c *conn) write(ctx context.Context) {
	defer c.abandon()
	stop := context.AfterFunc(ctx, func() { _ = c.nc.Close() })
	defer stop()
	var buf []byte
	for {
		answers, held, done := c.finished(buf[:0])
		buf = answers
		if len(buf) > 0 {
			_ = c.nc.SetWriteDeadline(time.Now().Add(c.srv.cfg.WriteTimeout))
			_, err := c.nc.Write(buf)
			c.srv.release(held)
			notify(c.room)
			if err != nil {
				c.srv.counts.add(countConnUnheard)
				return
			}
			continue
		}
		if done {
			if c.byUs {
				linger(c.nc)
			}
			return
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			return
		}
	}
}

// finished takes answered slots from the front and appends their answers, as
// many as make a chunk. held is what they held; done tells that none will come.
func (c *conn) finished(buf []byte) (answers []byte, held int64, done bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for n < len(c.slots) && c.slots[n].done && len(buf) < answerChunk {
		buf = c.slots[n].answer.Append(buf)
		held += c.slots[n].held
		n++
	}
	c.slots = c.slots[n:]
	c.first += uint64(n)
	c.held -= held
	return buf, held, c.noMore && len(c.slots) == 0
}

// abandon closes the connection and gives back what its slots hold.
func (c *conn) abandon() {
	c.lost()
	_ = c.nc.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unheard = true
	c.srv.counts.addN(countUnanswered, len(c.slots))
	c.slots = nil
	c.srv.release(c.held)
}

// gone tells that no answer can be written any more.
func (c *conn) gone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unheard
}

// unanswered counts the open slots.
func (c *conn) unanswered() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.slots)
}

// release gives octets back.
func (s *Server) release(held int64) {
	if held > 0 {
		s.heldNow.Add(-held)
		s.held.Release(held)
	}
}

// notify leaves a token in a channel of capacity 1.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

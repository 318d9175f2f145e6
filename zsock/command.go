package zsock

import "fmt"

// maxPongs bounds the PONG commands that wait for a peer which does not read, in octets.
const maxPongs = 1 << 10

// command handles a command of an open connection. An error ends it.
func (c *Conn) command(p []byte) error {
	name, data, ok := splitCommand(p)
	if !ok {
		return fmt.Errorf("%w: command name runs past the end", ErrProtocol)
	}
	switch name {
	case cmdPing:
		return c.ping(data)
	case cmdPong:
		return nil
	case cmdError:
		return peerError(data)
	case cmdSubscribe, cmdCancel:
		if c.cfg.Type.publishes() {
			c.subscription(name == cmdSubscribe, data)
			return nil
		}
	}
	c.tally.ignored.Add(1)
	return nil
}

// ping answers PING (RFC 37: time to live, context of up to 16 octets) with PONG
// and the same context, ahead of the messages that wait.
func (c *Conn) ping(data []byte) error {
	if len(data) < 2 || len(data) > 2+16 {
		return fmt.Errorf("%w: PING with %d octets", ErrProtocol, len(data))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shut {
		return nil
	}
	var room [32]byte
	body := append(append(room[:0], byte(len(cmdPong))), cmdPong...)
	body = append(body, data[2:]...)
	waiting := len(c.pongs)
	if c.pending != nil {
		waiting += c.pending.sealed
	}
	if waiting > maxPongs {
		c.tally.pongs.Add(1)
		return nil
	}
	if c.sealer != nil {
		// Boxes leave in the order in which they were sealed: no overtaking.
		ch := c.chunk()
		before := len(ch.buf)
		if err := c.sealFrame(ch, flagCommand, body); err != nil {
			return err
		}
		ch.sealed += len(ch.buf) - before
		c.octets += len(ch.buf) - before
	} else {
		before := len(c.pongs)
		c.pongs = appendFrame(c.pongs, flagCommand, body)
		c.octets += len(c.pongs) - before
	}
	c.in.desk.batch.mark(c)
	return nil
}

// subscription delivers a SUBSCRIBE or CANCEL command as the message that means
// the same (RFC 23 and 37).
func (c *Conn) subscription(on bool, prefix []byte) {
	if c.discard.Load() {
		return
	}
	n := 1 + len(prefix)
	s := newSlab(headerSize(n) + n)
	defer s.release()
	octet := byte(0)
	if on {
		octet = 1
	}
	wire := append(append(appendHeader(s.b[:0], 0, n), octet), prefix...)
	spans := [1]span{{payload: headerSize(n), end: len(wire)}}
	m := &c.in.desk.msg
	m.set(wire, nil, spans[:], int64(n))
	c.h.Message(&c.in.desk.batch, c, m)
	m.clear()
}

// isSubscription tells a message with which a subscriber subscribes or cancels.
// Others that come to a publisher are ignored, as libzmq's PUB does.
func isSubscription(frames [][]byte) bool {
	return len(frames) == 1 && len(frames[0]) > 0 && frames[0][0] <= 1
}

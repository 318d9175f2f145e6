package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"

	"github.com/mdmesh/mdmesh/store/mem"
)

const (
	sendBatch   = 500 // points in one message
	maxPrefixes = 100
	maxPrefix   = 200 // octets, as long as a series name can be
)

// client is one websocket. Its reader and its writer are a goroutine each and
// share the channels only; the cursor belongs to the writer.
type client struct {
	conn     *websocket.Conn
	cache    *mem.Cache
	news     chan struct{} // capacity 1: the cache changed
	requests chan request  // unbuffered: a client that asks faster than it reads waits

	cursor   int64    // rev: everything up to here was sent
	snapshot int64    // rev: up to here only the newest points are sent
	prefixes []string // what the client wants; none means all
}

// request is what a client said, or why it was not understood.
type request struct {
	prefixes []string
	wrong    string
}

// Messages to the client. Every connection begins with a hello; then points
// come, the newest of each series and window first, then all changes.
type (
	helloJSON struct {
		Type   string `json:"type"` // "hello"
		Rev    int64  `json:"rev"`
		Series int    `json:"series"`
	}
	pointsJSON struct {
		Type string `json:"type"` // "points"
		// Gap tells a slow client that changes were left out: ask for the history again.
		Gap    bool            `json:"gap,omitempty"`
		Points []livePointJSON `json:"points"`
	}
	subscribedJSON struct {
		Type      string   `json:"type"` // "subscribed"
		Subscribe []string `json:"subscribe"`
	}
	errorJSON struct {
		Type  string `json:"type"` // "error"
		Error string `json:"error"`
	}
)

func newClient(conn *websocket.Conn, cache *mem.Cache) *client {
	c := &client{conn: conn, cache: cache, news: make(chan struct{}, 1), requests: make(chan request)}
	conn.SetReadLimit(readLimit)
	return c
}

// serve blocks until the websocket has ended and tells why. Both goroutines are
// done when it returns.
func (c *client) serve(ctx context.Context) reason {
	own, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var writer sync.WaitGroup
	writer.Go(func() {
		if err := c.write(own); err != nil {
			cancel(why(err, reasonWriteTimeout))
			c.conn.NetConn().Close() // the reader need not wait for a peer that does not take anything
		}
	})
	err := c.read(own)
	cancel(why(err, reasonNoPong))
	writer.Wait()
	var r reason
	errors.As(context.Cause(own), &r)
	if r == "" { // the context ended by the shutdown, and nobody was faster
		r = reasonShutdown
	}
	return r
}

// why names the reason of a failed read or write.
func why(err error, timeout reason) reason {
	var closed *websocket.CloseError
	var network net.Error
	switch {
	case errors.Is(err, websocket.ErrReadLimit):
		return reasonTooBig
	case errors.As(err, &network) && network.Timeout():
		return timeout
	case errors.Is(err, websocket.ErrCloseSent): // the reader has answered the client's goodbye
		return reasonClosed
	case errors.As(err, &closed) && closed.Code != websocket.CloseAbnormalClosure:
		return reasonClosed
	default:
		return reasonLost
	}
}

// read takes messages until the connection ends, and hands them to the writer.
func (c *client) read(ctx context.Context) error {
	alive := func() { c.conn.SetReadDeadline(time.Now().Add(pongWait)) }
	alive()
	c.conn.SetPongHandler(func(string) error { alive(); return nil })
	for {
		kind, message, err := c.conn.ReadMessage()
		if err != nil {
			return err
		}
		alive()
		select {
		case c.requests <- parseRequest(kind, message):
		case <-ctx.Done():
			// only the goodbye is left: wait for the client's, so that ours is not
			// lost to a reset
			_, r, err := c.conn.NextReader()
			for err == nil {
				io.Copy(io.Discard, r)
				_, r, err = c.conn.NextReader()
			}
			return err
		}
	}
}

// parseRequest understands {"subscribe": ["prefix", ...]}.
func parseRequest(kind int, message []byte) request {
	const want = `send {"subscribe": ["series prefix", ...]}`
	if kind != websocket.TextMessage {
		return request{wrong: "binary messages are not understood: " + want + " as text"}
	}
	var asked struct {
		Subscribe *[]string `json:"subscribe"`
	}
	decoder := json.NewDecoder(strings.NewReader(string(message)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&asked); err != nil || asked.Subscribe == nil {
		return request{wrong: "message not understood: " + want}
	}
	if _, err := decoder.Token(); err != io.EOF {
		return request{wrong: "more than one value in a message: " + want}
	}
	if len(*asked.Subscribe) > maxPrefixes {
		return request{wrong: fmt.Sprintf("too many prefixes: at most %d", maxPrefixes)}
	}
	for _, prefix := range *asked.Subscribe {
		if len(prefix) > maxPrefix || !utf8.ValidString(prefix) {
			return request{wrong: fmt.Sprintf("a prefix is longer than %d octets", maxPrefix)}
		}
	}
	return request{prefixes: *asked.Subscribe}
}

// write sends until ctx ends, and then a goodbye. It returns nil if it could say
// goodbye or the reader ended first.
func (c *client) write(ctx context.Context) error {
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	c.snapshot = c.cache.Rev()
	if err := c.send(helloJSON{"hello", c.snapshot, c.cache.Stats().Series}); err != nil {
		return err
	}
	always := make(chan struct{})
	close(always)
	for more := true; ; {
		var next chan struct{} // ready while there is more to send
		if more {
			next = always
		}
		var err error
		select {
		case <-ctx.Done():
			return c.goodbye()
		case r := <-c.requests:
			err = c.answer(r)
			more = true
		case <-ping.C:
			err = c.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeWait))
		case <-c.news:
			more = true
		case <-next:
			more, err = c.sendPoints()
		}
		if err != nil {
			return err
		}
	}
}

// sendPoints sends one batch and tells whether there may be more. Whatever
// changed twice since the batch before is in it once.
func (c *client) sendPoints() (more bool, err error) {
	points, next, gap := c.cache.Since(mem.Read{
		After: c.cursor, NewestUntil: c.snapshot, Limit: sendBatch, Match: c.match(),
	})
	c.cursor = next
	if len(points) == 0 && !gap {
		return false, nil
	}
	return len(points) == sendBatch, c.send(pointsJSON{"points", gap, toLiveJSON(points)})
}

func (c *client) match() func(series string) bool {
	if len(c.prefixes) == 0 {
		return nil
	}
	return func(series string) bool {
		for _, prefix := range c.prefixes {
			if strings.HasPrefix(series, prefix) {
				return true
			}
		}
		return false
	}
}

// answer narrows or widens the subscription: the newest points of what is
// wanted now come again.
func (c *client) answer(r request) error {
	if r.wrong != "" {
		return c.send(errorJSON{"error", r.wrong})
	}
	c.prefixes = r.prefixes
	c.cursor, c.snapshot = 0, c.cache.Rev()
	return c.send(subscribedJSON{"subscribed", r.prefixes})
}

func (c *client) send(message any) error {
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	c.conn.SetWriteDeadline(time.Now().Add(writeWait))
	return c.conn.WriteMessage(websocket.TextMessage, body)
}

// goodbye asks the client to come back, and gives it a moment to agree.
func (c *client) goodbye() error {
	deadline := time.Now().Add(goodbyeWait)
	err := c.conn.WriteControl(websocket.CloseMessage,
		websocket.FormatCloseMessage(websocket.CloseGoingAway, "push is stopping, come back"), deadline)
	c.conn.SetReadDeadline(deadline)
	return err
}

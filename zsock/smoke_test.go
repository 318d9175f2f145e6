package zsock

import (
	"context"
	"testing"
	"time"
)

type echo struct{}

func (echo) Opened(*Conn) {}
func (echo) Message(b *Batch, c *Conn, m *Msg) {
	_ = c.Send(b, nil, m.Body(0))
}
func (echo) Closed(*Conn, error) {}

type collect struct {
	got    chan []string
	closed chan error
}

func (h *collect) Opened(*Conn) {}
func (h *collect) Message(b *Batch, c *Conn, m *Msg) {
	var s []string
	for _, f := range m.Frames() {
		s = append(s, string(f))
	}
	h.got <- s
}
func (h *collect) Closed(_ *Conn, err error) { h.closed <- err }

func TestSmoke(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	l, err := Listen("tcp://127.0.0.1:0", Config{Type: Router}, echo{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 2)
	go func() { done <- l.Run(ctx) }()
	h := &collect{got: make(chan []string, 10), closed: make(chan error, 1)}
	c, err := Dial(ctx, l.Endpoint(), Config{Type: Dealer, Identity: []byte("me")}, h)
	if err != nil {
		t.Fatal(err)
	}
	go func() { done <- c.Run(ctx) }()
	var b Batch
	if err := c.Send(&b, [][]byte{[]byte("a"), nil}, NewBody([]byte("b"), make([]byte, 1<<20))); err != nil {
		t.Fatal(err)
	}
	b.Flush()
	select {
	case s := <-h.got:
		if len(s) != 4 || len(s[3]) != 1<<20 {
			t.Fatal(len(s))
		}
	case <-time.After(10 * time.Second):
		t.Fatal("none")
	}
	cancel()
	t.Log(<-done, <-done, <-h.closed)
}

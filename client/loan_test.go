package client_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// deaf is a broker that reads nothing before it is told to, and keeps the bodies.
type deaf struct {
	listen chan struct{}
	bodies chan []byte
	closed chan struct{}
}

func (d *deaf) Opened(*zsock.Conn)                      { <-d.listen }
func (d *deaf) Closed(*zsock.Batch, *zsock.Conn, error) { close(d.closed) }

func (d *deaf) Message(_ *zsock.Batch, _ *zsock.Conn, m *zsock.Msg) {
	var cmd mdp.Command
	if err := mdp.Decode(m.Frames(), mdp.AtBroker, &cmd); err == nil && cmd.Kind == mdp.Request {
		d.bodies <- bytes.Clone(m.Frames()[cmd.Body])
	}
}

// A call that ends early leaves nobody who reads its body: the caller may write
// there, and the request is still what it was.
func TestEarlyEndGivesTheBodyBack(t *testing.T) {
	const calls = 40 // so many that the socket is full and the last ones wait
	d := &deaf{listen: make(chan struct{}), bodies: make(chan []byte, calls), closed: make(chan struct{})}
	l, err := zsock.Listen("tcp://127.0.0.1:0", zsock.Config{Type: zsock.Router}, d)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	c, err := client.New(client.Config{Brokers: []string{l.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, 200<<10) // no more than is sent before WELCOME
	for i := range calls {
		for n := range body {
			body[n] = byte(i)
		}
		ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		if _, err := c.Call(ctx, "echo", body); !errors.Is(err, mdp.Expired) {
			t.Errorf("call: %v, want %v", err, mdp.Expired)
		}
		cancel()
	}
	for n := range body {
		body[n] = 'x'
	}
	close(d.listen)
	_ = c.Close() // everything has left
	<-d.closed
	close(d.bodies)
	seen := 0
	for got := range d.bodies {
		if len(got) != len(body) || got[0] == 'x' || bytes.Count(got, got[:1]) != len(got) {
			t.Errorf("a request is not what was sent")
		}
		seen++
	}
	if seen == 0 {
		t.Error("no request has come")
	}
}

package client_test

import (
	"context"
	"testing"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// mirror is a broker that answers every request itself and allocates nothing.
type mirror struct {
	cmd   mdp.Command
	head  [mdp.MaxHead]byte
	frame [1][]byte
}

func (*mirror) Opened(*zsock.Conn)                      {}
func (*mirror) Closed(*zsock.Batch, *zsock.Conn, error) {}

func (e *mirror) Message(b *zsock.Batch, c *zsock.Conn, m *zsock.Msg) {
	if err := mdp.Decode(m.Frames(), mdp.AtBroker, &e.cmd); err != nil || e.cmd.Kind != mdp.Request {
		return
	}
	body := m.Body(e.cmd.Body)
	e.cmd.Kind, e.cmd.Service = mdp.Final, nil
	_ = c.Send(b, mdp.Append(e.frame[:0], e.head[:], &e.cmd), body)
}

// withMirror returns a client of a mirror, over TCP.
func withMirror(t testing.TB) *client.Client {
	l, err := zsock.Listen("tcp://127.0.0.1:0", zsock.Config{Type: zsock.Router}, new(mirror))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = l.Run(ctx)
	}()
	c, err := client.New(client.Config{Brokers: []string{l.Endpoint()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		cancel()
		<-ended
	})
	return c
}

package client_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/internal/logging"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/mdtest/scripted"
	"github.com/mdmesh/mdmesh/zsock"
)

// moving is a resolver for a host that moves.
type moving struct{ address atomic.Pointer[string] }

func (m *moving) LookupHost(context.Context, string) ([]string, error) {
	return []string{*m.address.Load()}, nil
}

// A broker that comes back under another address is found without a restart.
func TestBrokerMoves(t *testing.T) {
	t.Parallel()
	host := new(moving)
	move := func(address string) { host.address.Store(&address) }
	move("127.0.0.1")
	b := scripted.Start(t, scripted.Config{Endpoint: "tcp://127.0.0.1:0", Welcome: welcome})
	port := b.Endpoint[strings.LastIndex(b.Endpoint, ":")+1:]
	c, err := client.New(client.Config{
		Brokers: []string{"tcp://broker.test:" + port}, Timeout: 30 * time.Second,
		Network: zsock.TCP(host), Logger: logging.Test(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	m := &mesh{Client: c, t: t, brokers: []*scripted.Broker{b}}
	done := m.do(t.Context(), echoCall)
	m.request(0).Answer(mdp.Final, []byte("here"))
	(<-done).mustAnswer(t, "here")

	b.Stop()
	done = m.do(t.Context(), echoCall)
	m.brokers[0] = scripted.Start(t, scripted.Config{Endpoint: "tcp://127.0.0.2:" + port, Welcome: welcome})
	move("127.0.0.2")
	m.request(0).Answer(mdp.Final, []byte("there"))
	(<-done).mustAnswer(t, "there")
}

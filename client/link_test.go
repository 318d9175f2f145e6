package client

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/mdtest/scripted"
	"github.com/mdmesh/mdmesh/zsock"
	"github.com/mdmesh/mdmesh/zsock/memsock"
)

// A request that is handed to the warm connection just when that one ends, and not
// noticed yet, goes to the one in use instead of waiting for its deadline.
func TestRequestForAWarmConnectionThatEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		net := memsock.New()
		endpoints := []string{"tcp://one:5555", "tcp://two:5555"}
		broker := make(map[string]*scripted.Broker)
		for _, at := range endpoints {
			broker[at] = scripted.Start(t, scripted.Config{Endpoint: at, Network: net, Welcome: &mdp.WelcomeMap{Revision: mdp.Revision, HeartbeatMs: 1000}})
		}
		c, err := New(Config{Brokers: endpoints, Network: net})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		p := c.Go(t.Context(), Call{Service: "echo"}, nil)
		synctest.Wait()

		var b zsock.Batch
		c.mu.Lock()
		active := c.active
		warm := c.beside(active)
		warm.conn.Close(errors.New("it ends just now"))
		c.retry(c.slots[0].x, &b, mdp.Errorf(mdp.NotTaken, "not by me"), 0)
		c.mu.Unlock()
		b.Flush()

		inUse := broker[active.endpoint]
		inUse.Expect(mdp.Hello)
		inUse.Expect(mdp.Request)
		inUse.Expect(mdp.Request).Answer(mdp.Final, []byte("done"))
		<-p.Done()
		if p.Err != nil || string(p.Reply.Body[0]) != "done" {
			t.Errorf("%v, %v", p.Reply, p.Err)
		}
	})
}

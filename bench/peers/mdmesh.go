package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"sync"
	"time"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/worker"
	"github.com/mdmesh/mdmesh/zsock"
)

const (
	service = "echo"
	// large is the size of body from which the client gives the memory of answers back.
	// The relay's client has one buffer for all.
	large = 16 << 10
)

// mdmesh is the product: mdbroker, and the public libraries on both sides.
func mdmesh() *system {
	return &system{name: "mdmesh", broker: mdbroker, work: workNative, dial: dialNative}
}

// plain is the same broker and client, with workers that speak MDP/0.2 and so run
// one request at a time.
func plain() *system {
	return &system{name: "plain", broker: mdbroker, work: workPlain, dial: dialNative}
}

func mdbroker(string) (launch, error) {
	path, err := program("mdbroker")
	if err != nil {
		return launch{}, err
	}
	cmd := exec.Command(path, "--listen", "tcp://127.0.0.1:0", "--publish", "", "--subscribe", "", "--http", "")
	return launch{cmd: cmd, prefix: "listening role=requests endpoint="}, nil
}

func workNative(ctx context.Context, endpoint string, s shape, ready func()) error {
	w, err := worker.New(worker.Config{
		Brokers: []string{endpoint}, Service: service, Concurrency: s.Concurrency, Instances: s.Sessions,
		DrainTimeout: -1,
		Handler:      func(_ context.Context, r *worker.Request) ([][]byte, error) { return r.Body, nil },
	})
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	wg.Go(func() {
		if awaitSessions(ctx, endpoint, s.Sessions) == nil {
			ready()
		}
	})
	return w.Run(ctx)
}

// awaitSessions waits until the broker lists n worker sessions.
func awaitSessions(ctx context.Context, endpoint string, n int) error {
	c, err := client.New(client.Config{Brokers: []string{endpoint}})
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		var listed []json.RawMessage
		if reply, err := c.Call(ctx, "mmi.workers"); err == nil && len(reply) > 0 {
			if err := json.Unmarshal(reply[len(reply)-1], &listed); err != nil {
				return fmt.Errorf("read mmi.workers: %w", err)
			}
		}
		if len(listed) == n {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func dialNative(ctx context.Context, endpoint string, s shape) (func(int) error, error) {
	clients := make([]*client.Client, s.Connections)
	for i := range clients {
		var err error
		if clients[i], err = client.New(client.Config{Brokers: []string{endpoint}}); err != nil {
			return nil, err
		}
	}
	b := body(s.Size)
	check := func(answer [][]byte, err error) error {
		if err == nil && (len(answer) != 1 || len(answer[0]) != len(b)) {
			return errAnswer
		}
		return err
	}
	if len(b) < large {
		return func(lane int) error { return check(clients[lane%len(clients)].Call(ctx, service, b)) }, nil
	}
	call := client.Call{Service: service, Body: [][]byte{b}}
	return func(lane int) error {
		reply, err := clients[lane%len(clients)].Do(ctx, call)
		if err != nil {
			return err
		}
		defer reply.Release()
		return check(reply.Body, nil)
	}, nil
}

// workPlain is a minimal MDP/0.2 worker (RFC 18) on the transport alone.
func workPlain(ctx context.Context, endpoint string, s shape, ready func()) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	failed := make(chan error, s.Sessions)
	for range s.Sessions {
		c, err := zsock.Dial(ctx, endpoint, zsock.Config{Type: zsock.Dealer, Shared: true}, plainWorker{})
		if err != nil {
			return err
		}
		go func() { failed <- c.Run(ctx) }()
		if err := plainSend(c, []byte("MDPW02"), []byte{1}, []byte(service)); err != nil { // READY
			return err
		}
		go beat(ctx, c)
	}
	if err := awaitSessions(ctx, endpoint, s.Sessions); err != nil {
		return err
	}
	ready()
	err := <-failed
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// beat sends MDP/0.2 heartbeats.
func beat(ctx context.Context, c *zsock.Conn) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = plainSend(c, []byte("MDPW02"), []byte{5}) // a closed connection shows elsewhere
		case <-ctx.Done():
			return
		}
	}
}

func plainSend(c *zsock.Conn, frames ...[]byte) error {
	var b zsock.Batch
	defer b.Flush()
	return c.Send(&b, frames, zsock.Body{})
}

// plainWorker answers REQUEST (02, address, empty, body) with FINAL (04, ...).
type plainWorker struct{}

func (plainWorker) Opened(*zsock.Conn) {}

func (plainWorker) Message(b *zsock.Batch, c *zsock.Conn, m *zsock.Msg) {
	var command mdp.Command
	if err := mdp.Decode(m.Frames(), mdp.AtEndpoint, &command); err != nil || command.Kind != mdp.Request {
		return // heartbeats
	}
	head := [...][]byte{[]byte("MDPW02"), {4}, command.Address, {}}
	_ = c.Send(b, head[:], m.Body(command.Body)) // a closed connection shows elsewhere
}

func (plainWorker) Closed(*zsock.Batch, *zsock.Conn, error) {}

package actor

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mdmesh/mdmesh/client"
)

// patience is the deadline of what an actor asks: longer than any guard.
const patience = 10 * time.Minute

// dialling is how many connections of a crowd are opened at once.
const dialling = 32

// playClient sends Count calls over one connection, says so and waits for its end.
func playClient(ctx context.Context) error {
	c, err := client.New(client.Config{Brokers: brokers()})
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	for range number(Count, 1) {
		c.Go(ctx, client.Call{Service: os.Getenv(Service), Body: [][]byte{[]byte(os.Getenv(Body))}, Timeout: patience}, nil)
	}
	tell("sent")
	<-ctx.Done()
	return nil
}

// playCrowd is Count clients of one connection each. Each calls once, to connect,
// and once more at every order.
func playCrowd(ctx context.Context) error {
	clients := make([]*client.Client, number(Count, 1))
	for i := range clients {
		c, err := client.New(client.Config{Brokers: brokers()})
		if err != nil {
			return err
		}
		clients[i] = c
	}
	defer func() {
		for _, c := range clients {
			_ = c.Close()
		}
	}()
	round := func() error {
		return inTurns(len(clients), dialling, func(i int) error {
			mine := fmt.Appendf(nil, "mine %d", i)
			answer, err := clients[i].Do(ctx, client.Call{Service: os.Getenv(Service), Body: [][]byte{[]byte("echo"), mine}, Timeout: patience})
			if err == nil && (len(answer.Body) != 2 || string(answer.Body[1]) != string(mine)) {
				err = fmt.Errorf("client %d got %q", i, answer.Body)
			}
			return err
		})
	}
	return repeat(ctx, len(clients), round)
}

// repeat does a round at once and one at every order, and tells about each.
func repeat(ctx context.Context, count int, round func() error) error {
	again := orders()
	for n := 1; ; n++ {
		if err := round(); err != nil {
			return fmt.Errorf("round %d: %w", n, err)
		}
		tell("round %d answered %d", n, count)
		select {
		case <-again:
		case <-ctx.Done():
			return nil
		}
	}
}

// inTurns does n things, a few at once, and returns the first error.
func inTurns(n, atOnce int, do func(i int) error) error {
	var wg sync.WaitGroup
	var next atomic.Int64
	var first error
	var once sync.Once
	for range atOnce {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					once.Do(func() { first = err })
					return
				}
			}
		})
	}
	wg.Wait()
	return first
}

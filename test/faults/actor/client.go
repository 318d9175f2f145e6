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

// playCrowd is Count clients of one connection each. Each calls Body once, to connect,
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
	again := orders()
	for n := 1; ; n++ {
		var repeated atomic.Int64
		err := inTurns(len(clients), dialling, func(i int) error {
			attempt, err := callAsCrowd(ctx, clients[i], i)
			if attempt > 1 {
				repeated.Add(1)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("round %d: %w", n, err)
		}
		tell("round %d answered %d, again %d", n, len(clients), repeated.Load())
		select {
		case <-again:
		case <-ctx.Done():
			return nil
		}
	}
}

// callAsCrowd calls and returns the attempt that was answered.
func callAsCrowd(ctx context.Context, c *client.Client, i int) (attempt int, err error) {
	mine := fmt.Appendf(nil, "mine %d", i)
	answer, err := c.Do(ctx, client.Call{Service: os.Getenv(Service), Body: [][]byte{[]byte(os.Getenv(Body)), mine}, Timeout: patience})
	if err != nil {
		return 0, fmt.Errorf("client %d: %w", i, err)
	}
	if len(answer.Body) != 2 || string(answer.Body[1]) != string(mine) {
		return 0, fmt.Errorf("client %d got %q", i, answer.Body)
	}
	var pid int
	_, err = fmt.Sscan(string(answer.Body[0]), &pid, &attempt)
	return attempt, err
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

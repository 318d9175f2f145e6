package worker_test

import (
	"bytes"
	"context"
	"fmt"
	"log"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/worker"
)

// A worker that answers in upper case.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	endpoint, stopped := startBroker(ctx)

	w, err := worker.New(worker.Config{
		Brokers: []string{endpoint},
		Service: "upper",
		Handler: func(ctx context.Context, r *worker.Request) ([][]byte, error) {
			return [][]byte{bytes.ToUpper(r.Bytes())}, nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()

	printCall(ctx, endpoint, "upper", "hello")
	stop()
	fmt.Println(<-ended, <-stopped)
	// Output:
	// HELLO
	// <nil> <nil>
}

// startBroker stands for the mdbroker that runs somewhere.
func startBroker(ctx context.Context) (endpoint string, stopped <-chan error) {
	b, err := broker.New(broker.Config{Listen: []string{"tcp://127.0.0.1:0"}})
	if err != nil {
		log.Fatal(err)
	}
	bound, err := b.Listen()
	if err != nil {
		log.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	return bound[0].Endpoint, done
}

// printCall stands for a client somewhere else.
func printCall(ctx context.Context, endpoint, service, body string) {
	c, err := client.New(client.Config{Brokers: []string{endpoint}})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	answer, err := c.Call(ctx, service, []byte(body))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", answer[0])
}

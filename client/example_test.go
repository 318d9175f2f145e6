package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/worker"
)

// A call and its answer.
func Example() {
	endpoint, stop := startMesh()
	defer stop()

	c, err := client.New(client.Config{Brokers: []string{endpoint}})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	answer, err := c.Call(context.Background(), "upper", []byte("hello"))
	fmt.Printf("%s %v\n", answer, err)
	// Output: [HELLO] <nil>
}

// What went wrong is a status, and whether the request may have run.
func ExampleClient_Do() {
	endpoint, stop := startMesh()
	defer stop()
	c, err := client.New(client.Config{Brokers: []string{endpoint}})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()

	_, err = c.Do(context.Background(), client.Call{Service: "nobody", NoWait: true, Timeout: 10 * time.Second})
	fmt.Println(errors.Is(err, mdp.NoWorker))
	var e *mdp.Error
	fmt.Println(errors.As(err, &e) && e.MayHaveRun)
	// Output:
	// true
	// false
}

// Partials come one by one.
func ExampleClient_Stream() {
	endpoint, stop := startMesh()
	defer stop()
	c, err := client.New(client.Config{Brokers: []string{endpoint}})
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = c.Close() }()

	for part, err := range c.Stream(context.Background(), client.Call{Service: "words", Body: [][]byte{[]byte("to be or not")}}) {
		fmt.Printf("%s %v\n", part, err)
	}
	// Output:
	// [to] <nil>
	// [be] <nil>
	// [or] <nil>
	// [not] <nil>
}

// startMesh stands for the broker and the workers that run somewhere.
func startMesh() (endpoint string, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	b, err := broker.New(broker.Config{Listen: []string{"tcp://127.0.0.1:0"}})
	if err != nil {
		log.Fatal(err)
	}
	bound, err := b.Listen()
	if err != nil {
		log.Fatal(err)
	}
	go func() { ended <- b.Run(ctx) }()
	services := map[string]worker.Handler{"upper": upper, "words": words}
	for service, handler := range services {
		w, err := worker.New(worker.Config{Brokers: []string{bound[0].Endpoint}, Service: service, Handler: handler})
		if err != nil {
			log.Fatal(err)
		}
		go func() { ended <- w.Run(ctx) }()
	}
	return bound[0].Endpoint, func() {
		cancel()
		for range 1 + len(services) {
			<-ended
		}
	}
}

func upper(_ context.Context, r *worker.Request) ([][]byte, error) {
	return [][]byte{bytes.ToUpper(r.Bytes())}, nil
}

// words sends each word as a partial, and the last one as the final.
func words(ctx context.Context, r *worker.Request) ([][]byte, error) {
	all := bytes.Fields(r.Bytes())
	last := len(all) - 1
	for _, word := range all[:last] {
		if err := r.Partial(ctx, word); err != nil {
			return nil, err
		}
	}
	return all[last:], nil
}

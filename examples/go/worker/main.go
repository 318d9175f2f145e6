// A worker for the service "echo":  go run ./examples/go/worker tcp://127.0.0.1:5555
package main

import (
	"context"
	"log"
	"os"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/worker"
)

func main() {
	brokers := append(os.Args[1:], "tcp://127.0.0.1:5555")[:1]
	w, err := worker.New(worker.Config{Brokers: brokers, Service: "echo", Logger: hclog.Default(),
		Handler: func(ctx context.Context, r *worker.Request) ([][]byte, error) { return r.Body, nil }})
	if err == nil {
		err = w.Run(context.Background())
	}
	log.Fatal(err)
}

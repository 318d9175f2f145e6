// Asks the service "echo":  go run ./examples/go/client tcp://127.0.0.1:5555
package main

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"

	"github.com/mdmesh/mdmesh/client"
)

func main() {
	brokers := append(os.Args[1:], "tcp://127.0.0.1:5555")[:1]
	c, err := client.New(client.Config{Brokers: brokers})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	reply, err := c.Call(context.Background(), "echo", []byte("hello"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", bytes.Join(reply, nil))
}

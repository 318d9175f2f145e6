package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/mdmesh/mdmesh/bench/procs"
)

var errAnswer = errors.New("the answer is not what was sent")

// natsCore is core NATS: the server's own code in a process of its own, a queue
// group of subscribers, and nc.Request. Answers are sent from the subscription's
// callback, which is the fastest way there is for a service that does not wait.
func natsCore() *system {
	return &system{name: "nats", work: workNATS, dial: dialNATS,
		broker: func(string) (launch, error) {
			return launch{cmd: procs.Self("role", "broker", "nats"), prefix: "listening "}, nil
		}}
}

// serveNATS is the server's process.
func serveNATS(ctx context.Context) error {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true, MaxConn: 100_000})
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		return errors.New("nats-server is not ready after 10 s")
	}
	fmt.Println("listening", s.ClientURL())
	<-ctx.Done()
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

func workNATS(ctx context.Context, endpoint string, s shape, ready func()) error {
	for range s.Sessions {
		nc, err := nats.Connect(endpoint)
		if err != nil {
			return err
		}
		defer nc.Close()
		if _, err := nc.QueueSubscribe(service, "workers", func(m *nats.Msg) {
			_ = m.Respond(m.Data) // a closed connection shows at the client
		}); err != nil {
			return err
		}
		if err := nc.Flush(); err != nil { // the server knows of it
			return err
		}
	}
	ready()
	<-ctx.Done()
	return nil
}

func dialNATS(_ context.Context, endpoint string, s shape) (func(int) error, error) {
	conns := make([]*nats.Conn, s.Connections)
	for i := range conns {
		var err error
		if conns[i], err = nats.Connect(endpoint); err != nil {
			return nil, err
		}
	}
	b := body(s.Size)
	return func(lane int) error {
		m, err := conns[lane%len(conns)].Request(service, b, 5*time.Second)
		if err == nil && len(m.Data) != len(b) {
			err = errAnswer
		}
		return err
	}, nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/mdmesh/mdmesh/bench/sleep"
	"github.com/mdmesh/mdmesh/bench/work"
)

// serveNATS is the server's process.
func serveNATS(ctx context.Context) error {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true})
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

// workNATS is a queue group of subscribers, each with a connection of its own, that
// serve one call at once: a subscription's callback is called for one message after
// another.
func workNATS(ctx context.Context, endpoint string, ready func()) error {
	for range workers {
		nc, err := nats.Connect(endpoint)
		if err != nil {
			return err
		}
		defer nc.Close()
		sub, err := nc.QueueSubscribe(sleep.Service, "workers", func(m *nats.Msg) {
			if answer, err := work.Serve(m.Data); err == nil {
				_ = m.Respond(answer) // a closed connection shows at the caller
			}
		})
		if err != nil {
			return err
		}
		if err := sub.SetPendingLimits(-1, -1); err != nil { // nothing is dropped
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

// submitNATS publishes every call with the same inbox to answer to; answers carry the
// call's number.
func submitNATS(ctx context.Context, endpoint string, p work.Plan) ([]work.Record, error) {
	nc, err := nats.Connect(endpoint)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	r := work.NewRecords(p)
	inbox := nc.NewInbox()
	sub, err := nc.Subscribe(inbox, func(m *nats.Msg) { r.Answered(m.Data, nil) })
	if err != nil {
		return nil, err
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return nil, err
	}
	if err := nc.Flush(); err != nil {
		return nil, err
	}
	return r.Run(ctx, func(_ work.Call, question []byte) error {
		return nc.PublishRequest(sleep.Service, inbox, question)
	})
}

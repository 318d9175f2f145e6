package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/internal/notify"
	"github.com/mdmesh/mdmesh/zsock"
)

// watchdog tells the service manager, as often as it wants, that the broker serves:
// after a look at it from outside, not by a timer that goes on whatever hangs. The
// func it returns ends it; so does ctx, as the manager does not watch a drain.
func (o *options) watchdog(ctx context.Context, b *broker.Broker) (stop func()) {
	interval := notify.WatchdogInterval()
	if interval == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			err := o.examine(ctx, b, interval*2/3)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				o.cfg.Logger.Error("not well, the watchdog is not told", "error", err)
			default:
				if err := notify.Watchdog(); err != nil {
					o.cfg.Logger.Warn("service manager not told", "error", err)
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

// examine tells what is wrong with a broker that should serve: its ticker, which
// takes the mutex of every service, has not turned for patience; or a listener
// lets nobody in within that time.
func (o *options) examine(ctx context.Context, b *broker.Broker, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, l := range b.Bound() {
		if err := o.knock(ctx, l); stuck(err) {
			return fmt.Errorf("listener for %s on %s: %w", l.Role, l.Endpoint, err)
		}
	}
	if o.page != "" {
		if err := o.knockHTTP(ctx); stuck(err) {
			return fmt.Errorf("listener for http on %s: %w", o.page, err)
		}
	}
	if silent := b.Pulse(); silent > patience {
		return fmt.Errorf("the ticker has not turned for %v", silent.Round(time.Millisecond))
	}
	return nil
}

// counterparts are the sockets that each kind of listener is for.
var counterparts = map[string]zsock.SocketType{"requests": zsock.Dealer, "publish": zsock.Pub, "subscribe": zsock.Sub}

// knock connects, shakes hands, and leaves.
func (o *options) knock(ctx context.Context, l broker.Bound) error {
	c, err := zsock.Dial(ctx, l.Endpoint, zsock.Config{Type: counterparts[l.Role]}, silentHandler{})
	if err != nil {
		return err
	}
	c.Close(errEnough)
	return nil
}

func (o *options) knockHTTP(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.page+"/healthz", nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	reply, err := client.Do(req)
	if err != nil {
		return err
	}
	return reply.Body.Close()
}

// stuck tells an error of somebody who hangs, or is not there, from one of somebody
// who answers: with every connection or descriptor taken the broker turns others
// away, and a new one would help nobody.
func stuck(err error) bool {
	var timeout net.Error
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, zsock.ErrHandshakeTimeout) || errors.As(err, &timeout) && timeout.Timeout()
}

var errEnough = errors.New("only looked")

// silentHandler is of a connection that is never run.
type silentHandler struct{}

func (silentHandler) Opened(*zsock.Conn)                            {}
func (silentHandler) Message(*zsock.Batch, *zsock.Conn, *zsock.Msg) {}
func (silentHandler) Closed(*zsock.Batch, *zsock.Conn, error)       {}

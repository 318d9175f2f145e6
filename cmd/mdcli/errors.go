package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/mdp"
)

// explain gives the error of an operation, such as "call echo", its exit code and
// one line that a person can act on.
func (o *options) explain(op string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return err // Ctrl-C: package cli knows
	}
	var e *mdp.Error
	known := errors.As(err, &e)
	if errors.Is(err, client.ErrNoBroker) && (!known || !e.MayHaveRun) {
		return o.noBroker(op, err)
	}
	if !known {
		return fmt.Errorf("%s: %w", op, err)
	}
	text := e.Error()
	if e.MayHaveRun && e.Status != mdp.AppError {
		text += " (it may have run)"
	}
	return cli.Exitf(exitCode(e), "%s: %s", op, text)
}

// exitCode is what a script sees of a status.
func exitCode(e *mdp.Error) int {
	switch e.Status {
	case mdp.NoWorker, mdp.NotOffered:
		return cli.Unavailable
	case mdp.Expired, mdp.Busy, mdp.NotTaken, mdp.BrokerLost, mdp.PeerLost, mdp.WorkerLost, mdp.Cancelled, mdp.NoSpace:
		return cli.TempFail
	case mdp.BadRequest:
		return cli.Protocol
	case mdp.TooBig:
		if !e.MayHaveRun {
			return cli.Usage // the request itself, refused before it went anywhere
		}
	case mdp.Denied:
		return cli.Denied
	case mdp.Internal:
		return cli.Internal
	}
	return cli.Failed
}

// noBroker names what was tried and why the last of them did not answer.
func (o *options) noBroker(op string, err error) error {
	reason := "no answer"
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		reason = errno.Error()
	case errors.Is(err, context.DeadlineExceeded):
	default:
		// "no broker reachable: tried A, B: last error: reason"
		if _, last, found := strings.Cut(err.Error(), "last error: "); found {
			reason = last
		}
	}
	return cli.Exitf(cli.Unavailable, "%s: no broker at %s: %s; is mdbroker running there? --broker names others",
		op, strings.Join(o.brokers.List, ", "), reason)
}

// lateness asks whether anybody offers the service that did not answer in time, and
// adds to err what was found. A broker that does not answer this changes nothing.
func (o *options) lateness(ctx context.Context, c *client.Client, service string, err error) error {
	if !errors.Is(err, mdp.Expired) || ctx.Err() != nil {
		return o.explain("call "+service, err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	found, ask := c.Call(ctx, "mmi.service", []byte(service))
	if ask == nil && len(found) == 1 && string(found[0]) == "404" {
		return cli.Exitf(cli.TempFail, "call %s: no answer within %v: no worker offers it; start one, or see mdcli services", service, o.timeout)
	}
	return cli.Exitf(cli.TempFail, "call %s: no answer within %v; it may have run, or run yet; --timeout gives it longer", service, o.timeout)
}

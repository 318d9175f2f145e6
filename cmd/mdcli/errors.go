package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
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
	if errors.Is(err, client.ErrNoBroker) && (!known || !e.MayHaveRun && e.Status != mdp.Denied) {
		return o.noBroker(op, err)
	}
	if !known {
		return fmt.Errorf("%s: %w", op, err)
	}
	text := e.Error()
	if e.MayHaveRun && e.Status != mdp.AppError {
		text += " (it may have run)"
	}
	if e.Status == mdp.TooBig && !e.MayHaveRun {
		text += "; bounds are mdbroker's --max-message, and 64MiB of mdcli"
	}
	return cli.Exitf(exitCode(e), "%s: %s", op, text)
}

// failure is what -o json prints of a call that was not answered.
type failure struct {
	Service    string `json:"service,omitempty"`
	ID         string `json:"id,omitempty"`
	Status     string `json:"status"` // as in docs/PROTOCOL.md, or NO_BROKER
	Text       string `json:"text"`
	MayHaveRun bool   `json:"may_have_run"`
	Attach     string `json:"attach,omitempty"` // for mdcli attach
}

// failed says with -o json, too, how a call ended, and where its answer will be if it
// goes on. It returns explained.
func (o *options) failed(service string, err, explained error, ticket string) error {
	if ticket != "" {
		fmt.Fprintf(o.talk, "it may go on; its answer: mdcli attach %s\n", ticket)
	}
	if o.output == table {
		return explained
	}
	f := failure{Service: service, Status: mdp.Internal.String(), Text: explained.Error(), Attach: ticket}
	var ours *client.Error
	if errors.As(err, &ours) {
		f.ID = ours.ID.String()
	}
	var e *mdp.Error
	switch {
	case errors.As(err, &e):
		f.Status, f.MayHaveRun = e.Status.String(), e.MayHaveRun
	case errors.Is(err, client.ErrNoBroker):
		f.Status = "NO_BROKER"
	}
	return errors.Join(explained, o.encode(f))
}

// exitCode is what a script sees of a status.
func exitCode(e *mdp.Error) int {
	switch e.Status {
	case mdp.NoWorker, mdp.NotOffered:
		return cli.Unavailable
	case mdp.Running, mdp.Expired, mdp.Busy, mdp.NotTaken, mdp.BrokerLost, mdp.PeerLost, mdp.WorkerLost, mdp.Cancelled, mdp.NoSpace:
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

// misfit is what went wrong in a handshake with something that speaks, but not as a
// broker does for clients; "" for other errors.
func misfit(err error) string {
	for _, e := range []error{zsock.ErrVersion, zsock.ErrMechanism, zsock.ErrMetadata, zsock.ErrSocketType, zsock.ErrPeerError} {
		if errors.Is(err, e) {
			text := err.Error()
			return text[strings.LastIndex(text, "zsock: ")+len("zsock: "):]
		}
	}
	return ""
}

// noBroker names what was tried and why the last of them did not answer. Where
// something else answers in a broker's place, that is what is wrong.
func (o *options) noBroker(op string, err error) error {
	at := strings.Join(o.brokers.List, ", ")
	if text := misfit(err); text != "" {
		return cli.Exitf(cli.Protocol, "%s: no broker takes requests at %s: %s; is it another port of one? See mdbroker's --listen", op, at, text)
	}
	if who := cli.Strangers(o.brokers.List); len(who) > 0 {
		return cli.Exitf(cli.Protocol, "%s: no broker at %s: %s; --broker names others", op, at, strings.Join(who, ", "))
	}
	if errors.Is(err, fs.ErrPermission) {
		return cli.Exitf(cli.Denied, "%s: permission denied at %s: a socket file is for its owner, and the group that mdbroker's --listen names", op, at)
	}
	reason := "no answer"
	var errno syscall.Errno
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		reason = "no such host: " + dns.Name
	case errors.As(err, &errno):
		reason = errno.Error()
	case errors.Is(err, context.DeadlineExceeded):
	default:
		// "no broker reachable: tried A, B: last error: reason"
		if _, last, found := strings.Cut(err.Error(), "last error: "); found {
			reason = last
		}
	}
	return cli.Exitf(cli.Unavailable, "%s: no broker at %s: %s; is mdbroker running there? --broker names others", op, at, reason)
}

// lateness explains an error of a call. For one that came too late, or for want of a
// worker, it asks whether anybody offers the service, and what else is offered under
// a name like it. A broker that does not answer this changes nothing.
func (o *options) lateness(ctx context.Context, c *client.Client, service string, err error) error {
	op := "call " + service
	late, nobody := errors.Is(err, mdp.Expired), errors.Is(err, mdp.NoWorker)
	if !late && !nobody || ctx.Err() != nil {
		return o.explain(op, err)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if nobody {
		explained := o.explain(op, err)
		return cli.Exitf(cli.Code(explained), "%w%s", explained, nearby(ctx, c, service))
	}
	found, ask := c.Call(ctx, "mmi.service", []byte(service))
	if ask == nil && len(found) == 1 && string(found[0]) == "404" {
		hint := nearby(ctx, c, service)
		if hint == "" {
			hint = "; start one, or see mdcli services"
		}
		return cli.Exitf(cli.TempFail, "%s: no answer within %v: no worker offers it%s", op, o.timeout, hint)
	}
	var e *mdp.Error
	if errors.As(err, &e) && !e.MayHaveRun {
		return cli.Exitf(cli.TempFail, "%s: no answer within %v: it waited for a worker, and did not run; --timeout gives it longer", op, o.timeout)
	}
	return cli.Exitf(cli.TempFail, "%s: no answer within %v; it may have run, or may still be running; --timeout gives it longer", op, o.timeout)
}

// nearby asks what is offered and says which names are like service.
func nearby(ctx context.Context, c *client.Client, service string) string {
	reply, err := c.Call(ctx, "mmi.services")
	var offered []serviceRow
	if err != nil || len(reply) != 1 || json.Unmarshal(reply[0], &offered) != nil {
		return ""
	}
	var names []string
	for _, s := range offered {
		if s.Name != service && s.Workers+s.Peers > 0 {
			names = append(names, s.Name)
		}
	}
	return didYouMean(service, names)
}

// didYouMean is empty, or "; did you mean echo?".
func didYouMean(name string, words []string) string {
	near := cli.Near(name, words)
	for i, word := range near {
		near[i] = cell(word)
	}
	if len(near) == 0 {
		return ""
	}
	return "; did you mean " + strings.Join(near, " or ") + "?"
}

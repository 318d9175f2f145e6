package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/mdp"
)

// askAgain is how often attach asks for an answer that is not there yet.
const askAgain = 200 * time.Millisecond

// leftBehind is the ticket of a detached call that goes on without mdcli, or may, as
// its broker was lost: the id, and the instance that asked, by which the broker knows
// whose it is. It is empty for calls that are over.
func leftBehind(call client.Call, instance string, err error) string {
	var ours *client.Error
	var e *mdp.Error
	if !call.Detached || !errors.As(err, &ours) || !errors.As(err, &e) || !e.MayHaveRun {
		return ""
	}
	if e.Status != mdp.Cancelled && e.Status != mdp.BrokerLost {
		return ""
	}
	return ours.ID.String() + "." + instance
}

// readTicket takes apart what leftBehind made.
func readTicket(ticket string) (id mdp.RequestID, instance string, err error) {
	text, instance, _ := strings.Cut(ticket, ".")
	id, err = mdp.ParseRequestID(text)
	if err != nil || instance == "" {
		return id, "", cli.Exitf(cli.Usage, "attach: %q is no ticket: give what mdcli call --detach said when it was ended", ticket)
	}
	return id, instance, nil
}

func (o *options) attach() *cobra.Command {
	return &cobra.Command{
		Use:   "attach TICKET",
		Short: "Wait for the answer of a call that was left",
		Long: `attach waits for the answer of an mdcli call --detach that was ended early, or has lost
its broker, and has said the TICKET, and prints the answer as call does. Whoever has
the ticket can have the answer. It is kept for a minute, by the broker that had the call.

Exit codes: 0 answered; 1 the service answered an error, or nobody knows the call: it
was over for more than a minute, or its broker is gone; 64 no such ticket can be; 69
no broker; 75 not done within --timeout, or the call's own --timeout has ended it.`,
		Example: `  mdcli call --detach --timeout 10m report 2026 >report.pdf
  mdcli attach --timeout 10m 9f3c510e77a2d4180000000000000001.KX3V... >report.pdf`,
		ValidArgsFunction: cobra.NoFileCompletions,
		Args:              arguments(1, 1, "give the ticket: mdcli attach TICKET"),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, instance, err := readTicket(args[0])
			if err != nil {
				return err
			}
			return o.runAttach(cmd.Context(), id, instance)
		},
	}
}

func (o *options) runAttach(ctx context.Context, id mdp.RequestID, instance string) error {
	c, err := o.connectAs(instance)
	if err != nil {
		return err
	}
	defer c.Close()
	until := time.NewTimer(o.timeout)
	defer until.Stop()
	again := time.NewTicker(askAgain)
	defer again.Stop()
	for {
		reply, err := c.Attach(ctx, id)
		if err == nil {
			return o.printReply("", reply)
		}
		if !errors.Is(err, mdp.Running) {
			return o.failed("", err, o.explain("attach", err), "")
		}
		select {
		case <-again.C:
		case <-until.C:
			late := cli.Exitf(cli.TempFail, "attach: not done within %v: it still runs, or waits for a worker; --timeout waits longer", o.timeout)
			return o.failed("", err, late, "")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

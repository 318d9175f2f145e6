package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/internal/logging"
	"github.com/mdmesh/mdmesh/mdp"
)

// maxAsked bounds the brokers that are asked beside the first.
const maxAsked = 64

// notAsked is the state of a request at a broker that could not be asked.
const notAsked = "not asked"

// traceOf is the question of trace, and the columns and keys of its answer.
var traceOf = listing{
	name: "trace", question: "mmi.request", short: "Find a request: who has it, and in which state",
	columns: []column{{"BROKER", "broker"}, {"STATE", "state"}, {"SERVICE", "service"}, {"ATTEMPT", "attempt"}, {"AGE_MS", "age_ms"},
		{"LEFT_MS", "left_ms"}, {"FROM", "from"}, {"HOLDERS", "holders"}, {"TEXT", "text"}},
	keys: [][2]string{
		{"broker", "that says so"}, {"state", "queued; running: a worker has it; sent: a linked broker has it;"},
		{"", "kept: detached and answered, the answer waits for its client;"}, {"", "given up: no worker survived it; none: not known there;"},
		{"", "unknown: too many requests to look at all; not asked: see text"},
		{"service", "it is for"}, {"attempt", "the latest handed out, or the next one"}, {"age_ms", "since it entered the mesh, or was given up"},
		{"left_ms", "of its deadline; of kept: until it is dropped"}, {"octets", "it takes up"}, {"once", "true: runs at most once"},
		{"detached", "true: goes on without its client"}, {"from", "who asked that broker"}, {"holders", "workers and brokers that have it"},
		{"status", "of the kept answer, if an error"}, {"text", "the error, why it was given up, or why a broker was not asked"},
	},
}

func (o *options) trace() *cobra.Command {
	return &cobra.Command{
		Use:   "trace ID",
		Short: traceOf.short,
		Long: traceOf.short + `. ID are 32 hex digits: the "id" of mdcli -o json call and of mdcli
poison, MD_REQUEST_ID of a program that exec runs, the "request" of log lines.

It asks the broker and those linked with it, as far as they advertise where (see mdcli
brokers). What was answered, or dropped, is known to nobody: brokers keep no history,
but for detached answers (a minute) and the last requests given up.

The table shows the main columns. -o json is one list, -o jsonl one object a line, with
these keys, to which more may be added:

` + traceOf.describeKeys() + `

Exit codes: 0 somebody knows the request; 1 nobody does; 64 no such ID can be; 69 no broker.`,
		Example: `  mdcli trace 9f3c510e77a2d4180000000000000001
  mdcli -o json trace $(mdcli -o json poison | jq -r '.[-1].id')`,
		ValidArgsFunction: firstArgument(o.completeNames("mmi.poison", "id")),
		Args:              arguments(1, 1, "name the request: mdcli trace ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := mdp.ParseRequestID(args[0]); err != nil {
				return cli.Exitf(cli.Usage, "trace: %q is no request id: give 32 hex digits", args[0])
			}
			return o.runTrace(cmd.Context(), args[0])
		},
	}
}

func (o *options) runTrace(ctx context.Context, id string) error {
	c, err := o.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	others, err := linkedWith(ctx, c)
	if err != nil {
		return o.explain("trace", err)
	}
	rows, err := askTrace(ctx, c, id)
	if err != nil {
		return o.explain("trace", err)
	}
	answers := make([][]map[string]any, len(others))
	var wg sync.WaitGroup
	for i, b := range others {
		wg.Go(func() { answers[i] = o.traceAt(ctx, b, id) })
	}
	wg.Wait()
	for _, more := range answers {
		rows = append(rows, more...)
	}
	if err := o.print(rows, traceOf.columns); err != nil {
		return err
	}
	for _, row := range rows {
		switch row["state"] {
		case "none", "unknown", notAsked:
		default:
			return nil
		}
	}
	return cli.Exitf(cli.Failed, "trace: no broker asked knows it: it is answered, was dropped, or never came")
}

// brokerRow is a line of mmi.brokers.
type brokerRow struct {
	Name      string   `json:"name"`
	Self      bool     `json:"self"`
	Endpoints []string `json:"endpoints"`
}

// linkedWith lists the other brokers that the one asked knows.
func linkedWith(ctx context.Context, c *client.Client) (others []brokerRow, err error) {
	reply, err := c.Call(ctx, "mmi.brokers")
	if err != nil {
		return nil, fmt.Errorf("ask mmi.brokers: %w", err)
	}
	var all []brokerRow
	if len(reply) != 1 || json.Unmarshal(reply[0], &all) != nil {
		return nil, notListing("mmi.brokers")
	}
	for _, b := range all {
		if !b.Self && len(others) < maxAsked {
			others = append(others, b)
		}
	}
	return others, nil
}

// askTrace asks the broker that c is connected to.
func askTrace(ctx context.Context, c *client.Client, id string) ([]map[string]any, error) {
	reply, err := c.Call(ctx, traceOf.question, []byte(id))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", traceOf.question, err)
	}
	rows, err := decode(reply)
	if err != nil {
		return nil, notListing(traceOf.question)
	}
	return rows, nil
}

// traceAt asks another broker, in a session of its own. What keeps it from answering is
// a row, too: the others' answers are worth as much.
func (o *options) traceAt(ctx context.Context, b brokerRow, id string) []map[string]any {
	failed := func(why string) []map[string]any {
		return []map[string]any{{"broker": b.Name, "state": notAsked, "text": why}}
	}
	if len(b.Endpoints) == 0 {
		return failed("it advertises no endpoint")
	}
	c, err := client.New(client.Config{Brokers: b.Endpoints, Timeout: o.timeout, Logger: logging.New("mdcli")})
	if err != nil {
		return failed(err.Error())
	}
	defer c.Close()
	rows, err := askTrace(ctx, c, id)
	if err != nil {
		return failed(err.Error())
	}
	for _, row := range rows {
		if row["broker"] != b.Name { // it was lost, and the client went where else it was told
			return failed("another broker answered in its place")
		}
	}
	return rows
}

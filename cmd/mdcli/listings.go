package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/mdp"
)

// listing is one question to the broker and the columns people see of the answer.
type listing struct {
	name, question, short string
	columns               []column
}

// column is a heading and the JSON key below it.
type column struct{ heading, key string }

var allListings = []listing{
	{"services", "mmi.services", "List services: workers, queue, what happened so far", []column{
		{"SERVICE", "name"}, {"WORKERS", "workers"}, {"IDLE", "idle"}, {"QUEUE", "queue"}, {"RUNNING", "running"}, {"PEERS", "peers"},
		{"MEAN_US", "mean_us"}, {"ANSWERED", "answered"}, {"FAILED", "failed"}, {"REDELIVERED", "redelivered"}}},
	{"workers", "mmi.workers", "List worker sessions", []column{
		{"SERVICE", "service"}, {"REMOTE", "remote"}, {"DIALECT", "dialect"}, {"HOST", "host"}, {"PID", "pid"}, {"SCOPE", "scope"},
		{"CONCURRENCY", "concurrency"}, {"RUNNING", "running"}}},
	{"brokers", "mmi.brokers", "List the broker asked and those linked with it", []column{
		{"NAME", "name"}, {"SELF", "self"}, {"ENDPOINTS", "endpoints"}, {"PUBLISH", "publish"}, {"SUBSCRIBE", "subscribe"}}},
	{"peers", "mmi.peers", "List links to other brokers", []column{
		{"NAME", "name"}, {"ENDPOINT", "endpoint"}, {"STATE", "state"}, {"RTT_US", "rtt_us"}, {"SINCE_MS", "since_ms"}, {"ERROR", "error"}}},
}

func (o *options) listings() []*cobra.Command {
	var out []*cobra.Command
	for _, l := range allListings {
		out = append(out, &cobra.Command{
			Use: l.name, Short: l.short,
			Example: "  mdcli " + l.name + "\n  mdcli -o json " + l.name,
			RunE:    func(cmd *cobra.Command, _ []string) error { return o.list(cmd.Context(), l) },
		})
	}
	return out
}

func (o *options) list(ctx context.Context, l listing) error {
	c, err := o.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	reply, err := c.Call(ctx, l.question)
	if err != nil {
		return explain(err)
	}
	var rows []map[string]any
	if len(reply) != 1 || json.Unmarshal(reply[0], &rows) != nil {
		return cli.Exitf(cli.Protocol, "the broker's answer to %s is no listing: is it a newer or older mdbroker?", l.question)
	}
	return o.print(rows, l.columns)
}

// print writes rows as the chosen form: a table for people, else all keys.
func (o *options) print(rows []map[string]any, columns []column) error {
	enc := json.NewEncoder(os.Stdout)
	switch o.output {
	case "json":
		return enc.Encode(rows)
	case "jsonl":
		for _, row := range rows {
			if err := enc.Encode(row); err != nil {
				return fmt.Errorf("write: %w", err)
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	for i, c := range columns {
		fmt.Fprint(w, c.heading, tab(i, len(columns)))
	}
	for _, row := range rows {
		for i, c := range columns {
			fmt.Fprint(w, cell(row[c.key]), tab(i, len(columns)))
		}
	}
	return w.Flush()
}

func tab(i, n int) string {
	if i == n-1 {
		return "\n"
	}
	return "\t"
}

// cell shows one value; names may hold any octets.
func cell(v any) string {
	switch v := v.(type) {
	case nil:
		return "-"
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case []any:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = cell(e)
		}
		return strings.Join(parts, ",")
	case string:
		if quoted := strconv.QuoteToGraphic(v); quoted != `"`+v+`"` {
			return quoted
		}
		if v == "" {
			return "-"
		}
		return v
	}
	return fmt.Sprint(v)
}

func errorOf(err error) (*mdp.Error, bool) {
	var e *mdp.Error
	return e, errors.As(err, &e)
}

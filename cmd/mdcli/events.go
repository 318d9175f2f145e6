package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/internal/cli"
)

func (o *options) pub() *cobra.Command {
	return &cobra.Command{
		Use:   "pub TOPIC [BODY|-]",
		Short: "Publish one event",
		Long: `pub publishes BODY (or standard input for -, or nothing) under TOPIC: to whoever
subscribed to a beginning of TOPIC, which may be nobody.`,
		Example: `  mdcli pub news/today 'all is well'
  date | mdcli pub clock -`,
		Args: arguments(1, 2, "name the topic, then the body: mdcli pub TOPIC [BODY|-]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := o.readBody(cmd.Context(), args[1:])
			if err != nil {
				return err
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			return o.explain("pub "+args[0], c.Publish(cmd.Context(), args[0], body...))
		},
	}
}

// event is what -o json and jsonl print, one object a line. Frames are base64.
type event struct {
	Topic string   `json:"topic"`
	Body  [][]byte `json:"body"`
}

func (o *options) sub() *cobra.Command {
	var count int
	cmd := &cobra.Command{
		Use:   "sub TOPIC...",
		Short: "Print events as they come, until Ctrl-C",
		Long: `sub prints one line per event: topic, then body; with -o json or jsonl one object
with "topic" and "body", frames in base64. A TOPIC is a prefix; "" is every event.
It survives restarts of the broker; what is published meanwhile is missed.`,
		Example: `  mdcli sub rollup/
  mdcli -o jsonl sub --count 10 ""`,
		Args: arguments(1, -1, `name at least one topic; "" is every event: mdcli sub TOPIC...`),
		RunE: func(cmd *cobra.Command, args []string) error {
			if count < 0 {
				return cli.Exitf(cli.Usage, "--count %d: give 0 (no end) or more", count)
			}
			return o.runSub(cmd.Context(), args, count)
		},
	}
	cmd.Flags().IntVar(&count, "count", 0, "end after this `number` of events; 0: never")
	return cmd
}

func (o *options) runSub(ctx context.Context, topics []string, count int) error {
	c, err := o.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := o.wantEvents(ctx, c); err != nil {
		return err
	}
	events, enough := context.WithCancel(ctx)
	defer enough()
	printed := 0
	var failed error
	err = c.Subscribe(events, topics, func(e client.Event) { // one at a time
		if failed != nil || count > 0 && printed == count {
			return
		}
		printed++
		if failed = o.printEvent(e); failed != nil || printed == count {
			enough()
		}
	})
	if failed != nil {
		return failed
	}
	return o.explain("sub", err) // nil after Ctrl-C or enough: both are how this ends
}

// wantEvents tells at once what Subscribe would wait for in silence: a broker, and
// one that has events.
func (o *options) wantEvents(ctx context.Context, c *client.Client) error {
	reply, err := c.Call(ctx, "mmi.brokers")
	if err != nil {
		return o.explain("sub", err)
	}
	var brokers []struct {
		Self      bool     `json:"self"`
		Subscribe []string `json:"subscribe"`
	}
	if len(reply) != 1 || json.Unmarshal(reply[0], &brokers) != nil {
		return notListing("mmi.brokers")
	}
	for _, b := range brokers {
		if b.Self && len(b.Subscribe) == 0 {
			return cli.Exitf(cli.Unavailable, "sub: the broker has no endpoint for subscribers: start it with --subscribe tcp://HOST:PORT")
		}
	}
	return nil
}

func (o *options) printEvent(e client.Event) error {
	if o.output != table {
		return o.encode(event{e.Topic, orEmpty(e.Body)})
	}
	line := append([]byte(e.Topic), ' ')
	for _, f := range e.Body {
		line = append(line, f...)
	}
	if _, err := o.out.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write the event: %w", err)
	}
	return nil
}

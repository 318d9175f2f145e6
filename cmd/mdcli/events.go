package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/internal/cli"
)

func (o *options) pub() *cobra.Command {
	return &cobra.Command{
		Use:     "pub TOPIC [BODY|-]",
		Short:   "Publish one event",
		Example: "  mdcli pub news/today 'all is well'",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			body, err := readBody(args[1:])
			if err != nil {
				return err
			}
			c, err := o.connect()
			if err != nil {
				return err
			}
			defer c.Close()
			ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
			defer cancel()
			return explain(c.Publish(ctx, args[0], body...))
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
		Long:  `sub prints one line per event: topic, then body. A TOPIC is a prefix; "" is every event.`,
		Example: `  mdcli sub rollup/
  mdcli -o jsonl sub --count 10 ""`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if count < 0 {
				return cli.Exitf(cli.Usage, "--count %d: give 0 (no end) or more", count)
			}
			return o.runSub(cmd.Context(), args, count)
		},
	}
	cmd.Flags().IntVar(&count, "count", 0, "end after this many events")
	return cmd
}

func (o *options) runSub(ctx context.Context, topics []string, count int) error {
	c, err := o.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	var mu sync.Mutex
	var printed int
	var failed error
	err = c.Subscribe(ctx, topics, func(e client.Event) {
		mu.Lock()
		defer mu.Unlock()
		if failed != nil || count > 0 && printed == count {
			return
		}
		printed++
		if failed = o.printEvent(e); failed != nil || printed == count {
			enough()
		}
	})
	mu.Lock()
	defer mu.Unlock()
	if failed != nil {
		return failed
	}
	if errors.Is(err, context.Canceled) {
		return nil // Ctrl-C, or enough: both are how this command ends
	}
	return explain(err)
}

func (o *options) printEvent(e client.Event) error {
	if o.output != "table" {
		return json.NewEncoder(os.Stdout).Encode(event{e.Topic, orEmpty(e.Body)})
	}
	line := append([]byte(e.Topic), ' ')
	for _, f := range e.Body {
		line = append(line, f...)
	}
	if _, err := os.Stdout.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write the event: %w", err)
	}
	return nil
}

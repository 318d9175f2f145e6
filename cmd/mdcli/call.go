package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/mdp"
)

func (o *options) call() *cobra.Command {
	var call client.Call
	var stream bool
	cmd := &cobra.Command{
		Use:   "call SERVICE [BODY|-]",
		Short: "Send one request and print the answer",
		Long: `call sends BODY (or standard input for -) to SERVICE and prints the answer as it
is. Exit codes: 0 answered; 1 the service answered an error; 69 no broker, or no
worker with --no-wait; 75 no answer in time, or busy.`,
		Example: `  mdcli call echo hello
  mdcli call resize - <in.png >out.png
  mdcli call --timeout 1m --once charge '{"order": 7}'`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			call.Service = args[0]
			body, err := readBody(args[1:])
			if err != nil {
				return err
			}
			call.Body = body
			if call.Detached && stream {
				return cli.Exitf(cli.Usage, "--detach and --stream exclude each other")
			}
			return o.runCall(cmd.Context(), call, stream)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&call.NoWait, "no-wait", false, "fail at once when no worker offers the service")
	f.BoolVar(&call.Once, "once", false, "run at most once: an error says whether it may have run")
	f.BoolVar(&call.Detached, "detach", false, "let it run on when this call ends early")
	f.BoolVar(&stream, "stream", false, "print partial answers as they come")
	return cmd
}

// readBody is the one body frame: the argument, standard input for "-", or none.
func readBody(args []string) ([][]byte, error) {
	switch {
	case len(args) == 0:
		return nil, nil
	case args[0] != "-":
		return [][]byte{[]byte(args[0])}, nil
	}
	body, err := io.ReadAll(os.Stdin)
	if err != nil {
		return nil, fmt.Errorf("read standard input: %w", err)
	}
	return [][]byte{body}, nil
}

// answer is what -o json prints. Frames are base64.
type answer struct {
	Service  string     `json:"service"`
	ID       string     `json:"id,omitempty"`
	Attempt  int        `json:"attempt,omitempty"`
	Partials [][][]byte `json:"partials,omitempty"`
	Body     [][]byte   `json:"body"`
}

func (o *options) runCall(ctx context.Context, call client.Call, stream bool) error {
	c, err := o.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	if stream {
		return o.printStream(ctx, c, call)
	}
	reply, err := c.Do(ctx, call)
	if err != nil {
		return explain(describe(err))
	}
	if o.output == "table" {
		for _, p := range reply.Partials {
			if err := writeFrames(p); err != nil {
				return err
			}
		}
		return writeFrames(reply.Body)
	}
	return json.NewEncoder(os.Stdout).Encode(answer{call.Service, reply.ID.String(), reply.Attempt, reply.Partials, orEmpty(reply.Body)})
}

func (o *options) printStream(ctx context.Context, c *client.Client, call client.Call) error {
	for frames, err := range c.Stream(ctx, call) {
		if err != nil {
			return explain(describe(err))
		}
		if o.output == "table" {
			err = writeFrames(frames)
		} else {
			err = json.NewEncoder(os.Stdout).Encode(answer{Service: call.Service, Body: orEmpty(frames)})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func orEmpty(frames [][]byte) [][]byte {
	if frames == nil {
		return [][]byte{}
	}
	return frames
}

// describe adds what the error says about the request having run.
func describe(err error) error {
	if e, ok := errorOf(err); ok && e.MayHaveRun && e.Status != mdp.AppError {
		return fmt.Errorf("%w (it may have run)", err)
	}
	return err
}

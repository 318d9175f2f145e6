package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/internal/cli"
)

func (o *options) call() *cobra.Command {
	var call client.Call
	var stream bool
	cmd := &cobra.Command{
		Use:   "call SERVICE [BODY|-]",
		Short: "Send one request and print the answer",
		Long: `call sends BODY (or standard input for -, or nothing) to SERVICE and prints the
answer as it is; a terminal gets a newline behind it. With -o json the answer is one
object with "service", "id", "attempt", "body" and, if there were any, "partials";
frames are base64. An error is one object, too, beside the line on standard error:
"service", "id", "status", "text", "may_have_run" and, of a detached call, "attach".

With --detach the call goes on when you end mdcli (Ctrl-C), which then says by which
"mdcli attach" the answer can be had. Its --timeout holds all the same: what is not
answered by then is ended.

Exit codes: 0 answered; 1 the service answered an error; 69 no broker, or no worker
with --no-wait; 75 no answer in time, busy, or the worker was lost: it may have run,
and then the text and "may_have_run" say so; 76 something else than a broker answers
there; 77 the broker refuses.`,
		Example: `  mdcli call echo hello
  mdcli call resize - <in.png >out.png
  mdcli call --timeout 1m --once charge '{"order": 7}'
  mdcli -o json call echo hello`,
		ValidArgsFunction: firstArgument(o.completeNames("mmi.services", "name")),
		Args:              arguments(1, 2, "name the service, then the body: mdcli call SERVICE [BODY|-]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := serviceName(args[0]); err != nil {
				return err
			}
			if call.Detached && stream {
				return cli.Exitf(cli.Usage, "--detach and --stream exclude each other")
			}
			body, err := o.readBody(cmd.Context(), args[1:])
			if err != nil {
				return err
			}
			call.Service, call.Body = args[0], body
			return o.runCall(cmd.Context(), call, stream)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&call.NoWait, "no-wait", false, "fail at once when no worker offers the service")
	f.BoolVar(&call.Once, "once", false, "run at most once: an error says whether it may have run")
	f.BoolVar(&call.Detached, "detach", false, "let it run on, until --timeout, when mdcli is ended early: see mdcli attach")
	f.BoolVar(&stream, "stream", false, "print partial answers as they come")
	return cmd
}

// readBody is the one body frame: the argument, standard input for "-", or none. A
// wait for standard input ends with ctx; nothing can end the read itself, which is
// left behind.
func (o *options) readBody(ctx context.Context, args []string) ([][]byte, error) {
	switch {
	case len(args) == 0:
		return nil, nil
	case args[0] != "-":
		return [][]byte{[]byte(args[0])}, nil
	}
	var body []byte
	done := make(chan error, 1)
	go func() {
		var err error
		body, err = io.ReadAll(o.in)
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		return [][]byte{body}, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("read standard input: %w", ctx.Err())
	}
}

// answer is what -o json prints. Frames are base64.
type answer struct {
	Service  string     `json:"service,omitempty"`
	ID       string     `json:"id,omitempty"`
	Attempt  int        `json:"attempt,omitempty"`
	Partials [][][]byte `json:"partials,omitempty"`
	Body     [][]byte   `json:"body"`
}

func (o *options) runCall(ctx context.Context, call client.Call, stream bool) error {
	instance := ""
	if call.Detached {
		instance = rand.Text()
	}
	c, err := o.connectAs(instance)
	if err != nil {
		return err
	}
	defer c.Close()
	if stream {
		return o.printStream(ctx, c, call)
	}
	reply, err := c.Do(ctx, call)
	if err != nil {
		return o.failed(call.Service, err, o.lateness(ctx, c, call.Service, err), leftBehind(call, instance, err))
	}
	return o.printReply(call.Service, reply)
}

// printReply prints a whole answer.
func (o *options) printReply(service string, reply *client.Reply) error {
	if o.output != table {
		return o.encode(answer{service, reply.ID.String(), reply.Attempt, reply.Partials, orEmpty(reply.Body)})
	}
	for _, p := range append(reply.Partials, reply.Body) {
		if err := o.writeFrames(p); err != nil {
			return err
		}
	}
	return nil
}

// printStream prints each part as it comes; with -o json and jsonl one object each,
// the last one being the final.
func (o *options) printStream(ctx context.Context, c *client.Client, call client.Call) error {
	for frames, err := range c.Stream(ctx, call) {
		switch {
		case err != nil:
			return o.failed(call.Service, err, o.lateness(ctx, c, call.Service, err), "")
		case o.output == table:
			err = o.writeFrames(frames)
		default:
			err = o.encode(answer{Service: call.Service, Body: orEmpty(frames)})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// encode prints one JSON value on one line.
func (o *options) encode(v any) error {
	if err := json.NewEncoder(o.out).Encode(v); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

func orEmpty(frames [][]byte) [][]byte {
	if frames == nil {
		return [][]byte{}
	}
	return frames
}

package main

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/internal/cli"
)

// TestHelp: every command explains itself, with an example.
func TestHelp(t *testing.T) {
	t.Parallel()
	root := command()
	for _, c := range append(root.Commands(), root) {
		if c.Short == "" || c.Long == "" || !strings.Contains(c.Example, "mdservice") {
			t.Errorf("%s: short %q, long %.20q, example %q", c.CommandPath(), c.Short, c.Long, c.Example)
		}
	}
}

// TestUsage: what cannot work is said at once, with what to do.
func TestUsage(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"", cli.Usage, "name a command"},
		{"ingst", cli.Usage, "did you mean ingest?"},
		{"ingest x", cli.Usage, `unexpected argument "x"`},
		{"ingest --listen 0.0.0.0:0", cli.Config, "--insecure"},
		{"ingest --broker udp://127.0.0.1:1", cli.Usage, "tcp://HOST:PORT"},
		{"push --listen 0.0.0.0:0", cli.Config, "--insecure"},
		{"push --listen nonsense", cli.Usage, "HOST:PORT"},
		{"transform --concurrency 0", cli.Usage, "--concurrency 0"},
		{"transform --scope world", cli.Usage, "mesh or local"},
		{"rollup --data /dev/null/x", cli.Unavailable, "/dev/null/x"},
		{"hostmetrics --interval 0s", cli.Usage, "--interval 0s"},
	} {
		var out, talk bytes.Buffer
		args := strings.Fields(c.args)
		if !strings.Contains(c.args, "--data") && len(args) > 0 {
			args = append(args, "--data", data)
		}
		ctx, stop := context.WithTimeout(t.Context(), 30*time.Second) // what wrongly works would run for ever
		code := cli.Run(ctx, command(), args, &out, &talk)
		stop()
		if code != c.code || !strings.Contains(talk.String(), c.says) || strings.Count(talk.String(), "\n") != 1 || out.Len() > 0 {
			t.Errorf("mdservice %s: exit code %d, said %q, printed %q; want %d, %q", c.args, code, talk.String(), out.String(), c.code, c.says)
		}
	}
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/store"
	"github.com/mdmesh/mdmesh/store/sqlite"
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

// TestBadStore: what another start cannot mend has an exit code of its own.
func TestBadStore(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, sqlite.FileName), bytes.Repeat([]byte("garbage "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"transform", "rollup", "push --listen 127.0.0.1:0"} {
		var out, talk bytes.Buffer
		code := cli.Run(t.Context(), command(), append(strings.Fields(part), "--data", data), &out, &talk)
		if code != cli.Config || !strings.Contains(talk.String(), "move it away") {
			t.Errorf("mdservice %s: exit code %d, said %q", part, code, talk.String())
		}
	}
	if code := cli.Code(storeError(fmt.Errorf("rollup: %w", store.ErrUnusable))); code != cli.Config {
		t.Errorf("a store that is damaged later: exit code %d", code)
	}
}

// said calls a func for each line of a log.
type said func(line string)

func (f said) Write(line []byte) (int, error) { f(string(line)); return len(line), nil }

// TestStoreIsWaitedFor while it may yet come, and no longer than ctx.
func TestStoreIsWaitedFor(t *testing.T) {
	t.Parallel()
	inTheWay := func(t *testing.T, then func(file string)) *options {
		data := t.TempDir()
		file := filepath.Join(data, sqlite.FileName)
		if err := os.Mkdir(file, 0o700); err != nil {
			t.Fatal(err)
		}
		return &options{data: data, log: hclog.New(&hclog.LoggerOptions{Output: said(func(line string) {
			if !strings.Contains(line, "store cannot be opened, trying on") {
				t.Errorf("said %q", line)
			}
			then(file)
		})})}
	}
	o := inTheWay(t, func(file string) {
		if err := os.Remove(file); err != nil {
			t.Error(err)
		}
	})
	s, err := o.openStore(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	o = inTheWay(t, func(string) { cancel() })
	if _, err := o.openStore(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
}

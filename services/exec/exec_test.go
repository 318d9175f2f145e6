package exec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/mdtest"
	"github.com/mdmesh/mdmesh/test/meshproc"
	"github.com/mdmesh/mdmesh/worker"
)

// serve offers the program as "run" and returns a client of its broker.
func serve(t *testing.T, cfg Config, options ...func(*worker.Config)) (*mdtest.Broker, *client.Client) {
	t.Helper()
	b, _, cl := serveService(t, cfg, options...)
	return b, cl
}

func serveService(t *testing.T, cfg Config, options ...func(*worker.Config)) (*mdtest.Broker, *Service, *client.Client) {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	b := mdtest.StartBroker(t, func(c *broker.Config) { c.DrainTimeout = time.Millisecond })
	options = append(options, func(c *worker.Config) { c.DrainTimeout = -1 })
	mdtest.StartWorker(t, b, "run", s.Handle, options...)
	return b, s, mdtest.Client(t, b, func(c *client.Config) { c.Timeout = meshproc.Guard })
}

func sh(script string, args ...string) Config {
	return Config{Command: append([]string{"sh", "-c", script, "sh"}, args...)}
}

func TestReplies(t *testing.T) {
	t.Parallel()
	binary := make([]byte, 256)
	for i := range binary {
		binary[i] = byte(i)
	}
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for _, c := range []struct {
		name string
		cfg  Config
		body [][]byte
		want string
	}{
		{"a body", Config{Command: []string{"cat"}}, [][]byte{[]byte("hello")}, "hello"},
		{"no body", Config{Command: []string{"cat"}}, nil, ""},
		{"an empty body", Config{Command: []string{"cat"}}, [][]byte{{}}, ""},
		{"any octets", Config{Command: []string{"cat"}}, [][]byte{binary}, string(binary)},
		{"frames are concatenated", Config{Command: []string{"cat"}}, [][]byte{[]byte("ab"), {}, []byte("c")}, "abc"},
		{"a large body", Config{Command: []string{"cat"}}, [][]byte{large}, string(large)},
		{"arguments", Config{Command: []string{"printf", "%s-", "a b", "c"}}, nil, "a b-c-"},
		{"standard error is not the reply", sh("echo talk >&2; echo data"), nil, "data\n"},
		{"a program that does not read", Config{Command: []string{"true"}}, [][]byte{large}, ""},
		{"a program that reads a little", Config{Command: []string{"head", "-c", "3"}}, [][]byte{large}, "012"},
		{"a program that closes its input", sh("exec <&-; echo done"), [][]byte{large}, "done\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, cl := serve(t, c.cfg)
			reply, err := cl.Call(t.Context(), "run", c.body...)
			if err != nil {
				t.Fatal(err)
			}
			if len(reply) != 1 {
				t.Fatalf("%d frames, want one", len(reply))
			}
			if string(reply[0]) != c.want {
				t.Errorf("%d octets %.40q, want %d %.40q", len(reply[0]), reply[0], len(c.want), c.want)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		cfg    Config
		status mdp.Status
		text   string // the error holds it
		not    string // and not that
	}{
		{"exit code", sh("echo out; echo oops >&2; exit 3"), mdp.AppError, "sh: exit status 3: oops", "out"},
		{"nothing said", Config{Command: []string{"false"}}, mdp.AppError, "false: exit status 1", ""},
		{"a signal", sh("kill -9 $$"), mdp.AppError, "signal: killed", ""},
		{"the last words only", sh("echo FIRST >&2; head -c 9000 /dev/zero | tr '\\0' x >&2; echo LAST >&2; exit 1"), mdp.AppError, "xLAST", "FIRST"},
		{"words in no encoding", sh("printf 'bad \\377 word' >&2; exit 1"), mdp.AppError, "bad ? word", ""},
		{"too much output", Config{Command: []string{"yes"}, MaxReply: 1000}, mdp.TooBig, "yes wrote more than 1000 octets", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, cl := serve(t, c.cfg)
			_, err := cl.Call(t.Context(), "run")
			var e *mdp.Error
			if !errors.As(err, &e) || e.Status != c.status {
				t.Fatalf("error %v, want %v", err, c.status)
			}
			if !strings.Contains(e.Text, c.text) || c.not != "" && strings.Contains(e.Text, c.not) {
				t.Errorf("text %q, want %q and not %q", e.Text, c.text, c.not)
			}
			if len(e.Text) > stderrKept+100 {
				t.Errorf("text of %d octets", len(e.Text))
			}
			if !e.MayHaveRun {
				t.Error("the error does not say that the program has run")
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	_, cl := serve(t, sh(`echo "$MD_SERVICE $MD_REQUEST_ID $MD_ATTEMPT $MD_CALLER $MD_DEADLINE_MS ${HOME:+home}"`))
	reply, err := cl.Do(t.Context(), client.Call{Service: "run", Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(reply.Body[0]))
	if len(fields) < 5 {
		t.Fatalf("reply %q", reply.Body[0])
	}
	id := reply.ID.String()
	if want := []string{"run", id, "1", id[:16]}; !slices.Equal(fields[:4], want) {
		t.Errorf("environment %q, want %q", fields[:4], want)
	}
	if ms, err := strconv.Atoi(fields[4]); err != nil || ms <= 0 || ms > 20_000 {
		t.Errorf("MD_DEADLINE_MS=%s, want 1 to 20000", fields[4])
	}
	if os.Getenv("HOME") != "" && len(fields) < 6 {
		t.Error("the worker's own environment is missing")
	}
}

func TestInherited(t *testing.T) {
	t.Parallel()
	got := inherited([]string{"HOME=/", "NOTIFY_SOCKET=/run/x", "MD_DEADLINE_MS=7", "MD_BROKER=tcp://a:1", "ODD", "LISTEN_FDS=1"})
	if want := []string{"HOME=/", "MD_BROKER=tcp://a:1", "ODD"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMissingProgram(t *testing.T) {
	t.Parallel()
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		command []string
		want    string
	}{
		{nil, "add it behind --"},
		{[]string{"no-such-program-here"}, `cannot run "no-such-program-here": executable file not found`},
		{[]string{"/no/such/program"}, `cannot run "/no/such/program": no such file`},
		{[]string{plain}, "permission denied"},
	} {
		if _, err := New(Config{Command: c.command}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("New(%q): %v, want %q", c.command, err, c.want)
		}
	}
}

// TestProgramGoes: it was there when the worker started, and is not now.
func TestProgramGoes(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, cl := serve(t, Config{Command: []string{program}})
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	if _, err := cl.Call(t.Context(), "run"); !errors.Is(err, mdp.AppError) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("error %v, want APP_ERROR: no such file", err)
	}
}

// stubborn starts a child, writes both process ids to the file that is its argument
// and then ignores what can be ignored.
const stubborn = `trap '' TERM INT HUP; sleep 1000 & echo $$ $! >"$1.part"; mv "$1.part" "$1"; wait; sleep 1000`

// pids waits for the ids that a program wrote to the file.
func pids(t *testing.T, file string) (ids []int) {
	t.Helper()
	meshproc.Eventually(t, "the program runs", func() error {
		text, err := os.ReadFile(file)
		for _, f := range strings.Fields(string(text)) {
			id, _ := strconv.Atoi(f)
			ids = append(ids, id)
		}
		return err
	})
	return ids
}

func wantGone(t *testing.T, ids []int) {
	t.Helper()
	meshproc.Eventually(t, "the program and its child are gone", func() error {
		for _, id := range ids {
			if meshproc.Alive(id) {
				return fmt.Errorf("process %d of %v lives", id, ids)
			}
		}
		return nil
	})
}

// TestKilledWithItsGroup: whatever ends the request ends the program and its child.
func TestKilledWithItsGroup(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		timeout time.Duration
		end     func(cancel context.CancelFunc, b *mdtest.Broker)
		want    mdp.Status
	}{
		// The deadline must leave the program time to begin, also on a busy machine.
		{"deadline", 3 * time.Second, func(context.CancelFunc, *mdtest.Broker) {}, mdp.Expired},
		{"cancel", meshproc.Guard, func(cancel context.CancelFunc, _ *mdtest.Broker) { cancel() }, mdp.Cancelled},
		{"broker lost", meshproc.Guard, func(cancel context.CancelFunc, b *mdtest.Broker) { b.Stop(); cancel() }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "pids")
			b, cl := serve(t, sh(stubborn, file))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			failed := make(chan error, 1)
			go func() {
				_, err := cl.Do(ctx, client.Call{Service: "run", Timeout: c.timeout})
				failed <- err
			}()
			ids := pids(t, file)
			c.end(cancel, b)
			wantGone(t, ids)
			if err := <-failed; err == nil || c.want != 0 && !errors.Is(err, c.want) {
				t.Errorf("the caller got %v, want %v", err, c.want)
			}
		})
	}
}

// TestChildLeftBehind: a child that keeps the output open delays the reply no longer
// than the grace, and does not live on.
func TestChildLeftBehind(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pids")
	_, cl := serve(t, sh(`sleep 1000 & echo $! >"$1.part"; mv "$1.part" "$1"; echo done`, file))
	reply, err := cl.Call(t.Context(), "run")
	if err != nil || string(reply[0]) != "done\n" {
		t.Fatalf("reply %q, %v", reply, err)
	}
	wantGone(t, pids(t, file))
}

// TestConcurrency: two programs that wait for each other need two at once.
func TestConcurrency(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, cl := serve(t, sh(`touch "$1/$MD_REQUEST_ID"; while [ "$(ls "$1" | wc -l)" -lt 2 ]; do sleep 0.01; done`, dir),
		func(c *worker.Config) { c.Concurrency = 2 })
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if _, err := cl.Call(t.Context(), "run"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

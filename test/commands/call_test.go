package commands

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/mdmesh/mdmesh/test/meshproc"
)

func TestHello(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	startWorker(t, b, "echo")
	want(t, b, "hello", "call", "echo", "hello")
}

func TestBodies(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	startWorker(t, b, "echo")
	want(t, b, "", "call", "echo")
	want(t, b, "", "call", "echo", "")
	want(t, b, "two words\n", "call", "echo", "two words\n")
	want(t, b, "--not-a-flag", "call", "echo", "--", "--not-a-flag")
	for _, size := range []int{0, 1, 10 << 20} {
		body := make([]byte, size)
		for i := range body {
			body[i] = byte(rand.Uint32())
		}
		cmd := cli(t, b, "call", "echo", "-")
		cmd.Stdin = bytes.NewReader(body)
		if r := meshproc.Run(t, cmd); r.Code != 0 || r.Stdout != string(body) || r.Stderr != "" {
			t.Errorf("%d octets on standard input: exit code %d, %d octets back, stderr %q", size, r.Code, len(r.Stdout), r.Stderr)
		}
	}
}

func TestAnswerAsJSON(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	startWorker(t, b, "echo")
	for _, form := range []string{"json", "jsonl"} {
		cmd := cli(t, b, "-o", form, "call", "echo", "-")
		cmd.Stdin = strings.NewReader("\x00\xff")
		r := meshproc.Run(t, cmd)
		var got struct {
			Service string
			ID      string
			Attempt int
			Body    [][]byte
		}
		if err := json.Unmarshal([]byte(r.Stdout), &got); err != nil {
			t.Fatalf("-o %s: %q: %v", form, r.Stdout, err)
		}
		if got.Service != "echo" || len(got.ID) != 32 || got.Attempt != 1 || len(got.Body) != 1 || string(got.Body[0]) != "\x00\xff" {
			t.Errorf("-o %s: %+v", form, got)
		}
	}
}

func TestCallFails(t *testing.T) {
	t.Parallel()
	b := startBroker(t, "--max-message", "1MiB")
	startWorker(t, b, "exec", "--service", "bad", "--", "sh", "-c", "echo out of luck >&2; exit 7")
	startWorker(t, b, "echo", "--service", "slow", "--delay", "1m", "--drain-timeout", "0")
	for _, c := range []struct {
		name  string
		args  []string
		code  int
		parts []string
	}{
		{"no worker, no wait", []string{"call", "--no-wait", "nobody", "x"}, 69, []string{`no worker: nobody offers "nobody"`}},
		{"no worker in time", []string{"call", "--timeout", "300ms", "nobody", "x"}, 75, []string{"no answer within 300ms", "no worker offers it"}},
		{"slow worker", []string{"call", "--timeout", "300ms", "slow", "x"}, 75, []string{"no answer within 300ms", "it may have run, or may still be running"}},
		{"slow worker, streaming", []string{"call", "--stream", "--timeout", "300ms", "slow", "x"}, 75, []string{"no answer within 300ms"}},
		{"service error", []string{"call", "bad", "x"}, 1, []string{"app error", "exit status 7", "out of luck"}},
		{"empty service", []string{"call", "", "x"}, 64, []string{"service name of 0 octets"}},
		{"long service", []string{"call", strings.Repeat("s", 256), "x"}, 64, []string{"256 octets"}},
		{"no service", []string{"call"}, 64, []string{"name the service"}},
		{"stray argument", []string{"call", "echo", "two", "words"}, 64, []string{`unexpected argument "words"`, "in quotes"}},
		{"no time", []string{"call", "--timeout", "0s", "echo"}, 64, []string{"--timeout 0s"}},
		{"odd form", []string{"-o", "xml", "services"}, 64, []string{"table, json or jsonl"}},
		{"unknown command", []string{"cal"}, 64, []string{"did you mean call?"}},
		{"load without a worker", []string{"bench", "--timeout", "300ms", "nobody"}, 75, []string{"no worker offers it"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			oneLine(t, run(t, b, c.args...), c.code, c.parts...)
		})
	}
	t.Run("large body", func(t *testing.T) {
		t.Parallel()
		cmd := cli(t, b, "call", "echo", "-")
		cmd.Stdin = bytes.NewReader(make([]byte, 2<<20))
		oneLine(t, meshproc.Run(t, cmd), 64, "too big", "--max-message")
	})
}

func TestNoBroker(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"call", "echo", "x"}, {"call", "--once", "echo", "x"}, {"call", "--stream", "echo", "x"}, {"services"}, {"workers"}, {"brokers"}, {"peers"},
		{"pub", "t", "x"}, {"sub", "t"}, {"bench", "echo"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			t.Parallel()
			r := run(t, nil, append(args, "--timeout", "200ms", "--broker", "tcp://127.0.0.1:1,tcp://127.0.0.1:2")...)
			oneLine(t, r, 69, "no broker at tcp://127.0.0.1:1, tcp://127.0.0.1:2", "connection refused")
		})
	}
	for endpoint, says := range map[string]string{
		"": "tcp://HOST:PORT", "localhost": "tcp://HOST:PORT", "udp://127.0.0.1:1": "tcp://HOST:PORT", "tcp://127.0.0.1": "tcp://HOST:PORT",
		"tcp://127.0.0.1:99999": "1 to 65535", "ipc://tmp/x": "three slashes",
	} {
		oneLine(t, meshproc.Run(t, meshproc.Command(t, "mdcli", "--broker", endpoint, "services")), 64, says)
		oneLine(t, meshproc.Run(t, meshproc.Command(t, "mdworker", "--broker", endpoint, "echo")), 64, says)
	}
}

// TestBrokerFromEnvironment: the environment names the broker, the flag wins.
func TestBrokerFromEnvironment(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	worker := meshproc.Command(t, "mdworker", "echo")
	worker.Env = append(worker.Env, "MD_BROKER="+b.requests)
	meshproc.Start(t, worker).Says(t, "offering service")
	call := cli(t, nil, "call", "echo", "hi")
	call.Env = append(call.Env, "MD_BROKER="+b.requests)
	if r := meshproc.Run(t, call); r.Code != 0 || r.Stdout != "hi" {
		t.Errorf("exit code %d, stdout %q, stderr %q", r.Code, r.Stdout, r.Stderr)
	}
	call = cli(t, b, "call", "echo", "hi")
	call.Env = append(call.Env, "MD_BROKER=tcp://127.0.0.1:1")
	if r := meshproc.Run(t, call); r.Code != 0 || r.Stdout != "hi" {
		t.Errorf("with a flag: exit code %d, stdout %q, stderr %q", r.Code, r.Stdout, r.Stderr)
	}
}

// TestFailsOver: of several brokers one is enough.
func TestFailsOver(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	startWorker(t, b, "echo")
	r := run(t, nil, "--broker", "tcp://127.0.0.1:1", "--broker", b.requests, "call", "echo", "hi")
	if r.Code != 0 || r.Stdout != "hi" {
		t.Errorf("exit code %d, stdout %q, stderr %q", r.Code, r.Stdout, r.Stderr)
	}
}

// TestFullDisk: what cannot be printed is no success.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	startWorker(t, b, "echo")
	for _, args := range [][]string{{"call", "echo", "hi"}, {"services"}, {"-o", "json", "services"}} {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer full.Close()
		cmd := cli(t, b, args...)
		var talk bytes.Buffer
		cmd.Stdout, cmd.Stderr = full, &talk
		if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != 70 || !strings.Contains(talk.String(), "no space left") {
			t.Errorf("mdcli %q: %v, stderr %q; want exit code 70", args, err, talk.String())
		}
	}
}

package main

import (
	"bytes"
	"cmp"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/internal/cli"
)

// TestContract: the flags that other programs are written against, with their
// defaults, all of them on loopback.
func TestContract(t *testing.T) {
	t.Parallel()
	cmd := command()
	for flag, value := range map[string]string{
		"name": "", "listen": "tcp://127.0.0.1:5555", "publish": "tcp://127.0.0.1:5556", "subscribe": "tcp://127.0.0.1:5557",
		"http": "127.0.0.1:5580", "peer": "", "advertise": "", "heartbeat": "1s", "max-message": "64MiB",
		"foreign-ttl": "1m0s", "busy-limit": "15m0s", "drain-timeout": "10s", "max-requests": "100000", "max-bytes": "256MiB",
		"max-total-bytes": "1GiB", "max-unfinished": "1GiB", "max-unread": "1GiB", "max-services": "10000", "max-connections": "16384",
		"log-level": "info", "log-json": "false", "check-config": "false", "config": "", "insecure": "false",
	} {
		f := cmd.Flag(flag)
		switch {
		case f == nil:
			t.Errorf("no --%s", flag)
		case f.DefValue != value:
			t.Errorf("--%s is %q by default, want %q", flag, f.DefValue, value)
		}
	}
	if cmd.Short == "" || cmd.Long == "" || !strings.Contains(cmd.Example, "mdbroker") {
		t.Error("the help lacks an explanation or an example")
	}
}

// TestOpenToTheNetwork: who may reach a listener is decided by its host.
func TestOpenToTheNetwork(t *testing.T) {
	t.Parallel()
	for address, open := range map[string]bool{
		"127.0.0.1:1": false, "127.9.9.9:1": false, "localhost:0": false, "[::1]:1": false,
		"0.0.0.0:1": true, ":1": true, "[::]:1": true, "*:1": true, "10.0.0.1:1": true, "localhost.example.org:1": true,
	} {
		args := []string{"--listen", "tcp://" + address, "--check-config"}
		var out, talk bytes.Buffer
		code := cli.Run(t.Context(), command(), args, &out, &talk)
		if open && (code != cli.Config || !strings.Contains(talk.String(), "--insecure")) || !open && code != 0 {
			t.Errorf("%s: exit code %d, said %q", address, code, talk.String())
		}
		if code := cli.Run(t.Context(), command(), append(args, "--insecure"), &out, &talk); code != 0 {
			t.Errorf("%s --insecure: exit code %d", address, code)
		}
	}
}

// TestEveryBoundHasAFlag: whatever a broker can be told, a file can say.
func TestEveryBoundHasAFlag(t *testing.T) {
	t.Parallel()
	named := map[string]string{"Peers": "peer", "ForeignTTL": "foreign-ttl"} // others by their words
	inner := []string{"Logger", "Network"}
	words := regexp.MustCompile(`[A-Z][a-z]+`)
	for f := range reflect.TypeFor[broker.Config]().Fields() {
		flag := cmp.Or(named[f.Name], strings.ToLower(strings.Join(words.FindAllString(f.Name, -1), "-")))
		if !slices.Contains(inner, f.Name) && command().Flag(flag) == nil {
			t.Errorf("no --%s for %s", flag, f.Name)
		}
	}
}

// TestCheckConfig: what it prints is a file that says the same again.
func TestCheckConfig(t *testing.T) {
	t.Parallel()
	var out, talk bytes.Buffer
	args := []string{"--check-config", "--name", `a "b" c`, "--listen", "tcp://127.0.0.1:0,tcp://127.0.0.2:0", "--publish", "", "--peer", "tcp://127.0.0.1:7",
		"--max-message", "1MiB", "--max-requests", "7", "--foreign-ttl", "90s", "--insecure"}
	if code := cli.Run(t.Context(), command(), args, &out, &talk); code != 0 || talk.String() != "configuration ok\n" {
		t.Fatalf("exit code %d, said %q", code, talk.String())
	}
	for _, line := range []string{
		`name = "a \"b\" c"`, `listen = ["tcp://127.0.0.1:0","tcp://127.0.0.2:0"]`, "publish = []", `subscribe = ["tcp://127.0.0.1:5557"]`,
		`peer = ["tcp://127.0.0.1:7"]`, `max-message = "1MiB"`, "max-requests = 7", `foreign-ttl = "1m30s"`, "insecure = true",
		`heartbeat = "1s"`, `max-total-bytes = "1GiB"`, `http = "127.0.0.1:5580"`,
	} {
		if !strings.Contains("\n"+out.String(), "\n"+line+"\n") {
			t.Errorf("no line %s in\n%s", line, out.String())
		}
	}
	path := filepath.Join(t.TempDir(), "again.toml")
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if code := cli.Run(t.Context(), command(), []string{"--config", path, "--check-config"}, &again, &talk); code != 0 || again.String() != out.String() {
		t.Errorf("exit code %d, said %q, read again:\n%s", code, talk.String(), again.String())
	}
}

func TestBoundsAreRefused(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"heartbeat", "foreign-ttl", "busy-limit", "drain-timeout", "max-message", "max-requests", "max-bytes", "max-total-bytes", "max-unfinished", "max-unread", "max-services", "max-connections"} {
		var out, talk bytes.Buffer
		code := cli.Run(t.Context(), command(), []string{"--check-config", "--" + flag, "0"}, &out, &talk)
		if code != cli.Config || !strings.Contains(talk.String(), "--"+flag+": give more than 0") || out.Len() > 0 {
			t.Errorf("--%s 0: exit code %d, said %q", flag, code, talk.String())
		}
	}
}

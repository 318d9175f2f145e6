package main

import (
	"bytes"
	"strings"
	"testing"

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

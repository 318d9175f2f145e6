package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mdmesh/mdmesh/internal/cli"
)

// TestHelp: every command explains itself, with an example.
func TestHelp(t *testing.T) {
	t.Parallel()
	root := command()
	for _, c := range append(root.Commands(), root) {
		if c.Short == "" || c.Long == "" || !strings.Contains(c.Example, "mdworker") {
			t.Errorf("%s: short %q, long %.20q, example %q", c.CommandPath(), c.Short, c.Long, c.Example)
		}
	}
	for _, args := range [][]string{{"--help"}, {"exec", "--help"}, {"--version"}} {
		var out, talk bytes.Buffer
		if code := cli.Run(t.Context(), command(), args, &out, &talk); code != 0 || out.Len() == 0 || talk.Len() > 0 {
			t.Errorf("%q: exit code %d, printed %q, said %q", args, code, out.String(), talk.String())
		}
	}
}

// TestContract: the flags that other programs are written against.
func TestContract(t *testing.T) {
	t.Parallel()
	root := command()
	for name, flags := range map[string]string{
		"echo": "service delay concurrency credit instances scope",
		"exec": "service concurrency credit once persistent instances scope",
	} {
		cmd, _, err := root.Find([]string{name})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range append(strings.Fields(flags), "broker", "config", "log-level", "log-json") {
			if cmd.Flag(f) == nil {
				t.Errorf("%s has no --%s", name, f)
			}
		}
	}
}

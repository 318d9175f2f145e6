package cli

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestNear(t *testing.T) {
	t.Parallel()
	words := []string{"echo", "resize", "transform", "rollup", "e", "Echo2"}
	for name, want := range map[string]string{
		"echo": "echo Echo2", "ehco": "echo Echo2", "eccho": "echo Echo2", "rolup": "rollup", "Echo": "echo Echo2", "reszie": "resize", "trans": "transform",
		"x": "", "": "", "ro": "rollup", "thumbnail": "", "transfrom": "transform",
	} {
		if got := strings.Join(Near(name, words), " "); got != want {
			t.Errorf("Near(%q) = %q, want %q", name, got, want)
		}
	}
	if got := Near("a", []string{"a1", "a2", "a3", "a4"}); !slices.Equal(got, []string{"a1", "a2", "a3"}) {
		t.Errorf("of many: %q", got)
	}
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "ab", 2}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abc", "ab", 1}, {"abc", "abd", 1}, {"kitten", "sitting", 3}} {
		if got := distance(c.a, c.b); got != c.want || distance(c.b, c.a) != c.want {
			t.Errorf("distance(%q, %q) = %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

// TestCompletingIsNoCommand: what a program does before its commands is not done
// for a shell, but completions of ours are asked.
func TestCompletingIsNoCommand(t *testing.T) {
	t.Parallel()
	root := tool(nil)
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return Exitf(Config, "broken file") }
	call, _, err := root.Find([]string{"call"})
	if err != nil {
		t.Fatal(err)
	}
	call.ValidArgsFunction = cobra.FixedCompletions([]string{"this"}, cobra.ShellCompDirectiveNoFileComp)
	var out, talk bytes.Buffer
	if code := Run(t.Context(), root, []string{"__complete", "call", ""}, &out, &talk); code != OK || !strings.HasPrefix(out.String(), "this\n") {
		t.Errorf("exit code %d, printed %q, said %q", code, out.String(), talk.String())
	}
	out.Reset()
	if code := Run(t.Context(), root, []string{"completion", "bash"}, &out, &talk); code != OK || !strings.Contains(out.String(), "__start_tool") {
		t.Errorf("exit code %d, said %q", code, talk.String())
	}
}

package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestSplitExits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		long, rest string
		exits      []string
	}{
		{"Does things.", "Does things.", nil},
		{"Does things.\n\nExit codes: 0 ok; 64 wrong\nusage.", "Does things.", []string{"0 ok", "64 wrong usage"}},
		{"Does things. Exit codes: 0 ok; 3 not so.\n\nMore.", "Does things.\n\nMore.", []string{"0 ok", "3 not so"}},
	} {
		rest, exits := splitExits(c.long)
		if rest != c.rest || !slices.Equal(exits, c.exits) {
			t.Errorf("%q: %q and %q, want %q and %q", c.long, rest, exits, c.rest, c.exits)
		}
	}
}

// TestPage: what groff would take for its own is made harmless, and all parts of a
// command are there.
func TestPage(t *testing.T) {
	t.Parallel()
	root := &cobra.Command{Use: "tool", Short: "Do things", Long: "tool does it.\n\nExit codes: 0 ok; 64 wrong usage.", RunE: func(*cobra.Command, []string) error { return nil }}
	root.PersistentFlags().String("socket", "/run/user/1000/s", "`path` of a socket")
	Default(root, "socket", "$HOME/s")
	Files(root, "/etc/tool", "what it reads")
	sub := &cobra.Command{Use: "sub", Short: "Do less", Long: "sub says:\n.so /etc/passwd\nor \\fBthat\\fR.\n\n  indented - 'text'\n\nExit codes: 0 less.",
		Example: "  tool sub -x", RunE: func(*cobra.Command, []string) error { return nil }}
	sub.Flags().BoolP("deep", "d", false, "go deep")
	sub.Flags().Int("secret", 0, "nobody's business")
	if err := sub.Flags().MarkHidden("secret"); err != nil {
		t.Fatal(err)
	}
	root.AddCommand(sub)
	dir := t.TempDir()
	var out, talk bytes.Buffer
	if code := Run(t.Context(), root, []string{"man", dir}, &out, &talk); code != OK {
		t.Fatalf("exit code %d: %s", code, talk.String())
	}
	page := read(t, filepath.Join(dir, "tool-sub.1"))
	for _, part := range []string{
		".TH TOOL-SUB 1 \"\" mdmesh", "tool\\-sub \\- do less", "\n\\&.so /etc/passwd\nor \\efBthat\\efR.\n",
		".EX\nindented \\- \\(aqtext\\(aq\n.EE", "\\fB\\-d, \\-\\-deep\\fR\nGo deep.\n", "\\fIpath\\fR\nPath of a socket. Default: $HOME/s.\n",
		"\\fB0\\fR\nLess.\n", "\\fB64\\fR\nWrong usage.\n", "\\fBMD_DEEP\\fR\nAs \\-\\-deep.\n", "\\fB/etc/tool\\fR\nWhat it reads.\n",
		".SH EXAMPLES\n.EX\ntool sub \\-x\n.EE", "\\fBtool\\fR(1)",
	} {
		if !strings.Contains(page, part) {
			t.Errorf("%q is not in the page:\n%s", part, page)
		}
	}
	if strings.Contains(page, "secret") || strings.Contains(page, "1000") {
		t.Errorf("the page tells too much:\n%s", page)
	}
	if main := read(t, filepath.Join(dir, "tool.1")); !strings.Contains(main, ".SH COMMANDS\n") || !strings.Contains(main, "\\fBsub\\fR\nDo less.\n") || strings.Contains(main, "Write a manual page") {
		t.Errorf("the page of the program:\n%s", main)
	}
	names, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(names) != 3 { // tool, sub, completion: not man, not help
		t.Errorf("pages %q", names)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

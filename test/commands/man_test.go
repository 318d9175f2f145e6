package commands

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mdmesh/mdmesh/test/meshproc"
)

// pages writes the manual of a program and returns its pages by name.
func pages(t *testing.T, program string, env ...string) map[string]string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "man1")
	cmd := meshproc.Command(t, program, "man", dir)
	cmd.Env = append(cmd.Env, env...)
	if r := meshproc.Run(t, cmd); r.Code != 0 || r.Stdout+r.Stderr != "" {
		t.Fatalf("%s man: exit code %d, %q", program, r.Code, r.Stdout+r.Stderr)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	out := make(map[string]string)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimSuffix(filepath.Base(f), ".1")] = string(text)
	}
	return out
}

var (
	helpFlag    = regexp.MustCompile(`(?m)^ {2,6}(?:-\w, )?--([a-z-]+)`)
	helpCommand = regexp.MustCompile(`(?m)^  ([a-z]+) {2,}`)
)

// TestManual: a page per command, each with all sections and all flags of --help;
// nothing in them depends on where they are made; groff has nothing to say.
func TestManual(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"mdbroker", "mdworker", "mdservice", "mdsupervisor", "mdcli"} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			all := pages(t, program, "MD_CONFIG=/no/such/file")
			elsewhere := pages(t, program, "HOME=/elsewhere", "XDG_RUNTIME_DIR=/elsewhere", "TZ=Asia/Tokyo", "LANG=de_DE.UTF-8")
			for name, text := range all {
				if elsewhere[name] != text {
					t.Errorf("%s depends on where it is made", name)
				}
				checkPage(t, name, text)
			}
			help := meshproc.Run(t, meshproc.Command(t, program, "--help")).Stdout
			_, commands, _ := strings.Cut(help, "Available Commands:")
			commands, _, _ = strings.Cut(commands, "\n\n")
			for _, m := range helpCommand.FindAllStringSubmatch(commands, -1) {
				if m[1] != "help" && all[program+"-"+m[1]] == "" {
					t.Errorf("no page for %s %s", program, m[1])
				}
			}
		})
	}
}

func checkPage(t *testing.T, name, text string) {
	t.Helper()
	for _, section := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "ENVIRONMENT", "FILES", "EXAMPLES", "SEE ALSO"} {
		if !strings.Contains(text, "\n.SH "+section+"\n") {
			t.Errorf("%s has no section %s", name, section)
		}
	}
	if !strings.Contains(text, "\n.TP\n\\fB0\\fR\n") {
		t.Errorf("%s does not say when the exit code is 0", name)
	}
	program, command, _ := strings.Cut(name, "-")
	args := append(strings.Fields(strings.ReplaceAll(command, "-", " ")), "--help")
	help := meshproc.Run(t, meshproc.Command(t, program, args...))
	flags := helpFlag.FindAllStringSubmatch(help.Stdout, -1)
	if help.Code != 0 || len(flags) < 2 {
		t.Fatalf("%s %q: exit code %d, %d flags", program, args, help.Code, len(flags))
	}
	for _, m := range flags {
		if !strings.Contains(text, `\-\-`+strings.ReplaceAll(m[1], "-", `\-`)+`\fR`) {
			t.Errorf("%s does not document --%s", name, m[1])
		}
		variable := `\fBMD_` + strings.ToUpper(strings.ReplaceAll(m[1], "-", "_")) + `\fR`
		if !slices.Contains([]string{"help", "version"}, m[1]) && !strings.Contains(text, variable) {
			t.Errorf("%s does not name the variable of --%s", name, m[1])
		}
	}
	groff := exec.Command(needs(t, "groff", "groff-base"), "-man", "-Tutf8", "-wall", "-z")
	groff.Stdin = strings.NewReader(text)
	if out, err := groff.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%s: %v: %s", name, err, out)
	}
}

package commands

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mdmesh/mdmesh/test/meshproc"
)

// needs returns a program or file that Debian brings in a package; where it is
// missing the test is skipped, but never on CI.
func needs(t *testing.T, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if _, err := os.Stat(name); err == nil {
		return name
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing; install the package %s", name, pkg)
	}
	t.Skipf("%s is missing; install the package %s", name, pkg)
	return ""
}

// completions are what a program offers a shell for the last of args.
func completions(t *testing.T, env []string, program string, args ...string) []string {
	t.Helper()
	cmd := meshproc.Command(t, program, append([]string{"__complete"}, args...)...)
	cmd.Env = append(cmd.Env, env...)
	r := meshproc.Run(t, cmd)
	if r.Code != 0 || strings.Count(r.Stderr, "\n") != 1 { // one line about the directive, which shells drop
		t.Errorf("%s __complete %q: exit code %d, stderr %q", program, args, r.Code, r.Stderr)
	}
	var words []string
	for line := range strings.Lines(r.Stdout) {
		if word, _, _ := strings.Cut(strings.TrimRight(line, "\n"), "\t"); !strings.HasPrefix(word, ":") {
			words = append(words, word)
		}
	}
	return words
}

// TestCompletion: live names come from the broker that flag, environment or file
// name, and nobody is disturbed where there is none.
func TestCompletion(t *testing.T) {
	t.Parallel()
	a := startBroker(t)
	startWorker(t, a, "echo")
	startWorker(t, a, "echo", "--service", "blank name")
	startWorker(t, a, "echo", "--service", "-dash")
	here, config := "MD_BROKER="+a.requests, file(t, "cli.toml", "broker = \""+a.requests+"\"\n")
	for _, c := range []struct {
		name string
		env  string
		args []string
		want string
	}{
		{"services by environment", here, []string{"call", ""}, "blank name|echo"},
		{"services by flag", "MD_BROKER=tcp://127.0.0.1:1", []string{"--broker", a.requests, "call", ""}, "blank name|echo"},
		{"services by file", "MD_CONFIG=" + config, []string{"bench", ""}, "blank name|echo"},
		{"of a service", here, []string{"top", "echo", ""}, "blank name"},
		{"a body", here, []string{"call", "echo", ""}, ""},
		{"endpoints", here, []string{"services", "--broker", ""}, a.requests},
		{"forms", "", []string{"-o", ""}, "table|json|jsonl"},
		{"levels", "", []string{"--log-level", ""}, "trace|debug|info|warn|error|off"},
		{"shells", "", []string{"completion", ""}, "bash|zsh|fish"},
		{"nobody", "MD_BROKER=tcp://127.0.0.1:1", []string{"call", ""}, ""},
		{"broken file", "MD_CONFIG=/no/such/file", []string{"call", ""}, ""},
		{"broken environment", "MD_TIMEOUT=soon", []string{"call", ""}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got string
			meshproc.Eventually(t, c.want, func() error { // 300 ms may be too short on a busy machine
				if got = strings.Join(completions(t, []string{c.env}, "mdcli", c.args...), "|"); got != c.want && c.want != "" {
					return os.ErrDeadlineExceeded
				}
				return nil
			})
			if got != c.want {
				t.Errorf("offered %q, want %q", got, c.want)
			}
		})
	}
	t.Run("commands", func(t *testing.T) {
		t.Parallel()
		got := completions(t, nil, "mdcli", "")
		for _, name := range []string{"call", "services", "completion"} {
			if !slices.Contains(got, name) {
				t.Errorf("offered %q, without %s", got, name)
			}
		}
		if slices.Contains(got, "man") {
			t.Error("man is offered, which only make has use for")
		}
	})
}

// TestCompletionOfChildren: the supervisor's children by name, group and state.
func TestCompletionOfChildren(t *testing.T) {
	t.Parallel()
	socket := "MD_SOCKET=" + filepath.Join(meshproc.Folder(t), "s")
	mesh := file(t, "mesh.toml", `[[child]]
name = "one"
command = ["sleep", "1000"]
[[child]]
name = "many"
numprocs = 2
command = ["sleep", "1000"]
`)
	if got := completions(t, []string{socket}, "mdsupervisor", "stop", ""); len(got) > 0 {
		t.Errorf("without a supervisor: offered %q", got)
	}
	s := meshproc.Command(t, "mdsupervisor", "run", "--config", mesh)
	s.Env = append(s.Env, socket)
	meshproc.Start(t, s)
	for args, want := range map[string]string{
		"stop ":       "one|many:0|many:1|many:*|all",
		"start many:": "many:0|many:1|many:*",
		"stop one ":   "many:0|many:1|many:*",
		"status ":     "one|many:0|many:1|many:*|all",
	} {
		meshproc.Eventually(t, args, func() error {
			if got := completions(t, []string{socket}, "mdsupervisor", strings.Split(args, " ")...); strings.Join(got, "|") != want {
				return &os.PathError{Op: strings.Join(got, "|"), Path: want, Err: os.ErrNotExist}
			}
			return nil
		})
	}
}

// TestCompletionScripts: every program prints one for each shell, which that shell
// can read.
func TestCompletionScripts(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"mdbroker", "mdworker", "mdservice", "mdsupervisor", "mdcli"} {
		for _, shell := range []string{"bash", "zsh", "fish"} {
			t.Run(program+" "+shell, func(t *testing.T) {
				t.Parallel()
				r := meshproc.Run(t, meshproc.Command(t, program, "completion", shell))
				if r.Code != 0 || r.Stderr != "" || !strings.Contains(r.Stdout, program) {
					t.Fatalf("exit code %d, stderr %q, %d octets", r.Code, r.Stderr, len(r.Stdout))
				}
				cmd := exec.Command(needs(t, shell, shell), "-n", file(t, "script", r.Stdout))
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
			})
		}
		oneLine(t, meshproc.Run(t, meshproc.Command(t, program, "completion", "tcsh")), 64, "bash, zsh or fish")
		help := meshproc.Run(t, meshproc.Command(t, program, "completion", "--help"))
		if help.Code != 0 || !strings.Contains(help.Stdout, "source <("+program+" completion bash)") {
			t.Errorf("%s completion --help: exit code %d, %q", program, help.Code, help.Stdout)
		}
	}
}

// pressTab does in bash what its line editor does for the Tab key.
const pressTab = `
source /usr/share/bash-completion/bash_completion
source <("$1" completion bash)
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_TYPE=9 COMP_KEY=9
COMP_POINT=${#COMP_LINE}
__start_mdcli
printf '%s\n' "${COMPREPLY[@]}"
`

// TestCompletionInShells: the whole way, by shells that run the scripts.
func TestCompletionInShells(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	startWorker(t, b, "echo")
	startWorker(t, b, "echo", "--service", "blank name")
	bin := meshproc.Binaries(t)
	env := append(meshproc.Environment(t), "MD_BROKER="+b.requests, "PATH="+bin+":/usr/bin:/bin", "HOME="+t.TempDir())
	for _, c := range []struct {
		name string
		cmd  func(t *testing.T) *exec.Cmd
		want string
	}{
		{"bash", func(t *testing.T) *exec.Cmd {
			needs(t, "/usr/share/bash-completion/bash_completion", "bash-completion")
			return exec.Command(needs(t, "bash", "bash"), "--norc", "-c", pressTab, "bash", "mdcli", "mdcli", "call", "ec")
		}, "echo"},
		{"bash, to be quoted", func(t *testing.T) *exec.Cmd {
			needs(t, "/usr/share/bash-completion/bash_completion", "bash-completion")
			return exec.Command(needs(t, "bash", "bash"), "--norc", "-c", pressTab, "bash", "mdcli", "mdcli", "call", "bl")
		}, `blank\ name`},
		{"fish", func(t *testing.T) *exec.Cmd {
			return exec.Command(needs(t, "fish", "fish"), "--no-config", "-c", "mdcli completion fish | source; complete -C 'mdcli call ec'")
		}, "echo"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			meshproc.Eventually(t, c.name+" offers "+c.want, func() error {
				cmd := c.cmd(t)
				cmd.Env = env
				r := meshproc.Run(t, cmd)
				if strings.TrimSpace(r.Stdout) != c.want {
					return &os.PathError{Op: r.Stderr, Path: r.Stdout, Err: os.ErrNotExist}
				}
				return nil
			})
		})
	}
}

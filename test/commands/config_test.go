package commands

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mdmesh/mdmesh/test/meshproc"
)

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	unknown := file(t, "unknown.toml", "name = \"a\"\nheartbeet = \"1s\"\n")
	wrong := file(t, "wrong.toml", "heartbeat = \"soon\"\n")
	for _, c := range []struct {
		name string
		args []string
		code int
		says []string
	}{
		{"unknown key", []string{"--config", unknown}, 78, []string{unknown + ":2:13: unknown key \"heartbeet\"", "heartbeet = \"1s\"\n", "            ^"}},
		{"bad value", []string{"--config", wrong}, 78, []string{wrong + ":1:13:", "heartbeat = \"soon\"\n", "            ^"}},
		{"no file", []string{"--config", "/no/such.toml"}, 78, []string{"/no/such.toml: no such file"}},
		{"unknown flag", []string{"--listn", "x"}, 64, []string{"unknown flag: --listn", "mdbroker --help"}},
		{"stray argument", []string{"start"}, 64, []string{`unexpected argument "start"`}},
		{"no port", []string{"--listen", "tcp://127.0.0.1"}, 78, []string{"--listen tcp://127.0.0.1", "HOST:PORT"}},
		{"odd port", []string{"--http", "127.0.0.1:99999"}, 78, []string{"--http", "0 to 65535"}},
		{"peer without a port", []string{"--peer", "tcp://elsewhere"}, 78, []string{"tcp://elsewhere", "HOST:PORT"}},
		{"not listening", []string{"--listen", ""}, 78, []string{"--listen tcp://HOST:PORT"}},
		{"open to the network", []string{"--listen", "tcp://0.0.0.0:0"}, 78, []string{"--listen tcp://0.0.0.0:0", "--insecure"}},
		{"events open to the network", []string{"--subscribe", "tcp://0.0.0.0:0"}, 78, []string{"--subscribe", "--insecure"}},
		{"http open to the network", []string{"--http", ":0"}, 78, []string{"--http :0", "--insecure"}},
		{"hasty heartbeat", []string{"--heartbeat", "1ms"}, 78, []string{"heartbeat 1ms", "50ms or more"}},
		{"no such group", []string{"--listen", "ipc:///run/x,group=nobody-at-all"}, 78, []string{"--listen ipc:///run/x", "unknown group nobody-at-all"}},
		{"relative socket file", []string{"--listen", "ipc://tmp/x"}, 78, []string{"--listen ipc://tmp/x", "three slashes"}},
		{"relative socket file of a peer", []string{"--peer", "ipc://tmp/x"}, 78, []string{"ipc://tmp/x", "three slashes"}},
		{"misspelt flag", []string{"--heartbeet", "1s"}, 64, []string{"did you mean --heartbeat?"}},
		{"odd number", []string{"--max-requests", "many"}, 64, []string{`invalid argument "many" for --max-requests: want a whole number`}},
		{"odd size", []string{"--max-message", "lots"}, 64, []string{"64MiB"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := meshproc.Run(t, meshproc.Command(t, "mdbroker", append(c.args, "--check-config")...))
			if r.Code != c.code || r.Stdout != "" {
				t.Errorf("exit code %d, want %d; stdout %q, stderr %q", r.Code, c.code, r.Stdout, r.Stderr)
			}
			for _, text := range c.says {
				if !strings.Contains(r.Stderr, text) {
					t.Errorf("stderr %q does not say %q", r.Stderr, text)
				}
			}
		})
	}
}

// TestMisspeltVariable: --check-config looks at the environment, too.
func TestMisspeltVariable(t *testing.T) {
	t.Parallel()
	for variable, says := range map[string]string{
		"MD_LISEN=tcp://127.0.0.1:0": "MD_LISEN: sets no flag of mdbroker; did you mean MD_LISTEN?", "MD_PORT_BASE=1": "", "MD_BROKER=x": "", "MD_LISTEN=tcp://127.0.0.1:0": "",
	} {
		cmd := meshproc.Command(t, "mdbroker", "--check-config")
		cmd.Env = append(cmd.Env, variable)
		r := meshproc.Run(t, cmd)
		if says == "" && r.Code != 0 || says != "" && (r.Code != 78 || !strings.Contains(r.Stderr, says)) {
			t.Errorf("%s: exit code %d, stderr %q; want %q", variable, r.Code, r.Stderr, says)
		}
	}
}

// TestPrecedence: flag > environment > file > default.
func TestPrecedence(t *testing.T) {
	t.Parallel()
	config := file(t, "broker.toml", `name = "from-file"
listen = ["tcp://127.0.0.1:0"]
publish = ""
subscribe = ""
http = ""
`)
	for _, c := range []struct {
		env, flag, want string
	}{
		{"", "", "from-file"},
		{"from-environment", "", "from-environment"},
		{"from-environment", "from-flag", "from-flag"},
	} {
		cmd := meshproc.Command(t, "mdbroker")
		cmd.Env = append(cmd.Env, "MD_CONFIG="+config)
		if c.env != "" {
			cmd.Env = append(cmd.Env, "MD_NAME="+c.env)
		}
		if c.flag != "" {
			cmd.Args = append(cmd.Args, "--name", c.flag)
		}
		p := meshproc.Start(t, cmd)
		rows := list(t, &broker{Process: p, requests: p.Endpoint(t, "requests")}, "brokers")
		if len(rows) != 1 || rows[0]["name"] != c.want {
			t.Errorf("environment %q, flag %q: brokers %v, want %s", c.env, c.flag, rows, c.want)
		}
	}
	cmd := meshproc.Command(t, "mdbroker", "--config", config, "--check-config")
	if r := meshproc.Run(t, cmd); r.Code != 0 || !strings.Contains(r.Stdout, "heartbeat = ") || r.Stderr != "configuration ok\n" {
		t.Errorf("--check-config: exit code %d, stdout %q, stderr %q", r.Code, r.Stdout, r.Stderr)
	}
}

// TestAddressInUse: the message names the flag to change.
func TestAddressInUse(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	for flag, taken := range map[string]string{
		"listen": b.requests, "publish": b.publish, "subscribe": b.subscribe, "http": strings.TrimPrefix(b.http, "http://"),
	} {
		args := []string{"--listen", "tcp://127.0.0.1:0", "--publish", "", "--subscribe", "", "--http", "", "--" + flag, taken}
		if flag == "listen" {
			args = args[2:]
		}
		r := meshproc.Run(t, meshproc.Command(t, "mdbroker", args...))
		if r.Code != 69 || !strings.Contains(r.Stderr, taken+": address in use") || !strings.Contains(r.Stderr, "another address with --"+flag+" ") {
			t.Errorf("--%s: exit code %d, stderr %q", flag, r.Code, r.Stderr)
		}
	}
}

func TestWorkerUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "name a command: echo, exec"},
		{[]string{"echo", "x"}, `unexpected argument "x"`},
		{[]string{"echo", "--service", ""}, "--service NAME"},
		{[]string{"echo", "--service", "mmi.x"}, "mmi."},
		{[]string{"echo", "--concurrency", "0"}, "--concurrency 0"},
		{[]string{"echo", "--concurrency", "70000"}, "65535"},
		{[]string{"echo", "--instances", "0"}, "--instances 0"},
		{[]string{"echo", "--delay", "-1s"}, "--delay -1s"},
		{[]string{"echo", "--scope", "world"}, "mesh or local"},
		{[]string{"echo", "--broker", ""}, "--broker tcp://HOST:PORT"},
		{[]string{"exec", "--service", "x"}, "no command given"},
		{[]string{"exec", "--", "true"}, "--service NAME"},
		{[]string{"exec", "--service", "x", "--frames", "2", "--", "true"}, "add --persistent"},
		{[]string{"exec", "--service", "x", "--persistent", "--frames", "3", "--", "true"}, "there are 1 and 2"},
		{[]string{"exec", "--service", "x", "--", "no-such-program-here"}, `cannot run "no-such-program-here"`},
	} {
		r := meshproc.Run(t, meshproc.Command(t, "mdworker", c.args...))
		oneLine(t, r, 64, c.says)
	}
}

package config

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

func TestPick(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		flag, env, file bool
		want            source
	}{
		{false, false, false, fromDefault},
		{false, false, true, fromFile},
		{false, true, false, fromEnvironment},
		{false, true, true, fromEnvironment},
		{true, false, false, fromFlag},
		{true, false, true, fromFlag},
		{true, true, false, fromFlag},
		{true, true, true, fromFlag},
	} {
		if got := pick(c.flag, c.env, c.file); got != c.want {
			t.Errorf("pick(flag %v, env %v, file %v) = %d, want %d", c.flag, c.env, c.file, got, c.want)
		}
	}
}

type options struct {
	listen    Endpoints
	heartbeat time.Duration
	size      Bytes
	json      bool
	name      string
	speed     float64
}

// daemon returns a program with two commands; run is called after Apply.
func daemon(o *options, path string) *cobra.Command {
	root := &cobra.Command{Use: "daemon", SilenceErrors: true, SilenceUsage: true}
	Flag(root)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return Apply(cmd, path) }
	o.listen.List = []string{"tcp://default:1"}
	root.PersistentFlags().BoolVar(&o.json, "json", false, "")
	root.PersistentFlags().StringVar(&o.name, "name", "default", "")
	ingest := &cobra.Command{Use: "ingest", Run: func(*cobra.Command, []string) {}}
	ingest.Flags().Var(&o.listen, "listen", "")
	ingest.Flags().DurationVar(&o.heartbeat, "heartbeat", time.Second, "")
	ingest.Flags().Var(&o.size, "max-message", "")
	ingest.Flags().Float64Var(&o.speed, "speed", 1, "")
	push := &cobra.Command{Use: "push", Run: func(*cobra.Command, []string) {}}
	push.Flags().String("page", "", "")
	root.AddCommand(ingest, push)
	return root
}

// Not parallel: it sets the environment.
func TestApply(t *testing.T) {
	for _, c := range []struct {
		name, file string
		env        map[string]string
		args       string
		check      func(o options) bool
	}{
		{"defaults", "", nil, "ingest", func(o options) bool {
			return o.heartbeat == time.Second && o.name == "default" && o.listen.String() == "tcp://default:1"
		}},
		{"file", "heartbeat = \"2s\"\njson = true\nspeed = 2.5\nmax-message = \"1MiB\"\nlisten = [\"tcp://a:1\", \"tcp://b:2\"]", nil, "ingest", func(o options) bool {
			return o.heartbeat == 2*time.Second && o.json && o.speed == 2.5 && o.size == 1<<20 && reflect.DeepEqual(o.listen.List, []string{"tcp://a:1", "tcp://b:2"})
		}},
		{"file, plain integer", "max-message = 4096", nil, "ingest", func(o options) bool { return o.size == 4096 }},
		{"file, one endpoint", "listen = \"tcp://a:1\"", nil, "ingest", func(o options) bool { return o.listen.String() == "tcp://a:1" }},
		{"file switches off", "listen = \"\"", nil, "ingest", func(o options) bool { return len(o.listen.List) == 0 }},
		{"file switches off by list", "listen = []", nil, "ingest", func(o options) bool { return len(o.listen.List) == 0 }},
		{"command's table", "name = \"n\"\n[ingest]\nheartbeat = \"3s\"\n[push]\npage = \"x\"", nil, "ingest", func(o options) bool {
			return o.heartbeat == 3*time.Second && o.name == "n"
		}},
		{"environment beats file", "heartbeat = \"2s\"", map[string]string{"MD_HEARTBEAT": "4s"}, "ingest", func(o options) bool { return o.heartbeat == 4*time.Second }},
		{"environment list", "", map[string]string{"MD_LISTEN": "tcp://a:1, tcp://b:2"}, "ingest", func(o options) bool { return len(o.listen.List) == 2 }},
		{"dash becomes underscore", "", map[string]string{"MD_MAX_MESSAGE": "10k"}, "ingest", func(o options) bool { return o.size == 10000 }},
		{"empty variable is unset", "heartbeat = \"2s\"", map[string]string{"MD_HEARTBEAT": ""}, "ingest", func(o options) bool { return o.heartbeat == 2*time.Second }},
		{"flag beats all", "listen = \"tcp://f:1\"", map[string]string{"MD_LISTEN": "tcp://e:1"}, "ingest --listen tcp://a:1 --listen tcp://b:2", func(o options) bool {
			return reflect.DeepEqual(o.listen.List, []string{"tcp://a:1", "tcp://b:2"})
		}},
		{"flag switches off", "listen = \"tcp://f:1\"", nil, "ingest --listen=", func(o options) bool { return len(o.listen.List) == 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			for k, v := range c.env {
				t.Setenv(k, v)
			}
			var o options
			root := daemon(&o, write(t, c.file))
			root.SetArgs(strings.Fields(c.args))
			if err := root.Execute(); err != nil {
				t.Fatal(err)
			}
			if !c.check(o) {
				t.Errorf("options %+v", o)
			}
		})
	}
}

func TestApplyErrors(t *testing.T) {
	for _, c := range []struct {
		name, file, env string // env: the value of MD_HEARTBEAT
		want            string // PATH stands for the file
	}{
		{"unknown key", "name = \"x\"\nheartbeats = \"2s\"", "", "PATH:2:14: unknown key \"heartbeats\"; keys are the flags in daemon ingest --help\n  heartbeats = \"2s\"\n               ^"},
		{"key of another command", "page = \"x\"", "", "PATH:1:8: unknown key \"page\""},
		{"unknown table", "[ingset]\nheartbeat = \"2s\"", "", "PATH:1:2: unknown table \"ingset\""},
		{"dotted key", "a.b = 1", "", "PATH:1:7: unknown table \"a.b\""},
		{"bad value", "heartbeat = \"soon\"", "", "PATH:1:13: bad value \"soon\": want a duration such as 500ms, 5s or 1m30s\n  heartbeat = \"soon\"\n              ^"},
		{"bad value in list", "listen = [\"tcp://a:1\", \"nonsense\"]", "", "PATH:1:24: bad value \"nonsense\": \"nonsense\" is no endpoint; write tcp://HOST:PORT"},
		{"list for one value", "heartbeat = [\"1s\"]", "", "PATH:1:1: heartbeat takes one value"},
		{"table for one value", "heartbeat = {x = 1}", "", "PATH:1:13: heartbeat takes one value"},
		{"not from a file", "config = \"x\"", "", "PATH:1:10: unknown key \"config\""},
		{"syntax", "heartbeat = ", "", "PATH:1:"},
		{"doubled", "name = \"a\"\nname = \"b\"", "", "PATH:2:1: "},
		{"environment", "", "soon", "MD_HEARTBEAT: bad value \"soon\": want a duration such as 500ms, 5s or 1m30s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("MD_HEARTBEAT", c.env)
			path := write(t, c.file)
			var o options
			root := daemon(&o, "")
			root.SetArgs([]string{"--config", path, "ingest"})
			err := root.Execute()
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v (%T), want *Error", err, err)
			}
			want := strings.ReplaceAll(c.want, "PATH", path)
			if got := err.Error(); !strings.HasPrefix(got, want) {
				t.Errorf("error\n%s\nwant prefix\n%s", got, want)
			}
		})
	}
}

func TestConfigFromEnvironment(t *testing.T) {
	t.Setenv("MD_CONFIG", write(t, "name = \"from-file\""))
	var o options
	root := daemon(&o, "")
	root.SetArgs([]string{"ingest"})
	if err := root.Execute(); err != nil || o.name != "from-file" {
		t.Errorf("name %q, error %v", o.name, err)
	}
}

// TestEnvironment: a program whose --config is no file of flags.
func TestEnvironment(t *testing.T) {
	t.Setenv("MD_CONFIG", "/not/read/here.toml")
	t.Setenv("MD_SOCKET", "/from/environment")
	t.Setenv("MD_OUTPUT", "json")
	cmd := &cobra.Command{Use: "x", RunE: func(cmd *cobra.Command, _ []string) error { return Environment(cmd) }}
	config := cmd.Flags().String("config", "", "")
	socket := cmd.Flags().String("socket", "", "")
	output := cmd.Flags().String("output", "table", "")
	cmd.SetArgs([]string{"--output", "table"})
	if err := cmd.Execute(); err != nil || *config != "/not/read/here.toml" || *socket != "/from/environment" || *output != "table" {
		t.Errorf("config %q, socket %q, output %q, error %v", *config, *socket, *output, err)
	}
}

func TestBytes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want Bytes
		show string
	}{
		{"0", 0, "0"}, {"4096", 4096, "4KiB"}, {"10k", 10000, "10k"}, {"10kB", 10000, "10k"}, {"64MiB", 64 << 20, "64MiB"},
		{"64 mib", 64 << 20, "64MiB"}, {"1Gi", 1 << 30, "1GiB"}, {"2T", 2e12, "2T"}, {" 5B ", 5, "5"},
		{"8191PiB", -1, ""}, {"9223372036854775807", 1<<63 - 1, "9223372036854775807"},
		{"9223372036854775808", -1, ""}, {"8388608TiB", -1, ""}, {"-1", -1, ""}, {"1.5M", -1, ""}, {"", -1, ""}, {"MiB", -1, ""}, {"ten", -1, ""},
	} {
		got, err := ParseBytes(c.text)
		if (err != nil) != (c.want < 0) || err == nil && got != c.want {
			t.Errorf("ParseBytes(%q) = %d, %v", c.text, got, err)
		} else if err == nil && got.String() != c.show {
			t.Errorf("ParseBytes(%q).String() = %q, want %q", c.text, got, c.show)
		}
	}
}

func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"64MiB", "10k", "-1", "b", "9223372036854775807"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseBytes(s)
		if err != nil {
			return
		}
		if again, err := ParseBytes(n.String()); n < 0 || err != nil || again != n {
			t.Errorf("ParseBytes(%q) = %d, printed %q, read again %d, %v", s, int64(n), n, int64(again), err)
		}
	})
}

func TestParseEndpoints(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want []string
		bad  bool
	}{
		{"", nil, false},
		{"  ", nil, false},
		{"tcp://a:1", []string{"tcp://a:1"}, false},
		{"tcp://a:1,tcp://b:2", []string{"tcp://a:1", "tcp://b:2"}, false},
		{"tcp://a:1,key=Z85, tcp://b:2,plain", []string{"tcp://a:1,key=Z85", "tcp://b:2,plain"}, false},
		{"inproc://x", []string{"inproc://x"}, false},
		{"a:1", nil, true},
		{"tcp://", nil, true},
		{"://a:1", nil, true},
		{"tcp://a:1,", nil, true},
		{",tcp://a:1", nil, true},
		{"tcp://a 1", nil, true},
	} {
		got, err := ParseEndpoints(c.text)
		if (err != nil) != c.bad || !reflect.DeepEqual(got, c.want) {
			t.Errorf("ParseEndpoints(%q) = %q, %v", c.text, got, err)
		}
	}
}

// TestEffective: what is in effect, as a file that says it.
func TestEffective(t *testing.T) {
	t.Parallel()
	var o options
	root := daemon(&o, write(t, "json = true\nname = \"a\\\"b\\u0001\"\n[ingest]\nspeed = 2.5\nlisten = []\nmax-message = 4096\n"))
	var out bytes.Buffer
	ingest, _, err := root.Find([]string{"ingest"})
	if err != nil {
		t.Fatal(err)
	}
	ingest.RunE = func(cmd *cobra.Command, _ []string) error { return Effective(&out, cmd, "heartbeat") }
	root.SetArgs([]string{"ingest"})
	if err := root.Execute(); err != nil {
		t.Fatal(err)
	}
	want := "json = true\nlisten = []\nmax-message = \"4KiB\"\nname = \"a\\\"b\\u0001\"\nspeed = 2.5\n"
	if out.String() != want {
		t.Errorf("in effect:\n%s\nwant\n%s", out.String(), want)
	}
}

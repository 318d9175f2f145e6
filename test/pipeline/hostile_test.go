package pipeline

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/store"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// roles names the ports of a mesh.
var roles = map[int]string{
	portA: "requests", portAPublish: "publish", portASubscribe: "subscribe", portAHTTP: "http of a broker",
	portB: "requests of b", portBPublish: "publish of b", portBSubscribe: "subscribe of b", portBHTTP: "http of broker b",
	portIngest: "ingest", portPage: "page",
}

// greeting is that of ZMTP 3.0 with the mechanism NULL.
const greeting = "\xff\x00\x00\x00\x00\x00\x00\x00\x00\x7f\x03\x00NULL" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// rubbish is what strangers, scanners and broken programs send.
func rubbish(dice *rand.Rand) map[string][]byte {
	noise := make([]byte, 64<<10)
	for i := range noise {
		noise[i] = byte(dice.Uint32())
	}
	all := map[string][]byte{
		"nothing":         nil,
		"one octet":       {0xff},
		"noise":           noise,
		"half a greeting": []byte(greeting[:20]),
		"greeting":        []byte(greeting),
		"greeting, noise": append([]byte(greeting), noise...),
		"huge command":    []byte(greeting + "\x06\x7f\xff\xff\xff\xff\xff\xff\xff"),
		"HTTP":            []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"half a HTTP":     []byte("POST /call/transform HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n{"),
		"long HTTP":       []byte("GET /" + strings.Repeat("a", 100_000) + " HTTP/1.1\r\n\r\n"),
		"bad call":        []byte("POST /call/transform HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 3\r\n\r\nxyz"),
		"TLS":             []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
		"long line":       []byte(strings.Repeat("x", 1<<20)),
		"half a record":   []byte(`{"series": "half", "time": "2026-11-21T10:00:00Z", "val`),
		"many bad lines":  []byte(strings.Repeat("not a record\n", 1000)),
		"deaf browser": []byte("GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"),
	}
	all["deaf browser, noise"] = append(slices.Clone(all["deaf browser"]), noise...)
	for _, kind := range []string{"DEALER", "REQ", "PUB", "SUB", "ROUTER"} {
		hello := greeting + fmt.Sprintf("\x04%c\x05READY\x0bSocket-Type\x00\x00\x00%c%s", 22+len(kind), len(kind), kind)
		all[kind] = []byte(hello)
		all[kind+", huge frame"] = []byte(hello + "\x02\x7f\xff\xff\xff\xff\xff\xff\xff")
		all[kind+", noise"] = append([]byte(hello), noise...)
		for _, head := range []string{"", "MDPC01", "MDPW01", "MDPC02", "MDPW02", "MDPC03", "MDPW03", "MDPB03"} {
			text := hello
			for n := range 16 {
				var frames []string
				if n&1 == 0 {
					frames = append(frames, "") // the delimiter
				}
				if n&2 == 0 {
					frames = append(frames, head)
				} else {
					frames = append(frames, head+string(noise[:34+n]))
				}
				for i := range n / 4 {
					frames = append(frames, string(byte(i+n/4))+string(noise[i*50:][:i*20]))
				}
				text += message(frames)
			}
			all[kind+", rubbish after "+head] = []byte(text)
		}
	}
	return all
}

// message writes short frames as ZMTP does.
func message(frames []string) string {
	var text strings.Builder
	for i, f := range frames {
		more := byte(1)
		if i == len(frames)-1 {
			more = 0
		}
		text.WriteByte(more)
		text.WriteByte(byte(len(f)))
		text.WriteString(f)
	}
	return text.String()
}

// TestRubbishOnEveryPort: all ports of a working pipeline get all kinds of
// rubbish, from connections that then stay open and from such that hang up.
// Nothing ends, and records go on arriving the while.
func TestRubbishOnEveryPort(t *testing.T) {
	t.Parallel()
	m := start(t)
	pids := m.pids()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	var l ledger
	f := feed(m, &l, 2, 500, 10*time.Millisecond)

	var open []net.Conn
	for port := range ports {
		for what, text := range rubbish(dice) {
			for _, stays := range []bool{true, false} {
				c, err := net.Dial("tcp", m.address(port))
				if err != nil {
					t.Fatalf("%s after %s: %v", roles[port], what, err)
				}
				_ = c.SetWriteDeadline(time.Now().Add(meshproc.Guard))
				_, _ = c.Write(text) // being cut off is a good answer
				if stays {
					open = append(open, c)
				} else {
					_ = c.Close()
				}
			}
		}
		f.flows(t, 20)
	}
	if got := m.tell(store.Record{Series: "kept.0", ID: "after", Time: firstTime, Value: 7}); got != okAnswer {
		t.Errorf("a good record after all that: %s", got)
	}
	l.send(store.Record{Series: "kept.0", ID: "after", Time: firstTime, Value: 7})
	f.stop(t)
	m.ready() // with the rubbish still connected
	l.shownBy(t, m)
	l.storedBy(t, m)
	for port, name := range map[int]string{portAHTTP: "a", portBHTTP: "b"} {
		if n := m.counters(port)["malformed"]; n == 0 {
			t.Errorf("broker %s counts no malformed message: the rubbish did not reach it", name)
		}
	}
	for _, c := range open {
		_ = c.Close()
	}
	for _, c := range m.all() {
		if c.PID != pids[c.Name] || c.Restarts != 0 || !c.runs() {
			t.Errorf("%+v, was %d", c, pids[c.Name])
		}
	}
}

// TestUnreadableLines: each is answered with what is wrong, in its turn, and the
// good ones among them count.
func TestUnreadableLines(t *testing.T) {
	t.Parallel()
	m := start(t)
	good := `{"series":"good","time":"2026-11-21T10:00:00Z","value":1,"id":"%d"}`
	lines := []struct{ line, want string }{
		{fmt.Sprintf(good, 1), okAnswer},
		{`not a record`, `want one JSON object per line`},
		{`{"series":"x","time":"2026-11-21T10:00:00Z"}`, `missing field \"value\"`},
		{fmt.Sprintf(good, 2), okAnswer},
		{`{"series":"x","time":"yesterday","value":1}`, `RFC 3339`},
		{`{"series":"x","time":"2026-11-21T10:00:00Z","value":1e999}`, `value`},
		{`{"series":"","time":"2026-11-21T10:00:00Z","value":1}`, `series`},
		{"\x00\xff\xfe", `want one JSON object per line`},
		{`{"series":"good","time":"2026-11-21T10:00:00Z","value":2,"id":"1"}`, `conflict`},
		{`{"series":"good","time":"2026-11-21T10:00:00Z","value":5,"id":"2","rev":1}`, okAnswer},
		{fmt.Sprintf(good, 1), okAnswer},
	}
	c, err := net.Dial("tcp", m.address(portIngest))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(meshproc.Guard))
	var text strings.Builder
	for _, l := range lines {
		text.WriteString(l.line + "\n")
	}
	if _, err := io.WriteString(c, text.String()); err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	answers, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSuffix(string(answers), "\n"), "\n")
	if len(got) != len(lines) {
		t.Fatalf("%d answers to %d lines:\n%s", len(got), len(lines), answers)
	}
	for i, l := range lines {
		if l.want == okAnswer && got[i] != okAnswer || !strings.Contains(got[i], l.want) {
			t.Errorf("%q is answered %s, want %s", l.line, got[i], l.want)
		}
		if l.want != okAnswer && !strings.HasPrefix(got[i], `{"ok": false, "error": "`) {
			t.Errorf("%q is answered %s", l.line, got[i])
		}
	}
	meshproc.Eventually(t, "two rows, one of them revised", func() error {
		points, err := m.points("good", "day")
		if err == nil && (len(points) != 1 || points[0].Count != 2 || points[0].Sum != 6) {
			err = fmt.Errorf("%+v", points)
		}
		return err
	})
}

// refusal is a command that must end at once with a reason.
type refusal struct {
	command string // "{0}" .. "{9}" are addresses in use, {dir} is an empty folder
	code    int
	stderr  string // a pattern for the only line
}

func (r refusal) check(t *testing.T, m *mesh, dir string) {
	t.Helper()
	command := strings.ReplaceAll(r.command, "{dir}", dir)
	for port := range ports {
		if m != nil {
			command = strings.ReplaceAll(command, fmt.Sprintf("{%d}", port), m.address(port))
		}
	}
	args := strings.Fields(command)
	for i := range args {
		args[i] = strings.Trim(args[i], "'")
	}
	got := meshproc.Run(t, meshproc.Command(t, args[0], args[1:]...))
	lines := regexp.MustCompile(`(?m)^(listening role=|\d{4}-\d\d-\d\dT).*\n`).ReplaceAllString(got.Stderr, "")
	if got.Code != r.code || got.Stdout != "" || !regexp.MustCompile(`^`+args[0]+`: (?:.*)`+r.stderr).MatchString(lines) || strings.Count(lines, "\n") != 1 {
		t.Errorf("%s: exit code %d, want %d\nstdout %q\nstderr %s\nwant %s", command, got.Code, r.code, got.Stdout, got.Stderr, r.stderr)
	}
}

// TestWrongFlags: exit code 64, one line, and a hint where to look.
func TestWrongFlags(t *testing.T) {
	t.Parallel()
	for _, r := range []refusal{
		{"mdbroker --lisen tcp://127.0.0.1:0", 64, `unknown flag: --lisen; did you mean --listen\? \(see mdbroker --help\)\n`},
		{"mdbroker --heartbeat soon", 64, `"soon".*--heartbeat.*\(see mdbroker --help\)\n`},
		{"mdbroker now", 64, `unexpected argument "now" \(see mdbroker --help\)\n`},
		{"mdservice ingst", 64, `unknown command "ingst"; did you mean ingest\? \(see mdservice --help\)\n`},
		{"mdservice", 64, `name a command: .*ingest.*\(see mdservice --help\)\n`},
		{"mdservice transform --concurrency x", 64, `--concurrency.*\(see mdservice transform --help\)\n`},
		{"mdservice ingest --listen nowhere", 64, `"nowhere".*HOST:PORT.*\(see mdservice ingest --help\)\n`},
		{"mdservice push --listen nowhere", 64, `"nowhere".*HOST:PORT.*\(see mdservice push --help\)\n`},
		{"mdservice hostmetrics --to nowhere", 64, `"nowhere".*HOST:PORT.*\(see mdservice hostmetrics --help\)\n`},
		{"mdworker echo --delay x", 64, `--delay.*\(see mdworker echo --help\)\n`},
		{"mdcli call", 64, `\(see mdcli call --help\)\n`},
		{"mdcli services -o yaml", 64, `yaml.*table, json.*\(see mdcli services --help\)\n`},
		{"mdcli feed", 64, `\(see mdcli feed --help\)\n`},
		{"mdcli feed x.csv --speed fast", 64, `--speed "fast".*\(see mdcli feed --help\)\n`},
		{"mdsupervisor run", 64, `--config FILE.*\(see mdsupervisor run --help\)\n`},
		{"mdsupervisor stop", 64, `\(see mdsupervisor stop --help\)\n`},
	} {
		r.check(t, nil, "")
	}
}

// TestAddressInUse: exit code 69, and the flag to change.
func TestAddressInUse(t *testing.T) {
	t.Parallel()
	m := start(t)
	dir := meshproc.Folder(t)
	if err := os.WriteFile(filepath.Join(dir, "s.toml"), []byte("[[child]]\nname = \"one\"\ncommand = [\"sleep\", \"1000\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const free = "tcp://127.0.0.1:0"
	for _, r := range []refusal{
		{"mdbroker --publish= --subscribe= --http= --listen tcp://{0}", 69, `in use.*--listen.*\n`},
		{"mdbroker --listen " + free + " --subscribe= --http= --publish tcp://{1}", 69, `in use.*--publish.*\n`},
		{"mdbroker --listen " + free + " --publish= --http= --subscribe tcp://{2}", 69, `in use.*--subscribe.*\n`},
		{"mdbroker --listen " + free + " --publish= --subscribe= --http {3}", 69, `in use.*--http.*\n`},
		{"mdservice ingest --listen {8}", 69, `in use.*--listen.*\n`},
		{"mdservice --data {dir} push --listen {9}", 69, `in use.*--listen.*\n`},
		{"mdsupervisor run --config {dir}/s.toml --socket {dir}/s.sock --http {9}", 69, `in use.*--http.*\n`},
	} {
		r.check(t, m, dir)
	}
	if err := m.linked(); err != nil {
		t.Error(err)
	}
}

// TestBadSupervisorFile: exit code 78, file:line, and nothing was started.
func TestBadSupervisorFile(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"syntax":      {"[[child]]\nname = \"a\ncommand = []\n", `:2:\d+: `},
		"unknown key": {"[[child]]\nname = \"a\"\ncommand = [\"sleep\", \"9\"]\nrestarts = 3\n", `:4:1: unknown key "child.restarts"\n  restarts = 3\n  \^\n`},
		"wrong type":  {"[[child]]\nname = \"a\"\ncommand = [\"sleep\", \"9\"]\nnumprocs = \"four\"\n", `:4:\d+: `},
		"same name":   {"[[child]]\nname = \"a\"\ncommand = [\"x\"]\n\n[[child]]\nname = \"a\"\ncommand = [\"x\"]\n", `:6:8: .*"a"`},
		"rubbish":     {"\x00\x01\x02", `:1:\d+: `},
		"empty":       {"", `names no child`},
	} {
		dir := meshproc.Folder(t)
		file := filepath.Join(dir, "mesh.toml")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got := meshproc.Run(t, meshproc.Command(t, "mdsupervisor", "run", "--config", file, "--socket", filepath.Join(dir, "s.sock")))
		if got.Code != 78 || got.Stdout != "" || !regexp.MustCompile(`^mdsupervisor: `+regexp.QuoteMeta(file)+`.*`+c.want).MatchString(got.Stderr) {
			t.Errorf("%s: exit code %d\n%s%s\nwant %s", name, got.Code, got.Stdout, got.Stderr, c.want)
		}
		if left := meshproc.Marked(t); len(left) > 0 {
			t.Errorf("%s: processes left: %v", name, left)
		}
	}
}

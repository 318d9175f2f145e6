package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/internal/config"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/mdtest"
	"github.com/mdmesh/mdmesh/worker"
	"github.com/mdmesh/mdmesh/zsock"
)

// mdcli runs the program in this process.
func mdcli(t *testing.T, args ...string) (code int, out, talk string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = cli.Run(t.Context(), command(), args, &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// TestHelp: every command explains itself, with an example.
func TestHelp(t *testing.T) {
	t.Parallel()
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Short == "" || c.Long == "" || !strings.Contains(c.Example, "mdcli") {
			t.Errorf("%s: short %q, long %.20q, example %q", c.CommandPath(), c.Short, c.Long, c.Example)
		}
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(command())
	if code, out, _ := mdcli(t, "call", "--help"); code != 0 || !strings.Contains(out, "Examples:") {
		t.Errorf("exit code %d, help %q", code, out)
	}
	if code, out, _ := mdcli(t, "--version"); code != 0 || !strings.HasPrefix(out, "mdcli ") {
		t.Errorf("exit code %d, version %q", code, out)
	}
}

// TestExitCodes: what a script sees of each outcome.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	o := &options{brokers: config.Endpoints{List: []string{"tcp://127.0.0.1:1", "tcp://127.0.0.1:2"}}}
	status := func(s mdp.Status, mayHaveRun bool) error {
		return &client.Error{Op: "call", Service: "x", Err: &mdp.Error{Status: s, Text: "because", MayHaveRun: mayHaveRun}}
	}
	for _, c := range []struct {
		err  error
		code int
		text string
	}{
		{nil, cli.OK, ""},
		{status(mdp.AppError, true), cli.Failed, "op: app error: because"},
		{status(mdp.Conflict, true), cli.Failed, "op: conflict: because (it may have run)"},
		{status(mdp.NoWorker, false), cli.Unavailable, "op: no worker: because"},
		{status(mdp.NotOffered, false), cli.Unavailable, "op: not offered: because"},
		{status(mdp.Expired, false), cli.TempFail, "op: expired: because"},
		{status(mdp.Busy, false), cli.TempFail, "op: busy: because"},
		{status(mdp.WorkerLost, true), cli.TempFail, "op: worker lost: because (it may have run)"},
		{status(mdp.PeerLost, true), cli.TempFail, "op: peer lost: because (it may have run)"},
		{status(mdp.Denied, false), cli.Denied, "op: denied: because"},
		{status(mdp.BadRequest, false), cli.Protocol, "op: bad request: because"},
		{status(mdp.TooBig, false), cli.Usage, "op: too big: because; bounds are mdbroker's --max-message, and 64MiB of mdcli"},
		{status(mdp.TooBig, true), cli.Failed, "op: too big: because (it may have run)"},
		{status(mdp.Internal, false), cli.Internal, "op: internal: because"},
		{fmt.Errorf("%w: last error: %w", client.ErrNoBroker, syscall.ECONNREFUSED), cli.Unavailable,
			"op: no broker at tcp://127.0.0.1:1, tcp://127.0.0.1:2: connection refused; is mdbroker running there? --broker names others"},
		{fmt.Errorf("%w: last error: dial: %w", client.ErrNoBroker, syscall.EACCES), cli.Denied,
			"op: permission denied at tcp://127.0.0.1:1, tcp://127.0.0.1:2: a socket file is for its owner, and the group that mdbroker's --listen names"},
		{fmt.Errorf("%w: tried x: last error: %w", client.ErrNoBroker, errors.New("odd greeting")), cli.Unavailable,
			"op: no broker at tcp://127.0.0.1:1, tcp://127.0.0.1:2: odd greeting; is mdbroker running there? --broker names others"},
		{fmt.Errorf("%w: tried x: last error: dial: %w", client.ErrNoBroker, &net.DNSError{Name: "x.invalid", IsNotFound: true}), cli.Unavailable,
			"op: no broker at tcp://127.0.0.1:1, tcp://127.0.0.1:2: no such host: x.invalid; is mdbroker running there? --broker names others"},
		{fmt.Errorf("%w: tried x: last error: dial x: %w: %q to DEALER", client.ErrNoBroker, zsock.ErrSocketType, "XPUB"), cli.Protocol,
			`op: no broker takes requests at tcp://127.0.0.1:1, tcp://127.0.0.1:2: peer's socket type does not fit: "XPUB" to DEALER; is it another port of one? See mdbroker's --listen`},
		{errors.New("odd"), cli.Internal, "op: odd"},
	} {
		err := o.explain("op", c.err)
		if code := cli.Code(err); code != c.code {
			t.Errorf("%v: exit code %d, want %d", c.err, code, c.code)
		}
		if err != nil && err.Error() != c.text {
			t.Errorf("got  %q\nwant %q", err, c.text)
		}
	}
	if err := o.explain("op", context.Canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("Ctrl-C became %v", err)
	}
}

// TestIdleStandardInput: Ctrl-C is not kept waiting by input that does not come.
func TestIdleStandardInput(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"call", "echo", "-"}, {"pub", "topic", "-"}, {"feed", "-"}} {
		idle, more := io.Pipe()
		ctx, end := context.WithCancel(t.Context())
		var stdout, stderr bytes.Buffer
		root := command()
		root.SetIn(reading{idle, end})
		cli.Run(ctx, root, args, &stdout, &stderr)
		if text := stderr.String(); !strings.Contains(text, "context canceled") {
			t.Errorf("mdcli %q said %q", args, text)
		}
		more.Close()
	}
}

// reading tells that it is read.
type reading struct {
	io.Reader
	begun func()
}

func (r reading) Read(p []byte) (int, error) { r.begun(); return r.Reader.Read(p) }

// TestStream: parts are printed in order; with JSON each is an object.
func TestStream(t *testing.T) {
	t.Parallel()
	b := mdtest.StartBroker(t)
	mdtest.StartWorker(t, b, "count", func(ctx context.Context, r *worker.Request) ([][]byte, error) {
		for _, part := range []string{"1 ", "2 "} {
			if err := r.Partial(ctx, []byte(part)); err != nil {
				return nil, err
			}
		}
		return [][]byte{[]byte("3")}, nil
	})
	for _, args := range [][]string{{}, {"--stream"}} {
		code, out, talk := mdcli(t, append([]string{"--broker", b.Endpoint, "call", "count"}, args...)...)
		if code != 0 || out != "1 2 3" {
			t.Errorf("%q: exit code %d, printed %q, said %q", args, code, out, talk)
		}
	}
	_, out, _ := mdcli(t, "--broker", b.Endpoint, "-o", "json", "call", "--stream", "count")
	var parts []string
	for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
		var a answer
		if err := d.Decode(&a); err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		parts = append(parts, string(a.Body[0]))
	}
	if strings.Join(parts, "") != "1 2 3" {
		t.Errorf("objects %q", parts)
	}
	_, out, _ = mdcli(t, "--broker", b.Endpoint, "-o", "json", "call", "count")
	var a answer
	if err := json.Unmarshal([]byte(out), &a); err != nil || len(a.Partials) != 2 || string(a.Body[0]) != "3" {
		t.Errorf("%q: %+v, %v", out, a, err)
	}
}

func TestCell(t *testing.T) {
	t.Parallel()
	for want, v := range map[string]any{
		"-": nil, "7": json.Number("7"), "true": true, "a,b": []any{"a", "b"}, "false": false, "plain": "plain",
		`"line\n"`: "line\n",
	} {
		if got := cell(v); got != want || cell([]any{}) != "-" {
			t.Errorf("cell(%#v) = %s, want %s", v, got, want)
		}
	}
}

func TestLoadLimits(t *testing.T) {
	t.Parallel()
	for _, l := range []load{
		{"s", 0, 1, 0, time.Second}, {"s", 10_001, 1, 0, time.Second}, {"s", 1, 0, 0, time.Second}, {"s", 1000, 101, 0, time.Second},
		{"s", 1, 1, 65 << 20, time.Second}, {"s", 1, 1, 0, 0}, {"", 1, 1, 0, time.Second},
	} {
		if err := l.check(); cli.Code(err) != cli.Usage {
			t.Errorf("%+v: %v, want an error of usage", l, err)
		}
	}
	if err := (&load{"s", 1000, 100, 0, time.Second}).check(); err != nil {
		t.Error(err)
	}
}

// TestKeysAreDocumented: whatever a listing prints as JSON is explained in its help.
func TestKeysAreDocumented(t *testing.T) {
	t.Parallel()
	all := append(slices.Clip(allListings), traceOf)
	for question, row := range map[string]reflect.Type{
		"mmi.services": reflect.TypeFor[broker.ServiceState](), "mmi.workers": reflect.TypeFor[broker.WorkerState](),
		"mmi.brokers": reflect.TypeFor[broker.BrokerState](), "mmi.peers": reflect.TypeFor[broker.LinkState](),
		"mmi.poison": reflect.TypeFor[broker.Poison](), "mmi.request": reflect.TypeFor[broker.Trace](),
	} {
		i := slices.IndexFunc(all, func(l listing) bool { return l.question == question })
		if i < 0 {
			t.Errorf("no command asks %s", question)
			continue
		}
		l := all[i]
		for _, f := range reflect.VisibleFields(row) {
			key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if !f.Anonymous && key != "-" && !slices.ContainsFunc(l.keys, func(k [2]string) bool { return k[0] == key }) {
				t.Errorf("mdcli %s does not explain key %q (%s): add it to keys.go", l.name, key, f.Name)
			}
		}
		for _, c := range l.columns {
			if !slices.ContainsFunc(l.keys, func(k [2]string) bool { return k[0] == c.key }) {
				t.Errorf("mdcli %s does not explain column %s", l.name, c.heading)
			}
		}
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	row := func(name string, answered, failed uint64) serviceRow {
		return serviceRow{activity: activity{Name: name}, Answered: answered, Failed: failed}
	}
	began := time.Now()
	before := look{began, []serviceRow{row("a", 10, 1), row("restarted", 1000, 1000)}}
	after := look{began.Add(2 * time.Second), []serviceRow{row("a", 30, 2), row("new", 50, 0), row("restarted", 5, 0)}}
	got := compare(before, after, nil)
	want := []activity{{Name: "a", Rate: 10, FailedRate: 0.5}, {Name: "new"}, {Name: "restarted"}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := compare(before, after, []string{"new", "gone"}); len(got) != 1 || got[0].Name != "new" {
		t.Errorf("one service: %+v", got)
	}
	if got := compare(before, after, []string{"gone"}); got == nil || len(got) > 0 {
		t.Errorf("none: %#v, want an empty list", got)
	}
}

func TestTopTable(t *testing.T) {
	t.Parallel()
	var plain, full strings.Builder
	writeTop(&plain, []activity{{Name: "echo", Rate: 1.25}})
	if strings.Contains(plain.String(), "P99") || !strings.Contains(plain.String(), "echo     1.2") {
		t.Errorf("without times:\n%s", plain.String())
	}
	writeTop(&full, []activity{{Name: "a", Wait: &times{Count: 1, P50Us: 7, P99Us: 9}, Run: &times{}}, {Name: "b"}})
	lines := strings.Split(full.String(), "\n")
	if !strings.HasSuffix(lines[0], "RUN_P99_US") || strings.Join(strings.Fields(lines[1])[10:], " ") != "7 9 - -" || strings.Join(strings.Fields(lines[2])[10:], " ") != "- - - -" {
		t.Errorf("with times:\n%s", full.String())
	}
}

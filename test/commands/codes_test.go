package commands

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/mdtest/scripted"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// impostor accepts connections and says words on each.
func impostor(t *testing.T, words string) (endpoint string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { nc.Close() })
			_, _ = nc.Write([]byte(words))
		}
	}()
	return "tcp://" + l.Addr().String()
}

// denying is a broker that refuses everybody.
func denying(t *testing.T) (endpoint string) {
	t.Helper()
	b := scripted.Start(t, scripted.Config{Endpoint: "tcp://127.0.0.1:0", Hello: func(hello *scripted.Message) {
		refusal := mdp.Command{Kind: mdp.Welcome}
		refusal.SetError(mdp.Errorf(mdp.Denied, "you are not on the list"))
		hello.Session.Send(refusal)
	}})
	return b.Endpoint
}

// TestForeignPorts: where something else than a broker answers, the code is 76 and
// the line says who does. Who says nothing may be a broker that hangs.
func TestForeignPorts(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	silent := impostor(t, "")
	for _, c := range []struct {
		name, endpoint string
		code           int
		parts          []string
	}{
		{"http", "tcp://" + web.Listener.Addr().String(), 76, []string{"no broker at", "an HTTP server answers at"}},
		{"the broker's own http", strings.Replace(b.http, "http://", "tcp://", 1), 76, []string{"an HTTP server answers at"}},
		{"ssh", impostor(t, "SSH-2.0-OpenSSH_9.2p1 Debian\r\n"), 76, []string{"an SSH server (SSH-2.0-OpenSSH_9.2p1 Debian) answers at"}},
		{"mail", impostor(t, "220 mail\x1b[31m ready\r\n"), 76, []string{`something that says "220 mail\x1b[31m ready" answers at`}},
		{"publish", b.publish, 76, []string{"no broker takes requests at", `"XSUB" to DEALER`, "another port"}},
		{"subscribe", b.subscribe, 76, []string{"no broker takes requests at", `"XPUB" to DEALER`, "another port"}},
		{"silent", silent, 69, []string{"no broker at " + silent, "is mdbroker running there?"}},
		{"one of two", "tcp://127.0.0.1:1,tcp://" + web.Listener.Addr().String(), 76, []string{"an HTTP server answers at tcp://" + web.Listener.Addr().String()}},
	} {
		for _, args := range [][]string{{"call", "x"}, {"services"}, {"pub", "t"}, {"sub", "t"}, {"bench", "x"}} {
			t.Run(c.name+"/"+args[0], func(t *testing.T) {
				t.Parallel()
				oneLine(t, run(t, nil, append([]string{"--timeout", "1s", "--broker", c.endpoint}, args...)...), c.code, c.parts...)
			})
		}
	}
	rows := file(t, "rows.csv", "time,value\n2026-11-21T10:00:00Z,1\n")
	for _, c := range []struct {
		name string
		args []string
		says string
	}{
		{"peers", []string{"peers", "pause", "b", "--http", strings.TrimPrefix(b.requests, "tcp://")}, "no HTTP is spoken"},
		{"feed", []string{"feed", rows, "--to", web.Listener.Addr().String()}, "another port than mdservice ingest has"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if r := run(t, nil, c.args...); r.Code != 76 || !strings.Contains(r.Stderr, c.says) || strings.Contains(r.Stderr, "no answer from ingest") {
				t.Errorf("exit code %d, stderr %q; want 76 and %q, at once", r.Code, r.Stderr, c.says)
			}
		})
	}
}

// TestDaemonsLookAround: those who try for ever say who answers in a broker's place.
func TestDaemonsLookAround(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	endpoint := "tcp://" + web.Listener.Addr().String()
	meshproc.Start(t, meshproc.Command(t, "mdworker", "--broker", endpoint, "echo")).Says(t, "an HTTP server answers at "+endpoint)
	startBroker(t, "--peer", endpoint).Says(t, "an HTTP server answers at "+endpoint)
}

// TestListingOfAnotherTime: an answer that is no listing is 76, too.
func TestListingOfAnotherTime(t *testing.T) {
	t.Parallel()
	odd := scripted.Start(t, scripted.Config{Endpoint: "tcp://127.0.0.1:0", Welcome: &mdp.WelcomeMap{Revision: 1, HeartbeatMs: 1000, Name: "odd"}})
	done := make(chan meshproc.Result, 1)
	go func() { done <- run(t, nil, "--broker", odd.Endpoint, "services") }()
	odd.Expect(mdp.Hello)
	odd.Expect(mdp.Request).Answer(mdp.Final, []byte("501"))
	oneLine(t, <-done, 76, "no listing", "newer or older mdbroker")
}

// TestDenied: whoever every broker refuses ends with 77.
func TestDenied(t *testing.T) {
	t.Parallel()
	endpoint := denying(t)
	for _, c := range [][]string{
		{"mdcli", "call", "echo", "x"},
		{"mdcli", "services"},
		{"mdcli", "pub", "t", "x"},
		{"mdcli", "sub", "t"},
		{"mdworker", "echo"},
		{"mdworker", "exec", "--service", "x", "--", "true"},
		{"mdworker", "exec", "--service", "x", "--persistent", "--", "cat"},
		{"mdservice", "transform", "--data", t.TempDir()},
	} {
		t.Run(strings.Join(c[:2], " "), func(t *testing.T) {
			t.Parallel()
			r := meshproc.Run(t, meshproc.Command(t, c[0], append([]string{"--broker", endpoint}, c[1:]...)...))
			if r.Code != 77 || r.Stdout != "" || !strings.Contains(r.Stderr, "you are not on the list") {
				t.Errorf("exit code %d, stdout %q, stderr %q; want 77 and the broker's reason", r.Code, r.Stdout, r.Stderr)
			}
		})
	}
}

// TestBusy: a queue that stays full until the deadline is 75.
func TestBusy(t *testing.T) {
	t.Parallel()
	b := startBroker(t, "--max-requests", "1")
	waiting := meshproc.Start(t, cli(t, b, "call", "--timeout", "1m", "nobody"))
	meshproc.Eventually(t, "one request waits", func() error {
		for _, row := range list(t, b, "services") {
			if row["name"] == "nobody" && row["queue"] == 1.0 {
				return nil
			}
		}
		return fmt.Errorf("services %v", list(t, b, "services"))
	})
	// The newest of whoever has most waiting is refused: of two with one each, the one that asks.
	oneLine(t, run(t, b, "call", "--timeout", "1s", "nobody"), 75, "busy", "full")
	waiting.SignalGroup(t, syscall.SIGINT)
	if code := waiting.Wait(t); code != 130 {
		t.Errorf("Ctrl-C: exit code %d, want 130", code)
	}
}

// TestDaemonsEnd: what runs until it is told to end, ends with 0.
func TestDaemonsEnd(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	worker := startWorker(t, b, "echo")
	transform := meshproc.Start(t, meshproc.Command(t, "mdservice", "--broker", b.requests, "transform", "--data", t.TempDir()))
	transform.Says(t, "offering service")
	for _, p := range []*meshproc.Process{worker, transform, b.Process} {
		p.Signal(t, syscall.SIGTERM)
		if code := p.Wait(t); code != 0 {
			t.Errorf("process %d ended with %d, want 0; it said:\n%s", p.PID(), code, p.Output())
		}
	}
}

// TestWrongConfiguration: in a file it is 78 for all programs, on the command line 64.
func TestWrongConfiguration(t *testing.T) {
	t.Parallel()
	odd := file(t, "odd.toml", "brokr = \"x\"\n")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	for _, c := range []struct {
		code int
		args []string
		says string
	}{
		{78, []string{"mdcli", "--config", odd, "services"}, "brokr"},
		{78, []string{"mdworker", "--config", odd, "echo"}, "brokr"},
		{78, []string{"mdbroker", "--config", odd}, "brokr"},
		{78, []string{"mdservice", "--config", odd, "rollup"}, "brokr"},
		{78, []string{"mdservice", "ingest", "--listen", "0.0.0.0:0"}, "--insecure"},
		{64, []string{"mdcli", "--brokr", "x", "services"}, "mdcli"},
		{64, []string{"mdworker", "--brokr", "x", "echo"}, "mdworker"},
		{64, []string{"mdbroker", "--brokr", "x"}, "mdbroker --help"},
		{64, []string{"mdservice", "--brokr", "x", "rollup"}, "mdservice"},
		{64, []string{"mdservice", "transform", "--concurrency", "0"}, "--concurrency 0"},
		{69, []string{"mdservice", "ingest", "--listen", address}, "choose another with --listen"},
		{69, []string{"mdservice", "rollup", "--data", "/dev/null/no"}, "/dev/null/no"},
		{69, []string{"mdbroker", "--listen", "tcp://" + address, "--publish", "", "--subscribe", "", "--http", ""}, "address in use"},
	} {
		r := meshproc.Run(t, meshproc.Command(t, c.args[0], c.args[1:]...))
		if r.Code != c.code || r.Stdout != "" || !strings.Contains(r.Stderr, c.says) {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q; want %d and %q", c.args, r.Code, r.Stdout, r.Stderr, c.code, c.says)
		}
	}
}

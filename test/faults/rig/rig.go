// Package rig is what the fault tests and `make bench-faults` share: brokers and
// actors as real processes, the broker's own books read over HTTP, relays between
// them, and the injections themselves, each of which returns how long recovery took.
//
// The one invariant: everything is bound to the testing.TB it was started for, and
// gone when that has ended. Start reading at StartBroker, then injections in
// worker.go, client.go and link.go.
package rig

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/internal/logging"
	"github.com/mdmesh/mdmesh/test/faults/actor"
	"github.com/mdmesh/mdmesh/test/faults/relay"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// Broker is an mdbroker process.
type Broker struct {
	*meshproc.Process
	Requests, Publish, Subscribe, HTTP string

	// Books reads HTTP where the broker is not on this host's loopback; nil: it is.
	Books *http.Client
}

// StartBroker runs mdbroker on free ports, with events and HTTP.
func StartBroker(t testing.TB, flags ...string) *Broker {
	t.Helper()
	return StartBrokerAt(t, "tcp://127.0.0.1:0", flags...)
}

// StartBrokerAt is StartBroker with a given endpoint for requests.
func StartBrokerAt(t testing.TB, listen string, flags ...string) *Broker {
	t.Helper()
	args := append([]string{"--listen", listen, "--publish", "tcp://127.0.0.1:0",
		"--subscribe", "tcp://127.0.0.1:0", "--http", "127.0.0.1:0"}, flags...)
	p := meshproc.Start(t, meshproc.Command(t, "mdbroker", args...))
	return &Broker{Process: p, Requests: p.Endpoint(t, "requests"), Publish: p.Endpoint(t, "publish"),
		Subscribe: p.Endpoint(t, "subscribe"), HTTP: p.Endpoint(t, "http")}
}

var books = &http.Client{Timeout: meshproc.Guard}

// Look reads the broker's state; a broker that does not answer is an error.
func (b *Broker) Look() (st broker.State, err error) {
	r, err := cmp.Or(b.Books, books).Get(b.HTTP + "/state")
	if err != nil {
		return st, err
	}
	defer func() { _ = r.Body.Close() }()
	if r.StatusCode != http.StatusOK {
		return st, errors.New(r.Status)
	}
	if err = json.NewDecoder(r.Body).Decode(&st); err == nil {
		_, err = io.Copy(io.Discard, r.Body) // to its end, or the connection is not used again
	}
	return st, err
}

// State is Look for a broker that must answer.
func (b *Broker) State(t testing.TB) broker.State {
	t.Helper()
	st, err := b.Look()
	if err != nil {
		t.Fatalf("state of the broker: %v", err)
	}
	return st
}

// Service is one service in the broker's books; zero if it is unknown.
func (b *Broker) Service(t testing.TB, name string) broker.ServiceState {
	t.Helper()
	return find(b.State(t), name)
}

func find(st broker.State, name string) broker.ServiceState {
	for _, s := range st.Services {
		if s.Name == name {
			return s
		}
	}
	return broker.ServiceState{}
}

// Await looks until check is content, and returns how long that took.
func (b *Broker) Await(t testing.TB, what string, check func(broker.State) bool) time.Duration {
	t.Helper()
	return Await(t, what, func() error {
		st, err := b.Look()
		if err == nil && !check(st) {
			err = fmt.Errorf("services %+v, counters %v", st.Services, st.Counters)
		}
		return err
	})
}

// AwaitService is Await for one service.
func (b *Broker) AwaitService(t testing.TB, name, what string, check func(broker.ServiceState) bool) time.Duration {
	t.Helper()
	return b.Await(t, what, func(st broker.State) bool { return check(find(st, name)) })
}

// Await asks check every few milliseconds until it returns nil, and returns how long
// that took.
func Await(t testing.TB, what string, check func() error) time.Duration {
	t.Helper()
	return meshproc.Await(t, what, 2*time.Millisecond, check)
}

// Stop stops the process as SIGSTOP does and waits until it is.
func Stop(t testing.TB, p *meshproc.Process) {
	t.Helper()
	p.Signal(t, syscall.SIGSTOP)
	Await(t, "the process is stopped", func() error {
		if state := meshproc.State(p.PID()); state != 'T' {
			return fmt.Errorf("state %c", state)
		}
		return nil
	})
}

// Continue lets a stopped process go on.
func Continue(t testing.TB, p *meshproc.Process) {
	t.Helper()
	p.Signal(t, syscall.SIGCONT)
}

// Actor starts this binary again in a role.
func Actor(t testing.TB, role, endpoint, service string, environment ...string) *meshproc.Process {
	t.Helper()
	return meshproc.Start(t, ActorCommand(t, role, endpoint, service, environment...))
}

// ActorCommand prepares what Actor starts.
func ActorCommand(t testing.TB, role, endpoint, service string, environment ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(meshproc.Environment(t), actor.Role+"="+role, actor.Brokers+"="+endpoint, actor.Service+"="+service)
	cmd.Env = append(cmd.Env, environment...)
	cmd.Env = append(cmd.Env, "GORACE=atexit_sleep_ms=0") // what is killed often should end fast
	return cmd
}

// Worker starts a worker process and waits until it is ready.
func Worker(t testing.TB, endpoint, service string, environment ...string) *meshproc.Process {
	t.Helper()
	p := Actor(t, "worker", endpoint, service, environment...)
	p.Line(t, "ready")
	return p
}

// Set is one variable of an actor's environment.
func Set(name string, value any) string { return fmt.Sprint(name, "=", value) }

// Client is a client in this process, closed with the test.
func Client(t testing.TB, endpoints ...string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Brokers: endpoints, Timeout: meshproc.Guard, Logger: logging.Test(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Relay starts a relay in front of target, closed with the test.
func Relay(t testing.TB, target string) *relay.Relay {
	t.Helper()
	r, err := relay.Start(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// Outcome is how a call ended.
type Outcome struct {
	PID, Attempt int      // of the worker that answered
	Rest         [][]byte // of the answer
	Reply        *client.Reply
	Err          error
	Asked, At    time.Time // the beginning and the end
}

// Ask starts a call, and delivers its outcome, one.
func Ask(ctx context.Context, c *client.Client, call client.Call) <-chan Outcome {
	ch := make(chan Outcome, 1)
	go func() { ch <- Do(ctx, c, call) }()
	return ch
}

// Do calls and takes the answer of a worker actor apart.
func Do(ctx context.Context, c *client.Client, call client.Call) (o Outcome) {
	o.Asked = time.Now()
	o.Reply, o.Err = c.Do(ctx, call)
	o.At = time.Now()
	if o.Err != nil {
		return o
	}
	if len(o.Reply.Body) == 0 {
		o.Err = errors.New("an empty answer")
		return o
	}
	if _, err := fmt.Sscanf(string(o.Reply.Body[0]), "%d %d", &o.PID, &o.Attempt); err != nil {
		o.Err = fmt.Errorf("answer %q: %w", o.Reply.Body[0], err)
	}
	o.Rest = o.Reply.Body[1:]
	return o
}

// Wait waits for an outcome.
func Wait(t testing.TB, ch <-chan Outcome) Outcome {
	t.Helper()
	select {
	case o := <-ch:
		return o
	case <-time.After(meshproc.Guard):
		t.Fatalf("no answer within %v", meshproc.Guard)
		return Outcome{}
	}
}

// Words is a call's body.
func Words(first string, rest ...[]byte) [][]byte { return append([][]byte{[]byte(first)}, rest...) }

// Peak is the most a process has had in memory, in octets, since ForgetPeak.
func Peak(t testing.TB, pid int) (octets int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "VmHWM:")
	if _, err := fmt.Sscan(after, &octets); err != nil {
		t.Fatal(err)
	}
	return octets << 10
}

// ForgetPeak lets the peak begin at what the process has now (proc(5), clear_refs).
func ForgetPeak(t testing.TB, pid int) {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
}

// RSS is what a process has in memory, in octets.
func RSS(t testing.TB, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * int64(os.Getpagesize())
}

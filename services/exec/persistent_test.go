package exec

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/mdtest"
	"github.com/mdmesh/mdmesh/test/meshproc"
	"github.com/mdmesh/mdmesh/worker"
)

func TestStays(t *testing.T) {
	t.Parallel()
	_, _, cl := serveService(t, stays())
	pid := obeyed(t, cl, "pid")
	for _, c := range []struct {
		more []string
		want string
	}{
		{nil, ""},
		{[]string{"hello"}, "hello"},
		{[]string{"a", "", "b"}, "a||b"},
		{[]string{"\x00\xff\n\r"}, "\x00\xff\n\r"},
		{[]string{strings.Repeat("large", 1<<18)}, strings.Repeat("large", 1<<18)},
	} {
		if got := obeyed(t, cl, "echo", c.more...); got != c.want {
			t.Errorf("%d octets %.40q, want %d %.40q", len(got), got, len(c.want), c.want)
		}
	}
	if again := obeyed(t, cl, "pid"); again != pid {
		t.Errorf("process %s, then %s: want one for all requests", pid, again)
	}
}

func TestHeaderFrame(t *testing.T) {
	t.Parallel()
	_, _, cl := serveService(t, stays())
	reply, err := cl.Do(t.Context(), client.Call{Service: "run", Body: [][]byte{[]byte("header")}, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	var h struct {
		Service, ID, Caller string
		Attempt             int
		Deadline            int64 `json:"deadline_ms"`
	}
	if err := json.Unmarshal(reply.Body[0], &h); err != nil {
		t.Fatal(err)
	}
	id := reply.ID.String()
	if h.Service != "run" || h.ID != id || h.Caller != id[:16] || h.Attempt != 1 || h.Deadline <= 0 || h.Deadline > 20_000 {
		t.Errorf("header %s", reply.Body[0])
	}
}

// TestPersistentFailures: what the caller gets, and that the next request is served,
// by the same program only if that has kept to the rules.
func TestPersistentFailures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		order  string
		status mdp.Status // 0: a reply
		text   string     // the reply, or what is in the error
		lives  bool
	}{
		{"fail", mdp.AppError, "out of milk", true},
		{"fail silently", mdp.AppError, "without a text", true},
		{"die", mdp.AppError, "exit status 3: doing die\nlast words", false},
		{"die after", 0, "done", false},
		{"half", mdp.AppError, "ended without an answer", false},
		{"close", mdp.AppError, "doing close", false},
		{"rubbish", mdp.AppError, "no answer: it begins with octet 0x3c, want 00 or 01: doing rubbish", false},
		{"frames", mdp.AppError, "4294967295 frames, want 1000 at most", false},
		{"huge", mdp.TooBig, "wrote more than 67108864 octets", false},
		{"twice", 0, "one", false},
	} {
		t.Run(c.order, func(t *testing.T) {
			t.Parallel()
			_, s, cl := serveService(t, stays())
			pid := obeyed(t, cl, "pid")
			text, err := order(t.Context(), cl, c.order)
			var e *mdp.Error
			if errors.As(err, &e) {
				text = e.Text
			}
			if c.status == 0 != (err == nil) || c.status != 0 && !errors.Is(err, c.status) || !strings.Contains(text, c.text) {
				t.Errorf("%q, %v, want %v %q", text, err, c.status, c.text)
			}
			if err != nil && !e.MayHaveRun {
				t.Error("the error does not say that the program has run")
			}
			if got := obeyed(t, cl, "pid"); (got == pid) != c.lives {
				t.Errorf("process %s, then %s", pid, got)
			}
			if n := s.Counters(); (n.Ended == 0) != c.lives || n.Started != 1+n.Ended {
				t.Errorf("counters %+v", n)
			}
		})
	}
}

// TestPersistentKilled: whatever ends the request ends the program and its child, and
// another one takes its place.
func TestPersistentKilled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		timeout time.Duration
		end     func(cancel context.CancelFunc, b *mdtest.Broker)
		want    mdp.Status
	}{
		{"deadline", 3 * time.Second, func(context.CancelFunc, *mdtest.Broker) {}, mdp.Expired},
		{"cancel", meshproc.Guard, func(cancel context.CancelFunc, _ *mdtest.Broker) { cancel() }, mdp.Cancelled},
		{"broker lost", meshproc.Guard, func(cancel context.CancelFunc, b *mdtest.Broker) { b.Stop(); cancel() }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "pids")
			b, s, cl := serveService(t, stays())
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			failed := make(chan error, 1)
			go func() {
				_, err := cl.Do(ctx, client.Call{Service: "run", Body: [][]byte{[]byte("wait"), []byte(file)}, Timeout: c.timeout})
				failed <- err
			}()
			ids := pids(t, file)
			c.end(cancel, b)
			wantGone(t, ids)
			if err := <-failed; err == nil || c.want != 0 && !errors.Is(err, c.want) {
				t.Errorf("the caller got %v, want %v", err, c.want)
			}
			meshproc.Eventually(t, "another program runs", func() error {
				if n := s.Counters(); n.Started != 2 || n.Killed != 1 || n.Ended != 0 {
					return fmt.Errorf("counters %+v", n)
				}
				return nil
			})
			if c.want != 0 {
				obeyed(t, cl, "echo")
			}
		})
	}
}

// TestEndsWhileIdle: nobody notices but the counters.
func TestEndsWhileIdle(t *testing.T) {
	t.Parallel()
	_, s, cl := serveService(t, stays())
	pid, _ := strconv.Atoi(obeyed(t, cl, "pid"))
	p, _ := os.FindProcess(pid)
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	meshproc.Eventually(t, "another program runs", func() error {
		if n := s.Counters(); n.Started != 2 || n.Ended != 1 {
			return fmt.Errorf("counters %+v", n)
		}
		return nil
	})
	obeyed(t, cl, "echo")
}

// TestCannotStay: a program that ends at once is started now and then, and callers
// learn why they get nothing.
func TestCannotStay(t *testing.T) {
	t.Parallel()
	_, s, cl := serveService(t, Config{Command: []string{"sh", "-c", "echo no such database >&2; exit 4"}, Persistent: true})
	_, err := cl.Call(t.Context(), "run")
	if !errors.Is(err, mdp.AppError) || !strings.Contains(err.Error(), "exit status 4: no such database") {
		t.Errorf("error %v", err)
	}
	// Pauses of 10 ms at least, which double: not thousands in the two seconds of patience.
	if n := s.Counters(); n.Started < 2 || n.Started > 1000 {
		t.Errorf("counters %+v", n)
	}
}

func TestPersistentConcurrency(t *testing.T) {
	t.Parallel()
	cfg := stays()
	cfg.Children = 2
	dir := t.TempDir()
	_, _, cl := serveService(t, cfg, func(c *worker.Config) { c.Concurrency = 2 })
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() { _, _ = order(ctx, cl, "wait", filepath.Join(dir, strconv.Itoa(i))) })
	}
	all := append(pids(t, filepath.Join(dir, "0")), pids(t, filepath.Join(dir, "1"))...)
	cancel()
	wg.Wait()
	wantGone(t, all)
}

// TestExamples: they do what they say, with any octets.
func TestExamples(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		command  string
		text     string // the answer to frames "ab" and "c"
		complain bool   // about a request without a body
	}{
		{"python3 ../../examples/exec/score.py", "AB|C", true},
		{"php ../../examples/exec/score.php", "AB|C", true},
		{"sh ../../examples/exec/score.sh", "ABC", false},
	} {
		t.Run(c.command, func(t *testing.T) {
			t.Parallel()
			cfg := Config{Command: strings.Fields(c.command), Persistent: true}
			if _, err := osexec.LookPath(cfg.Command[0]); err != nil {
				if os.Getenv("CI") != "" {
					t.Fatal(err)
				}
				t.Skip(err)
			}
			_, s, cl := serveService(t, cfg)
			for range 3 {
				if got := obeyed(t, cl, "ab", "c"); got != c.text {
					t.Errorf("answer %q, want %q", got, c.text)
				}
			}
			if got := obeyed(t, cl, "x\x00\n\n", ""); !strings.HasPrefix(got, "X\x00\n\n") {
				t.Errorf("answer %q", got)
			}
			if _, err := cl.Call(t.Context(), "run"); c.complain != errors.Is(err, mdp.AppError) {
				t.Errorf("no body: %v", err)
			}
			if n := s.Counters(); n.Started != 1 {
				t.Errorf("counters %+v", n)
			}
		})
	}
}

// TestDeadWorkersProgram: when the worker is killed its program dies, also while it works
// and does not read, so that the end of its input tells it nothing.
func TestDeadWorkersProgram(t *testing.T) {
	t.Parallel()
	b := mdtest.StartBroker(t)
	w := meshproc.Start(t, meshproc.Command(t, "mdworker", append([]string{"--broker", b.Endpoint, "exec", "--service", "run", "--persistent", "--"}, stays().Command...)...))
	cl := mdtest.Client(t, b, func(c *client.Config) { c.Timeout = meshproc.Guard })
	file := filepath.Join(t.TempDir(), "pids")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _, _ = order(ctx, cl, "wait", file) }()
	program := pids(t, file)[:1] // its own child may survive it
	w.Kill(t)
	wantGone(t, program)
}

func FuzzReadAnswer(f *testing.F) {
	f.Add(appendFrames([]byte{answerOK}, []byte("a"), nil, []byte("bc")), 1)
	f.Add(appendFrames([]byte{answerError}), 1)
	f.Add([]byte("\x00\x00\x00\x00\x01\xff\xff\xff\xff"), 1)
	f.Add(appendFrames([]byte{answerPart, 0, 0, 0, 7}, []byte("a")), Numbered)
	f.Fuzz(func(t *testing.T, octets []byte, version int) {
		const most = 1 << 10
		r := bufio.NewReader(bytes.NewReader(octets))
		for {
			a := readAnswer(r, version, most)
			if a.err != nil {
				return
			}
			head := []byte{answerOK}
			switch {
			case a.failed:
				head[0] = answerError
			case a.part:
				head[0] = answerPart
			}
			if version == Numbered {
				head = binary.BigEndian.AppendUint32(head, a.number)
			}
			wire := appendFrames(head, a.frames...)
			if !bytes.HasPrefix(octets, wire) {
				t.Fatalf("%q was read as %q", octets, wire)
			}
			octets = octets[len(wire):]
			if size := len(bytes.Join(a.frames, nil)); size > most || len(a.frames) > maxAnswerFrames {
				t.Fatalf("%d frames of %d octets", len(a.frames), size)
			}
		}
	})
}

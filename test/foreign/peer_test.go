package foreign

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// process is one foreign program: it says what happened in JSON lines on stdout.
type process struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	events chan event
	exited chan struct{}
	log    logBuffer
}

// event is one line of a program. Frames are octets written as code points 0 to
// 255, so that every octet survives JSON.
type event struct {
	Event    string   `json:"event"`
	Socket   string   `json:"socket"`
	Endpoint string   `json:"endpoint"`
	Frames   []string `json:"frames"`
	Error    string   `json:"error"`
	Size     int      `json:"size"`
	Sha256   string   `json:"sha256"`
	Count    int      `json:"count"`
}

// run starts a program of testdata (or elsewhere) until the test ends.
func run(t testing.TB, name string, args ...string) *process {
	t.Helper()
	p := &process{name: name, cmd: exec.Command(name, args...), events: make(chan event, 4096), exited: make(chan struct{})}
	if strings.HasSuffix(name, ".py") {
		needPython(t)
		p.cmd = exec.Command(python, append([]string{"-u", name}, args...)...)
	}
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.read(stdout, stderr)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		go func() { // a full channel must not keep the process
			for range p.events {
			}
		}()
		<-p.exited
		if t.Failed() && p.log.String() != "" {
			t.Logf("%s:\n%s", p.name, &p.log)
		}
	})
	return p
}

func (p *process) read(stdout, stderr io.Reader) {
	defer close(p.exited)
	var errors sync.WaitGroup
	errors.Go(func() {
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			p.log.add(lines.Text())
		}
	})
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		e := event{Event: "text", Error: lines.Text()}
		if strings.HasPrefix(lines.Text(), "{") {
			e = event{}
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				e.Error = err.Error()
			}
		}
		p.events <- e
	}
	errors.Wait()
	_ = p.cmd.Wait()
	close(p.events)
}

// next waits for the program's next line.
func (p *process) next(t testing.TB) event {
	t.Helper()
	select {
	case e, ok := <-p.events:
		if !ok {
			t.Fatalf("%s ended\n%s", p.name, &p.log)
		}
		return e
	case <-time.After(guard):
		t.Fatalf("nothing from %s within %v\n%s", p.name, guard, &p.log)
	}
	return event{}
}

// wait skips lines until one of the given event comes.
func (p *process) wait(t testing.TB, name string) event {
	t.Helper()
	for {
		if e := p.next(t); e.Event == name {
			return e
		}
	}
}

func (p *process) kill(t testing.TB) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	await(t, "end of "+p.name, p.exited)
}

// peer is a Python process that holds libzmq sockets for the test.
type peer struct {
	*process
	sockets map[string]*socket
	kept    map[string][]event // read while waiting for another socket
}

// socket is one of them.
type socket struct {
	p    *peer
	name string
}

func startPeer(t testing.TB) *peer {
	t.Helper()
	return &peer{process: run(t, "testdata/sockets.py"), sockets: map[string]*socket{}, kept: map[string][]event{}}
}

func (p *peer) tell(t testing.TB, order map[string]any) {
	t.Helper()
	line, err := json.Marshal(order)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		t.Fatalf("%s: %v\n%s", p.name, err, &p.log)
	}
}

// open makes a socket of a type, with libzmq options as name=value, and connects it.
func (p *peer) open(t testing.TB, b *broker, kind string, options ...string) *socket {
	t.Helper()
	return p.openAt(t, b.endpoint, kind, options...)
}

func (p *peer) openAt(t testing.TB, endpoint, kind string, options ...string) *socket {
	t.Helper()
	s := &socket{p: p, name: fmt.Sprintf("%s-%d", kind, len(p.sockets))}
	p.sockets[s.name] = s
	p.tell(t, map[string]any{"do": "open", "socket": s.name, "type": kind, "endpoint": endpoint, "options": options})
	return s
}

// proxy runs a ROUTER/DEALER proxy in front of an endpoint and returns its own.
func (p *peer) proxy(t testing.TB, endpoint string) string {
	t.Helper()
	p.tell(t, map[string]any{"do": "proxy", "endpoint": endpoint})
	return p.wait(t, "proxy").Endpoint
}

// close ends the process in good order.
func (p *peer) close(t testing.TB) {
	t.Helper()
	_ = p.stdin.Close()
	await(t, "end of "+p.name, p.exited)
}

func (s *socket) send(t testing.TB, frames ...string) {
	t.Helper()
	s.p.tell(t, map[string]any{"do": "send", "socket": s.name, "frames": widenAll(frames)})
}

// beat makes the process send this message again and again.
func (s *socket) beat(t testing.TB, every time.Duration, frames ...string) {
	t.Helper()
	s.p.tell(t, map[string]any{"do": "beat", "socket": s.name, "frames": widenAll(frames), "every": every.Seconds()})
}

// close takes the connection down at once; what was sent before is written first.
func (s *socket) close(t testing.TB) {
	t.Helper()
	s.p.tell(t, map[string]any{"do": "close", "socket": s.name})
}

// next waits for the socket's next message, heartbeats included.
func (s *socket) next(t testing.TB) []string {
	t.Helper()
	for {
		var e event
		if kept := s.p.kept[s.name]; len(kept) > 0 {
			e, s.p.kept[s.name] = kept[0], kept[1:]
		} else {
			e = s.p.next(t)
		}
		switch {
		case e.Event == "error":
			t.Fatalf("%s: %s", s.p.name, e.Error)
		case e.Event != "message":
		case e.Socket != s.name:
			s.p.kept[e.Socket] = append(s.p.kept[e.Socket], e)
		default:
			for i, f := range e.Frames {
				e.Frames[i] = narrow(f)
			}
			return e.Frames
		}
	}
}

// recv waits for the socket's next message that is no heartbeat.
func (s *socket) recv(t testing.TB) []string {
	t.Helper()
	for {
		if m := s.next(t); !isHeartbeat(m) {
			return m
		}
	}
}

// expect fails the test unless the next message that is no heartbeat is this one.
func (s *socket) expect(t testing.TB, frames ...string) {
	t.Helper()
	if got := s.recv(t); !slices.Equal(got, frames) {
		t.Fatalf("%s\n got %q\nwant %q", s.name, got, frames)
	}
}

// fence proves that nothing else was sent to the socket: the broker answers one
// connection in order, so a question it answers itself comes back next.
func (s *socket) fence(t testing.TB) {
	t.Helper()
	s.send(t, "MDPC02", "\x01", "mmi.service", "fence")
	s.expect(t, "MDPC02", "\x03", "mmi.service", "404")
}

func isHeartbeat(m []string) bool {
	if len(m) > 0 && m[0] == "" {
		m = m[1:]
	}
	return slices.Equal(m, []string{"MDPW01", "\x04"}) || slices.Equal(m, []string{"MDPW02", "\x05"}) ||
		len(m) == 1 && len(m[0]) == 42 && strings.HasPrefix(m[0], "MDP") && m[0][6] == 8
}

func widenAll(frames []string) []string {
	wide := make([]string, len(frames))
	for i, f := range frames {
		wide[i] = widen(f)
	}
	return wide
}

func widen(octets string) string {
	runes := make([]rune, len(octets))
	for i := range len(octets) {
		runes[i] = rune(octets[i])
	}
	return string(runes)
}

func narrow(text string) string {
	octets := make([]byte, 0, len(text))
	for _, r := range text {
		octets = append(octets, byte(r))
	}
	return string(octets)
}

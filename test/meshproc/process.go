package meshproc

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is one running program. Its methods may be called from any goroutine.
type Process struct {
	cmd    *exec.Cmd
	output output
	exited chan struct{} // closed when it has ended and all it said was read
}

// Start runs cmd in a process group of its own, with stdout and stderr captured
// (the first and the last lines are kept), and ends the group, and every process
// that carries t's mark, with the test.
func Start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{cmd: cmd, exited: make(chan struct{})}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = write, write
	err = cmd.Start()
	_ = write.Close()
	if err != nil {
		_ = read.Close()
		t.Fatal(err)
	}
	go p.read(read)
	t.Cleanup(func() { p.end(t) })
	return p
}

// read takes what the process says, until it has ended. A descendant that keeps
// the pipe open does not keep us.
func (p *Process) read(pipe *os.File) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		lines := bufio.NewScanner(pipe)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			p.output.add(lines.Text())
		}
		_, _ = io.Copy(io.Discard, pipe)
	}()
	_ = p.cmd.Wait()
	select {
	case <-done:
	case <-time.After(time.Second):
	}
	_ = pipe.Close()
	<-done
	close(p.exited)
}

// end asks the process to end, insists, and clears away what it left.
func (p *Process) end(t testing.TB) {
	select {
	case <-p.exited:
	default:
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		_ = p.cmd.Process.Signal(syscall.SIGCONT) // a stopped one hears nothing else
		select {
		case <-p.exited:
		case <-time.After(Guard / 3):
			_ = syscall.Kill(-p.PID(), syscall.SIGKILL)
			<-p.exited
		}
	}
	for _, pid := range Marked(t) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if t.Failed() {
		t.Logf("%s said:\n%s", strings.Join(p.cmd.Args, " "), p.Output())
	}
}

// PID is also the number of its process group.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Output returns what the process said, both streams mixed; of very much, the
// beginning and the end.
func (p *Process) Output() string { return p.output.String() }

// Signal sends to the process alone.
func (p *Process) Signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// SignalGroup sends to the process and all of its group, as a terminal does. A
// group that has ended misses nothing.
func (p *Process) SignalGroup(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(-p.PID(), sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Fatal(err)
	}
}

// Kill ends the process like a crash and waits until it is gone.
func (p *Process) Kill(t testing.TB) {
	t.Helper()
	p.Signal(t, syscall.SIGKILL)
	p.Wait(t)
}

// Wait waits for the end and returns the exit code, -1 for a signal.
func (p *Process) Wait(t testing.TB) int {
	t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(Guard):
		t.Fatalf("%s did not end within %v; it said:\n%s", p.cmd.Path, Guard, p.Output())
		return 0
	}
}

// Line waits for a line that begins with prefix and returns the rest of it.
func (p *Process) Line(t testing.TB, prefix string) string {
	t.Helper()
	return p.await(t, prefix, func(line string) (string, bool) { return strings.CutPrefix(line, prefix) })
}

// Says waits for a line that holds text and returns what follows in the line.
func (p *Process) Says(t testing.TB, text string) string {
	t.Helper()
	return p.await(t, text, func(line string) (string, bool) {
		_, rest, found := strings.Cut(line, text)
		return rest, found
	})
}

func (p *Process) await(t testing.TB, what string, match func(line string) (string, bool)) string {
	t.Helper()
	guard := time.After(Guard)
	for {
		rest, found, more := p.output.find(match)
		if found {
			return rest
		}
		select {
		case <-more:
		case <-p.exited:
			if rest, found, _ = p.output.find(match); found {
				return rest
			}
			t.Fatalf("%s ended with %v before it said %q; it said:\n%s", p.cmd.Path, p.cmd.ProcessState, what, p.Output())
		case <-guard:
			t.Fatalf("%s did not say %q within %v; it said:\n%s", p.cmd.Path, what, Guard, p.Output())
		}
	}
}

// Endpoint waits until the process listens in that role, such as "requests", and
// returns the endpoint.
func (p *Process) Endpoint(t testing.TB, role string) string {
	t.Helper()
	return strings.TrimSpace(p.Line(t, "listening role="+role+" endpoint="))
}

// Result is what a command that ended left.
type Result struct {
	Code           int // exit code, -1 for a signal
	Stdout, Stderr string
}

// Run runs cmd to its end, which must come within Guard.
func Run(t testing.TB, cmd *exec.Cmd) Result {
	t.Helper()
	var out, errs bounded
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(Guard, func() { _ = cmd.Process.Kill() })
	err := cmd.Wait()
	if !late.Stop() {
		t.Fatalf("%s did not end within %v: %v\n%s%s", cmd, Guard, err, out.String(), errs.String())
	}
	return Result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// maxRunOutput bounds each stream of Run.
const maxRunOutput = 16 << 20

// bounded keeps the beginning of what is written.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if room := maxRunOutput - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

// keptLines bounds each end of an output.
const keptLines = 300

// output keeps the first and the last lines of a process.
type output struct {
	mu         sync.Mutex
	head, tail []string
	dropped    int
	more       chan struct{} // closed by the next line; nil while nobody waits
}

func (o *output) add(line string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.head) < keptLines {
		o.head = append(o.head, line)
	} else if o.tail = append(o.tail, line); len(o.tail) > keptLines {
		o.tail = o.tail[1:]
		o.dropped++
	}
	if o.more != nil {
		close(o.more)
		o.more = nil
	}
}

// find returns what match makes of the first line it accepts; more is closed when
// there is a further line to look at.
func (o *output) find(match func(line string) (string, bool)) (rest string, found bool, more <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, lines := range [][]string{o.head, o.tail} {
		for _, line := range lines {
			if rest, found = match(line); found {
				return rest, true, nil
			}
		}
	}
	if o.more == nil {
		o.more = make(chan struct{})
	}
	return "", false, o.more
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	text := strings.Join(o.head, "\n")
	if o.dropped > 0 {
		text += "\n[...]"
	}
	if len(o.tail) > 0 {
		text += "\n" + strings.Join(o.tail, "\n")
	}
	return text
}

// Package procs runs the processes of a benchmark and reads what they cost: CPU time
// and memory, as the kernel counts them.
//
// The one invariant: what was started is stopped, by [Group.Stop] or, should the
// benchmark be killed, by the kernel. Start at Group.
package procs

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// patience is how long a process may take to end after it was asked to.
const patience = 3 * time.Second

// Group is a set of processes that end together. The zero value is ready.
type Group struct {
	procs []*Proc
}

// Proc is one running process.
type Proc struct {
	Name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string   // what it says, both streams; the oldest are lost when nobody reads
	ended chan struct{} // closed when it has ended and all it said was read

	mu   sync.Mutex
	tail []string // its last words, for errors
}

// Start runs cmd. name is the process's part in the benchmark, such as "broker".
func (g *Group) Start(name string, cmd *exec.Cmd) (*Proc, error) {
	p := &Proc{Name: name, cmd: cmd, lines: make(chan string, 64), ended: make(chan struct{})}
	cmd.SysProcAttr = attributes()
	var err error
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	cmd.Stdout, cmd.Stderr = write, write
	err = cmd.Start()
	_ = write.Close() // the child has its own
	if err != nil {
		_ = read.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go p.read(read)
	g.procs = append(g.procs, p)
	return p, nil
}

// Stop ends all processes, the last started first: closes their standard input,
// sends SIGTERM, and after a while SIGKILL.
func (g *Group) Stop() {
	for i := len(g.procs) - 1; i >= 0; i-- {
		g.procs[i].Stop()
	}
	g.procs = nil
}

// Stop ends this process.
func (p *Proc) Stop() {
	_ = p.stdin.Close()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// PID is the process's number.
func (p *Proc) PID() int { return p.cmd.Process.Pid }

// Tell writes one line to its standard input.
func (p *Proc) Tell(line string) error {
	if _, err := io.WriteString(p.stdin, line+"\n"); err != nil {
		return fmt.Errorf("tell %s: %w", p.Name, err)
	}
	return nil
}

// Line waits for a line that begins with prefix and returns the rest of it.
func (p *Proc) Line(ctx context.Context, prefix string) (string, error) {
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				return "", fmt.Errorf("%s ended before it said %q; its last words:\n%s", p.Name, prefix, p.lastWords())
			}
			if rest, found := strings.CutPrefix(line, prefix); found {
				return rest, nil
			}
		case <-ctx.Done():
			return "", fmt.Errorf("wait for %s to say %q: %w; its last words:\n%s", p.Name, prefix, ctx.Err(), p.lastWords())
		}
	}
}

// read takes what the process says until it has ended.
func (p *Proc) read(pipe *os.File) {
	scanner := bufio.NewScanner(pipe)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		p.keep(scanner.Text())
	}
	_, _ = io.Copy(io.Discard, pipe) // a line beyond reason must not block it
	_ = pipe.Close()
	_ = p.cmd.Wait() // how it ended shows in what it said
	close(p.lines)
	close(p.ended)
}

func (p *Proc) keep(line string) {
	p.mu.Lock()
	p.tail = append(p.tail, line)
	if len(p.tail) > 20 {
		p.tail = p.tail[1:]
	}
	p.mu.Unlock()
	for {
		select {
		case p.lines <- line:
			return
		default:
		}
		select {
		case <-p.lines:
		default:
		}
	}
}

func (p *Proc) lastWords() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.tail, "\n")
}

package supervisor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// envMark is the environment variable that marks a child: "NAME/RANDOM", unique
// to one start.
const envMark = "MD_SUPERVISED"

// launcher starts processes; tests replace it.
type launcher interface {
	// launch starts c's command, marked with c.mark, and returns when the program
	// was executed. It blocks no longer than that takes.
	launch(c *child) (process, error)
}

// process is one running process and its group.
type process interface {
	id() int // PID
	// started is the start time in clock ticks since boot, which together with
	// the PID names a process for good.
	started() uint64
	// signal sends a signal to the whole group. It does not block.
	signal(syscall.Signal) error
	// wait blocks until the process is gone, and its group with it. The watcher
	// is its one caller.
	wait() Exit
	// release makes a blocked wait return, and frees what watching cost. The
	// process, if it still runs, goes on.
	release()
}

// system starts real processes.
type system struct {
	logDir string
	notify string // path of the readiness socket
}

func (s system) launch(c *child) (process, error) {
	path, err := lookup(c.command[0], c.directory)
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(s.logDir, c.name+".log"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer log.Close()
	cmd := &exec.Cmd{
		Path: path,
		Args: c.command,
		Dir:  c.directory,
		Env:  s.environment(c),
		// A file, never a pipe: a child must be able to write when nobody reads.
		Stdout: log,
		Stderr: log,
		// A session of its own: neither Ctrl-C nor a closed terminal reaches it.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	p, err := open(cmd.Process.Pid)
	if err != nil { // then it could not be watched: no child of ours
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
		_ = cmd.Wait()
		return nil, err
	}
	p.cmd = cmd
	return p, nil
}

// environment is the supervisor's own, without what is meant for the supervisor
// alone, then what the file says, then our marks.
func (s system) environment(c *child) []string {
	var env []string
	for _, pair := range os.Environ() {
		switch name, _, _ := strings.Cut(pair, "="); name {
		case "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", envMark:
		default:
			env = append(env, pair)
		}
	}
	env = append(env, c.environment...)
	if c.notifies {
		env = append(env, "NOTIFY_SOCKET="+s.notify)
	}
	return append(env, envMark+"="+c.mark)
}

// lookup finds a program: a bare name first beside the supervisor's own binary,
// then in PATH; a relative path from the child's directory.
func lookup(name, directory string) (string, error) {
	if directory != "" {
		if info, err := os.Stat(directory); err != nil || !info.IsDir() {
			return "", fmt.Errorf("directory %s: no such folder", directory)
		}
	}
	if strings.ContainsRune(name, '/') {
		if !filepath.IsAbs(name) {
			name = filepath.Join(directory, name)
		}
		absolute, err := filepath.Abs(name)
		if err != nil {
			return "", err
		}
		return exec.LookPath(absolute)
	}
	if self, err := os.Executable(); err == nil {
		if path, err := exec.LookPath(filepath.Join(filepath.Dir(self), name)); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s: found neither beside mdsupervisor nor in PATH", name)
	}
	return filepath.Abs(path)
}

// osProcess is a real process: our own child, or one taken over (cmd is nil).
// It is watched by a pidfd, which names it even after its PID was given away.
type osProcess struct {
	pid      int
	start    uint64
	cmd      *exec.Cmd
	pidfd    *os.File
	stopping atomic.Bool   // was told to end: its group gets time to do so
	killed   atomic.Bool   // was sent SIGKILL
	released chan struct{} // closed by release
}

// open begins to watch a running process.
func open(pid int) (*osProcess, error) {
	pidfd, err := openPidfd(pid)
	if err != nil {
		return nil, fmt.Errorf("watch pid %d: %w", pid, err)
	}
	stat, err := readStat(pid)
	if err != nil {
		pidfd.Close()
		return nil, fmt.Errorf("watch pid %d: %w", pid, err)
	}
	return &osProcess{pid: pid, start: stat.start, pidfd: pidfd, released: make(chan struct{})}, nil
}

// adopt begins to watch a process that an earlier supervisor started, or reports
// that it is gone.
func adopt(stat procStat) (*osProcess, error) {
	p, err := open(stat.pid)
	if err != nil {
		return nil, err
	}
	if p.start != stat.start { // the PID was given away between look and open
		p.release()
		return nil, fmt.Errorf("watch pid %d: %w", stat.pid, unix.ESRCH)
	}
	return p, nil
}

func (p *osProcess) id() int         { return p.pid }
func (p *osProcess) started() uint64 { return p.start }

func (p *osProcess) release() {
	select {
	case <-p.released:
	default:
		close(p.released)
		p.pidfd.Close()
	}
}

func (p *osProcess) signal(sig syscall.Signal) error {
	p.stopping.Store(true)
	if sig == unix.SIGKILL {
		p.killed.Store(true)
	}
	if p.cmd == nil && p.over() && len(groupMembers(p.pid)) == 0 {
		return nil // init has reaped it: its number may be anybody's
	}
	err := unix.Kill(-p.pid, sig)
	if err == nil && sig != unix.SIGKILL {
		err = unix.Kill(-p.pid, unix.SIGCONT) // a stopped process takes no signal
	}
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// over says whether the process has ended, without waiting.
func (p *osProcess) over() bool {
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return true
	}
	over := true
	if raw.Control(func(fd uintptr) { over = readable(int(fd), 0) }) != nil {
		return true
	}
	return over
}

// readable waits up to ms for a pidfd to say that its process has ended.
func readable(fd, ms int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, ms)
	return err == nil && n > 0
}

func (p *osProcess) wait() Exit {
	if !p.leaderGone() {
		return Exit{}
	}
	p.clearGroup()
	if p.cmd == nil {
		return Exit{}
	}
	_ = p.cmd.Wait() // the state says all that the error would
	x := Exit{Known: true, Code: p.cmd.ProcessState.ExitCode()}
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		x.Signal = status.Signal()
	}
	return x
}

// leaderGone blocks, without holding a thread, until the process has ended; false
// means that it was released before.
func (p *osProcess) leaderGone() bool {
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return false
	}
	err = raw.Read(func(fd uintptr) bool { return readable(int(fd), 0) })
	if err == nil {
		return true
	}
	// Released, or a kernel whose poller refuses pidfds: then ask once a second.
	for {
		over := false
		if raw.Control(func(fd uintptr) { over = readable(int(fd), 1000) }) != nil {
			return false
		}
		if over {
			return true
		}
	}
}

// groupPatience is how long killed remnants of a group may take to be gone before
// a new start follows all the same.
const groupPatience = 5 * time.Second

// clearGroup ends what the process has left behind in its group. After a stop the
// remnants had their signal, too, and get the rest of the time; after a crash
// they are killed at once, so that a new start does not meet them. Our own child
// is not reaped until then: as long as it is a zombie, nobody else gets its
// number, which is the group's.
func (p *osProcess) clearGroup() {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	var end time.Time
	for {
		members := groupMembers(p.pid)
		if len(members) == 0 {
			return
		}
		if !p.stopping.Load() || p.killed.Load() {
			if end.IsZero() {
				end = time.Now().Add(groupPatience)
			}
			_ = unix.Kill(-p.pid, unix.SIGKILL)
			if time.Now().After(end) {
				return
			}
		}
		select {
		case <-ticker.C:
		case <-p.released:
			return
		}
	}
}

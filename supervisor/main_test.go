package supervisor

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mdmesh/mdmesh/internal/notify"
)

// The test binary is also the programs that the tests supervise: run with
// "role NAME ARGUMENT..." it plays one of these.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "role" {
		os.Exit(play(os.Args[2], os.Args[3:]))
	}
	// A program built with the race detector sleeps a second when it exits.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

func play(role string, args []string) int {
	// A test that dies must leave nothing behind for long.
	time.AfterFunc(2*guard, func() { os.Exit(99) })
	terminated := make(chan os.Signal, 1)
	switch role {
	case "wait": // ends on SIGTERM
		signal.Notify(terminated, syscall.SIGTERM)
		fmt.Println("up", os.Getpid())
		<-terminated
		fmt.Println("end", os.Getpid())
	case "slow": // ends a while after SIGTERM
		signal.Notify(terminated, syscall.SIGTERM)
		fmt.Println("up", os.Getpid())
		<-terminated
		<-time.After(200 * time.Millisecond)
		fmt.Println("end", os.Getpid())
	case "stubborn": // ends on SIGKILL only
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("up", os.Getpid())
		select {}
	case "exit": // ends at once, with the code given
		code, _ := strconv.Atoi(args[0])
		return code
	case "ready": // says READY=1 when a file appears, then waits
		signal.Notify(terminated, syscall.SIGTERM)
		for range time.Tick(5 * time.Millisecond) {
			if _, err := os.Stat(args[0]); err == nil {
				break
			}
		}
		if err := notify.Ready(); err != nil {
			fmt.Println(err)
			return 1
		}
		<-terminated
	case "family": // has a child of its own in its group, that plays args; writes its PID into a file
		signal.Notify(terminated, syscall.SIGTERM)
		cmd := exec.Command(os.Args[0], append([]string{"role"}, args[1:]...)...)
		cmd.Stdout = os.Stdout
		if err := cmd.Start(); err != nil {
			fmt.Println(err)
			return 1
		}
		if err := os.WriteFile(args[0]+".new", []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
			return 1
		}
		if err := os.Rename(args[0]+".new", args[0]); err != nil {
			return 1
		}
		<-terminated
	case "environment":
		fmt.Println(strings.Join(os.Environ(), "\n"))
		dir, _ := os.Getwd()
		fmt.Println("directory", dir)
		signal.Notify(terminated, syscall.SIGTERM)
		<-terminated
	case "supervise": // FILE SOCKET: a supervisor, to be killed
		return superviseRole(args[0], args[1])
	}
	return 0
}

func superviseRole(path, socket string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	file, err := Load(path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 78
	}
	s, err := New(Config{File: file, Socket: socket})
	if err == nil {
		err = s.Run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// guard is the longest any wait in a test may take.
const guard = 30 * time.Second

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	end := time.After(guard)
	for !ok() {
		select {
		case <-ticker.C:
		case <-end:
			t.Fatalf("waited %v in vain: %s", guard, what)
		}
	}
}

// socketDir returns a folder whose path is short enough for sockets.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mdsup")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// roleEntry renders one [[child]] that plays a role; more is further TOML lines.
func roleEntry(name, more string, role ...string) string {
	words := []string{strconv.Quote(os.Args[0]), `"role"`}
	for _, r := range role {
		words = append(words, strconv.Quote(r))
	}
	return fmt.Sprintf("[[child]]\nname = %q\ncommand = [%s]\n%s\n", name, strings.Join(words, ", "), more)
}

// site is one supervisor file, and who supervises it.
type site struct {
	t            *testing.T
	dir          string
	file, socket string
}

func newSite(t *testing.T, entries ...string) *site {
	t.Helper()
	dir := socketDir(t)
	s := &site{t: t, dir: dir, file: filepath.Join(dir, "mesh.toml"), socket: filepath.Join(dir, "s.sock")}
	s.write(entries...)
	return s
}

func (s *site) write(entries ...string) {
	s.t.Helper()
	if err := os.WriteFile(s.file, []byte(strings.Join(entries, "\n")), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// spawn starts a supervisor as a process of its own and waits until it answers.
// At the end of the test it is told to stop everything.
func (s *site) spawn() *exec.Cmd {
	s.t.Helper()
	cmd := exec.Command(os.Args[0], "role", "supervise", s.file, s.socket)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	eventually(s.t, "the supervisor answers", func() bool {
		_, err := Do(s.t.Context(), s.socket, OpStatus)
		return err == nil
	})
	return cmd
}

// run starts a supervisor in this process; stop ends it and returns Run's error.
func (s *site) run(change ...func(*Config)) (stop func() error) {
	s.t.Helper()
	file, err := Load(s.file)
	if err != nil {
		s.t.Fatal(err)
	}
	turned := make(chan struct{}, 1)
	cfg := Config{File: file, Socket: s.socket, Turn: func() {
		select {
		case turned <- struct{}{}:
		default:
		}
	}}
	for _, f := range change {
		f(&cfg)
	}
	sup, err := New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err = sup.Run(ctx)
	}()
	stop = func() error { cancel(); <-ended; return err }
	s.t.Cleanup(func() { _ = stop() })
	select {
	case <-turned:
	case <-ended:
		s.t.Fatalf("supervisor ended at once: %v", err)
	}
	return stop
}

func (s *site) ask(op Op, names ...string) []ChildStatus {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), guard)
	defer cancel()
	children, err := Do(ctx, s.socket, op, names...)
	if err != nil {
		s.t.Fatalf("%s %q: %v", op, names, err)
	}
	return children
}

// begun waits until each child has been started, as one is a turn, and returns all.
func (s *site) begun() (all []ChildStatus) {
	s.t.Helper()
	eventually(s.t, "all children have been started", func() bool {
		all = s.ask(OpStatus)
		return !slices.ContainsFunc(all, func(c ChildStatus) bool { return c.State == Down.String() && c.Reason == "" })
	})
	return all
}

// until waits until a child's status is as wanted, and returns it.
func (s *site) until(name, what string, ok func(ChildStatus) bool) (c ChildStatus) {
	s.t.Helper()
	eventually(s.t, name+" "+what, func() bool {
		c = s.ask(OpStatus, name)[0]
		return ok(c)
	})
	return c
}

func (s *site) untilState(name string, want State) ChildStatus {
	s.t.Helper()
	return s.until(name, "is "+want.String(), func(c ChildStatus) bool { return c.State == want.String() })
}

func (s *site) output(child string) string {
	text, _ := os.ReadFile(filepath.Join(s.socket+logsSuffix, child+".log"))
	return string(text)
}

// untilOutput waits until a child has written text.
func (s *site) untilOutput(child, text string) {
	s.t.Helper()
	eventually(s.t, child+" writes "+text, func() bool { return strings.Contains(s.output(child), text) })
}

// pidIn waits for a file that holds a PID.
func pidIn(t *testing.T, path string) (pid int) {
	t.Helper()
	eventually(t, path+" appears", func() bool {
		text, err := os.ReadFile(path)
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(string(text))
		return err == nil
	})
	return pid
}

func untilDead(t *testing.T, pid int) {
	t.Helper()
	eventually(t, fmt.Sprintf("process %d is gone", pid), func() bool { return !alive(pid) })
}

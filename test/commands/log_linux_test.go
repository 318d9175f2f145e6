package commands

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mdmesh/mdmesh/test/meshproc"
)

// full starts cmd with a pipe that nobody reads as its standard error. Fill fills it
// up; end tells the process to end and waits for that.
func full(t *testing.T, cmd *exec.Cmd) (fill func(), end func() (code int)) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close() })
	cmd.Stderr = write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-exited })
	fill = func() {
		// Opened anew: O_NONBLOCK of an inherited descriptor would be the process's, too.
		again, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", write.Fd()), unix.O_WRONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(again)
		for _, size := range []int{4096, 1} {
			for err = nil; err == nil; {
				_, err = unix.Write(again, make([]byte, size))
			}
			if err != unix.EAGAIN {
				t.Fatal(err)
			}
		}
	}
	end = func() int {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		select {
		case <-exited:
			return cmd.ProcessState.ExitCode()
		case <-time.After(meshproc.Guard / 3):
			t.Fatalf("%s did not end", cmd)
			return 0
		}
	}
	return fill, end
}

// TestLogThatNobodyReads: a full log keeps no program from working and from ending.
func TestLogThatNobodyReads(t *testing.T) {
	t.Parallel()
	port := meshproc.FreePorts(t, 1)
	b := &broker{requests: fmt.Sprintf("tcp://127.0.0.1:%d", port)}
	fillBroker, endBroker := full(t, meshproc.Command(t, "mdbroker", "--listen", b.requests, "--publish", "", "--subscribe", "", "--http", "", "--log-level", "debug"))
	fillWorker, endWorker := full(t, meshproc.Command(t, "mdworker", "--broker", b.requests, "echo"))
	call := func() error {
		if r := run(t, b, "call", "--timeout", "5s", "echo", "hi"); r.Code != 0 || r.Stdout != "hi" {
			return errors.New(r.Stderr)
		}
		return nil
	}
	meshproc.Eventually(t, "the service is there", call)
	fillBroker()
	fillWorker()
	meshproc.Eventually(t, "the service is there all the same", call)
	if code := endWorker(); code != 0 {
		t.Errorf("mdworker ended with %d", code)
	}
	if code := endBroker(); code != 0 {
		t.Errorf("mdbroker ended with %d", code)
	}
}

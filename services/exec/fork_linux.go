package exec

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// attributes: an own process group, and death with the worker.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// unread is how many octets of what was written to a pipe nobody has read, -1 if
// that cannot be told.
func unread(pipe *os.File) int {
	raw, err := pipe.SyscallConn()
	if err != nil {
		return -1
	}
	n := -1
	_ = raw.Control(func(fd uintptr) {
		if left, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ); err == nil {
			n = left
		}
	})
	return n
}

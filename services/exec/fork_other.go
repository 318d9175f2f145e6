//go:build unix && !linux

package exec

import (
	"os"
	"syscall"
)

// attributes: an own process group. Only Linux can tie a program's life to that of
// the worker; elsewhere it survives a worker that is killed.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// unread is how many octets of what was written to a pipe nobody has read, -1 if
// that cannot be told.
func unread(*os.File) int { return -1 }

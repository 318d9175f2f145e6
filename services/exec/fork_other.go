//go:build unix && !linux

package exec

import "syscall"

// attributes: an own process group. Only Linux can tie a program's life to that of
// the worker; elsewhere it survives a worker that is killed.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

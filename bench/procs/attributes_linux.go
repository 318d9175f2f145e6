package procs

import "syscall"

// attributes: a process group of its own, so that Ctrl-C reaches the benchmark
// alone, which then stops its processes; and an end with us, however we end.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

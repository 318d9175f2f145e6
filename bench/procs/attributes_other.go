//go:build !linux

package procs

import "syscall"

// attributes: nothing special. The benchmarks need Linux's /proc; elsewhere they
// only compile.
func attributes() *syscall.SysProcAttr { return nil }

package hostmetrics

import (
	"path/filepath"
	"slices"
	"strings"
)

// The mesh's own programs, and the sub-commands by which mdservice is split.
var (
	programs    = []string{"mdbroker", "mdworker", "mdservice", "mdsupervisor", "mdcli"}
	subCommands = []string{"ingest", "transform", "rollup", "push", "hostmetrics", "jobs", "facts"}
)

// role names what a process does for the mesh, such as "mdbroker" or
// "mdservice.transform"; "" when it is none of the mesh's. exe is the target of
// /proc/PID/exe, or the process's name where that may not be read; cmdline is
// /proc/PID/cmdline.
func role(exe string, cmdline []byte) string {
	// The kernel says so when a running program's file was replaced.
	program := filepath.Base(strings.TrimSuffix(exe, " (deleted)"))
	if !slices.Contains(programs, program) {
		return ""
	}
	if program != "mdservice" {
		return program
	}
	for i, arg := range strings.Split(string(cmdline), "\x00") {
		if i > 0 && slices.Contains(subCommands, arg) {
			return program + "." + arg
		}
	}
	return program + ".other"
}

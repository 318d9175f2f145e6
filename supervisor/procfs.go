package supervisor

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// procStat is what we read of /proc/PID/stat.
type procStat struct {
	pid     int
	state   byte
	group   int
	session int
	start   uint64 // clock ticks since boot
}

// dead says that the process has ended and only waits for its parent.
func (s procStat) dead() bool { return s.state == 'Z' || s.state == 'X' }

var errStat = errors.New("unreadable /proc stat line")

func readStat(pid int) (procStat, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	return parseStat(string(text))
}

// parseStat reads a line of proc(5): "PID (COMM) STATE PPID PGRP SESSION ...".
// COMM may hold blanks and brackets, so fields are counted from the last ")".
func parseStat(line string) (procStat, error) {
	head, tail, ok := cutLast(line, ')')
	pid, _, _ := strings.Cut(head, " ")
	fields := strings.Fields(tail)
	if !ok || len(fields) < 20 { // state is field 3, start field 22
		return procStat{}, errStat
	}
	s := procStat{state: fields[0][0]}
	var errs [4]error
	s.pid, errs[0] = strconv.Atoi(pid)
	s.group, errs[1] = strconv.Atoi(fields[2])
	s.session, errs[2] = strconv.Atoi(fields[3])
	s.start, errs[3] = strconv.ParseUint(fields[19], 10, 64)
	if err := errors.Join(errs[:]...); err != nil {
		return procStat{}, fmt.Errorf("%w: %w", errStat, err)
	}
	return s, nil
}

func cutLast(s string, sep byte) (before, after string, found bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// processes returns every live process that keep accepts. Those that end
// meanwhile are left out.
func processes(keep func(procStat) bool) []procStat {
	names, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var all []procStat
	for _, name := range names {
		pid, err := strconv.Atoi(name.Name())
		if err != nil {
			continue
		}
		if stat, err := readStat(pid); err == nil && !stat.dead() && keep(stat) {
			all = append(all, stat)
		}
	}
	return all
}

// groupMembers returns the live members of a process group but for its leader.
func groupMembers(group int) []procStat {
	return processes(func(s procStat) bool { return s.group == group && s.pid != group })
}

// markOf returns the value of MD_SUPERVISED in a process's environment. It is ""
// and false where that cannot be read, or the program has overwritten it.
func markOf(pid int) (string, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return "", false
	}
	prefix := []byte(envMark + "=")
	// The last one counts, as for a program that is started with a doubled name.
	for _, pair := range slices.Backward(bytes.Split(text, []byte{0})) {
		if value, ok := bytes.CutPrefix(pair, prefix); ok {
			return string(value), true
		}
	}
	return "", false
}

// survivor returns the process that a note is about, if it still runs.
func survivor(n note) (procStat, bool) {
	if n.PID > 0 {
		stat, err := readStat(n.PID)
		if err != nil || stat.dead() || stat.start != n.Start {
			return procStat{}, false
		}
		mark, ok := markOf(n.PID)
		return stat, !ok || mark == n.Mark
	}
	if n.State != Starting.String() || n.Mark == "" {
		return procStat{}, false
	}
	// An intent: the supervisor died between note and start. In the moment when the
	// kernel executes a program its environment cannot be read yet, so one look
	// would not do.
	for range intentLooks {
		if stat, ok := markedLeader(n.Mark); ok {
			return stat, true
		}
		time.Sleep(intentPause)
	}
	return procStat{}, false
}

// How often, and how far apart, the process of an intent is looked for.
const (
	intentLooks = 5
	intentPause = 20 * time.Millisecond
)

// markedLeader returns the process that was started with a mark. It leads a
// session; so may descendants that left it, but it is the oldest.
func markedLeader(mark string) (procStat, bool) {
	found := processes(func(s procStat) bool {
		if s.session != s.pid {
			return false
		}
		got, _ := markOf(s.pid)
		return got == mark
	})
	if len(found) == 0 {
		return procStat{}, false
	}
	return slices.MinFunc(found, func(a, b procStat) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.pid, b.pid))
	}), true
}

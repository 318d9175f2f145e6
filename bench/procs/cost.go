package procs

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc/PID/stat: USER_HZ, 100 on every Linux port
// that Go runs on.
const tick = 10 * time.Millisecond

// CPU is the time this process has used, as the function CPU tells it.
func (p *Proc) CPU() (time.Duration, error) {
	used, err := CPU(p.PID())
	if err != nil {
		return 0, fmt.Errorf("%s: %w", p.Name, err)
	}
	return used, nil
}

// CPU returns the user and system time a process has used so far: the sum of its
// threads' to the nanosecond where the kernel tells it, else in ticks of 10 ms.
func CPU(pid int) (time.Duration, error) {
	dir := fmt.Sprintf("/proc/%d", pid)
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	coarse, err := parseStat(string(stat))
	if err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	threads, _ := filepath.Glob(filepath.Join(dir, "task/*/schedstat")) // the pattern is well-formed
	var fine time.Duration
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		if first, _, found := strings.Cut(string(text), " "); found {
			ns, _ := strconv.ParseInt(first, 10, 64) // 0 is as good as not told
			fine += time.Duration(ns)
		}
	}
	// Threads that ended are only in the coarse sum, which rounds down.
	if fine+2*tick >= coarse {
		return fine, nil
	}
	return coarse, nil
}

// parseStat takes utime and stime from a stat line. The name in it may hold blanks
// and parentheses, so fields are counted from behind it.
func parseStat(stat string) (time.Duration, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("stat line %q is too short", stat)
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("stat line %q: %w", stat, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// Memory is what a process holds, in octets.
type Memory struct {
	Resident  int64 // all of it (VmRSS)
	Anonymous int64 // without what is mapped from files: heap and stacks (RssAnon)
	Peak      int64 // the largest Resident so far (VmHWM)
}

// Memory returns what the process holds now, in user space.
func (p *Proc) Memory() (Memory, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		return Memory{}, fmt.Errorf("read memory of %s: %w", p.Name, err)
	}
	return parseStatus(string(text)), nil
}

func parseStatus(status string) (m Memory) {
	for line := range strings.Lines(status) {
		key, value, _ := strings.Cut(line, ":")
		to := map[string]*int64{"VmRSS": &m.Resident, "RssAnon": &m.Anonymous, "VmHWM": &m.Peak}[key]
		if to == nil {
			continue
		}
		if fields := strings.Fields(value); len(fields) > 0 {
			n, _ := strconv.ParseInt(fields[0], 10, 64) // the kernel writes numbers
			*to = n << 10
		}
	}
	return m
}

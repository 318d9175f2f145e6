package hostmetrics

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The parsers below read one file of /proc each (proc(5)). They are pure, skip
// lines they do not know, keep no part of their input and report an error only
// if nothing of use was found.

var errUnreadable = errors.New("not in the format of proc(5)")

// cpuTimes are clock ticks since boot, of one processor or of all.
type cpuTimes struct {
	busy, idle uint64 // idle includes waiting for a disk
}

// parseStat reads /proc/stat: the times by processor, "total" for the sum.
func parseStat(b []byte) (map[string]cpuTimes, error) {
	cpus := make(map[string]cpuTimes)
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) < 5 || !strings.HasPrefix(fields[0], "cpu") {
			continue
		}
		name := strings.TrimPrefix(fields[0], "cpu")
		if name == "" {
			name = "total"
		} else if _, err := strconv.ParseUint(name, 10, 16); err != nil {
			continue
		}
		// user nice system idle iowait irq softirq steal; guest time is part of user.
		ticks, ok := numbers(fields[1:min(len(fields), 9)])
		if !ok {
			continue
		}
		var t cpuTimes
		for i, n := range ticks {
			if i == 3 || i == 4 {
				t.idle += n
			} else {
				t.busy += n
			}
		}
		cpus[name] = t
	}
	if len(cpus) == 0 {
		return nil, fmt.Errorf("stat: %w", errUnreadable)
	}
	return cpus, nil
}

// parseLoad reads /proc/loadavg: the load over 1, 5 and 15 minutes.
func parseLoad(b []byte) (loads [3]float64, err error) {
	fields := strings.Fields(string(b))
	if len(fields) < 3 {
		return loads, fmt.Errorf("loadavg: %w", errUnreadable)
	}
	for i := range loads {
		if loads[i], err = strconv.ParseFloat(fields[i], 64); err != nil || !(loads[i] >= 0 && loads[i] < 1e9) {
			return loads, fmt.Errorf("loadavg: %w: %q", errUnreadable, fields[i])
		}
	}
	return loads, nil
}

// memory is in octets.
type memory struct{ used, available, total, swapUsed, swapTotal uint64 }

// parseMemory reads /proc/meminfo. Used is what is not available to programs;
// kernels before 3.14 do not tell what is, so it is estimated there.
func parseMemory(b []byte) (memory, error) {
	found := make(map[string]uint64)
	for line := range strings.Lines(string(b)) {
		name, rest, ok := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if !ok || len(fields) == 0 {
			continue
		}
		n, err := strconv.ParseUint(fields[0], 10, 54)
		if err != nil {
			continue
		}
		if len(fields) > 1 && fields[1] == "kB" {
			n *= 1024
		}
		found[name] = n
	}
	total, ok := found["MemTotal"]
	if !ok {
		return memory{}, fmt.Errorf("meminfo: %w: no MemTotal", errUnreadable)
	}
	available, ok := found["MemAvailable"]
	if !ok {
		available = found["MemFree"] + found["Buffers"] + found["Cached"]
	}
	available = min(available, total)
	return memory{
		used:      total - available,
		available: available,
		total:     total,
		swapUsed:  found["SwapTotal"] - min(found["SwapFree"], found["SwapTotal"]),
		swapTotal: found["SwapTotal"],
	}, nil
}

// traffic counts octets in two directions since boot: read and written by a
// disk, received and sent by an interface.
type traffic struct{ in, out uint64 }

// sectorSize is the unit of /proc/diskstats on every device (Linux, iostats.txt).
const sectorSize = 512

// parseDisks reads /proc/diskstats: the traffic of every real disk that was ever
// used. Partitions are part of their disk, and devices that stand for others
// (loop, RAM, device mapper, RAID) would count the same octets twice.
func parseDisks(b []byte) (map[string]traffic, error) {
	all := make(map[string]traffic)
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) < 10 {
			continue
		}
		read, err1 := strconv.ParseUint(fields[5], 10, 64)
		written, err2 := strconv.ParseUint(fields[9], 10, 64)
		if err1 == nil && err2 == nil {
			all[fields[2]] = traffic{read * sectorSize, written * sectorSize}
		}
	}
	if len(all) == 0 && len(bytes.TrimSpace(b)) > 0 {
		return nil, fmt.Errorf("diskstats: %w", errUnreadable)
	}
	disks := make(map[string]traffic)
	for name, t := range all {
		_, part := all[wholeDisk(name)]
		if !part && !standsForOthers(name) && t != (traffic{}) {
			disks[name] = t
		}
	}
	return disks, nil
}

// wholeDisk returns the disk that name would be a partition of: sda of sda1,
// nvme0n1 of nvme0n1p2. It returns "" when name is none.
func wholeDisk(name string) string {
	disk := strings.TrimRight(name, "0123456789")
	if disk == name || disk == "" {
		return ""
	}
	if before, ok := strings.CutSuffix(disk, "p"); ok && before != "" && isDigit(before[len(before)-1]) {
		return before
	}
	return disk
}

// standsForOthers tells devices apart that are no disk of their own.
func standsForOthers(name string) bool {
	for _, prefix := range []string{"loop", "ram", "zram", "dm-", "md", "sr", "fd"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && (rest == "" || isDigit(rest[0])) {
			return true
		}
	}
	return false
}

// parseNet reads /proc/net/dev: the traffic of every interface that was ever
// used. The host's ends of container links come and go by the hundred, and what
// they carry is seen elsewhere, so they are left out.
func parseNet(b []byte) (map[string]traffic, error) {
	interfaces := make(map[string]traffic)
	known := false
	for line := range strings.Lines(string(b)) {
		at := strings.LastIndexByte(line, ':') // an alias has one in its name
		if at < 0 {
			continue
		}
		name, fields := strings.TrimSpace(line[:at]), strings.Fields(line[at+1:])
		if name == "" || len(fields) < 16 {
			continue
		}
		received, err1 := strconv.ParseUint(fields[0], 10, 64)
		sent, err2 := strconv.ParseUint(fields[8], 10, 64)
		if err1 != nil || err2 != nil {
			continue
		}
		known = true
		if t := (traffic{received, sent}); t != (traffic{}) && !strings.HasPrefix(name, "veth") {
			interfaces[name] = t
		}
	}
	if !known {
		return nil, fmt.Errorf("net/dev: %w", errUnreadable)
	}
	return interfaces, nil
}

// process is one line of /proc/PID/stat.
type process struct {
	name    string // of the executable, cut to 15 octets by the kernel
	ticks   uint64 // of processor time, user and system
	threads uint64
	started uint64 // ticks after boot; with the pid it names a process for ever
	pages   uint64 // resident
}

// parseProcess reads /proc/PID/stat. The name stands in brackets and may itself
// hold brackets and blanks, so the fields are counted from the last bracket.
func parseProcess(b []byte) (process, error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return process{}, fmt.Errorf("pid/stat: %w", errUnreadable)
	}
	fields := strings.Fields(string(b[end+1:])) // fields[0] is number 3 of proc(5)
	if len(fields) < 22 {
		return process{}, fmt.Errorf("pid/stat: %w: %d fields", errUnreadable, len(fields)+2)
	}
	n, ok := numbers([]string{fields[11], fields[12], fields[17], fields[19], fields[21]})
	if !ok {
		return process{}, fmt.Errorf("pid/stat: %w", errUnreadable)
	}
	return process{name: string(b[open+1 : end]), ticks: n[0] + n[1], threads: n[2], started: n[3], pages: n[4]}, nil
}

// numbers reads decimal counters, all or nothing.
func numbers(fields []string) ([]uint64, bool) {
	out := make([]uint64, len(fields))
	for i, f := range fields {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return nil, false
		}
		out[i] = n
	}
	return out, true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

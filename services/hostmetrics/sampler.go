package hostmetrics

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// ticksPerSecond is USER_HZ, which is 100 on every Linux that Go runs on.
	ticksPerSecond = 100
	// maxNames bounds the disks, the interfaces and the processors of one sample.
	maxNames = 256
)

// point is one figure of a sample.
type point struct {
	series string
	value  float64
}

// sampler turns counters of /proc into figures. It remembers the previous
// sample; one goroutine uses it.
type sampler struct {
	proc     string
	pageSize uint64
	log      hclog.Logger
	silent   map[string]bool // files that could not be read, said once

	last      time.Time // of the previous sample; zero before the first
	cpus      map[string]cpuTimes
	disks     map[string]traffic
	nets      map[string]traffic
	processes map[processID]uint64 // ticks
}

// processID outlives the re-use of pids.
type processID struct {
	pid     int
	started uint64
}

func newSampler(proc string, log hclog.Logger) *sampler {
	return &sampler{proc: proc, pageSize: uint64(os.Getpagesize()), log: log, silent: make(map[string]bool)}
}

// sample reads everything once. now must carry a monotonic reading. Rates need a
// previous sample, so the first has only what is a level; what was not there
// before has its first rate in the following sample.
func (s *sampler) sample(now time.Time) []point {
	var seconds float64
	if !s.last.IsZero() {
		seconds = now.Sub(s.last).Seconds()
	}
	s.last = now
	var points []point
	points = s.cpu(points)
	points = s.load(points)
	points = s.memory(points)
	points = s.traffic(points, seconds, "diskstats", "disk", [2]string{"read_bytes", "write_bytes"}, parseDisks, &s.disks)
	points = s.traffic(points, seconds, "net/dev", "net", [2]string{"rx_bytes", "tx_bytes"}, parseNet, &s.nets)
	return s.mesh(points, seconds)
}

// parsed reads and parses one file. That it is not usable is said once, and once
// that it is again.
func parsed[T any](s *sampler, file string, parse func([]byte) (T, error)) (T, bool) {
	var result T
	b, err := os.ReadFile(filepath.Join(s.proc, file))
	if err == nil {
		result, err = parse(b)
	}
	return result, s.usable(file, err)
}

// usable notes whether name could be read and understood.
func (s *sampler) usable(name string, err error) bool {
	switch {
	case err != nil && !s.silent[name]:
		s.silent[name] = true
		s.log.Warn("file of /proc is not usable, its series are missing", "file", name, "error", err)
	case err == nil && s.silent[name]:
		delete(s.silent, name)
		s.log.Info("file of /proc is usable again", "file", name)
	}
	return err == nil
}

// cpu adds the part of the time, in percent, in which processors were busy.
func (s *sampler) cpu(points []point) []point {
	now, ok := parsed(s, "stat", parseStat)
	if !ok {
		return points
	}
	for _, name := range names(now) {
		before, known := s.cpus[name]
		if !known {
			continue
		}
		// The kernel corrects its waiting time now and then, even downwards.
		busy := float64(now[name].busy - min(before.busy, now[name].busy))
		idle := float64(now[name].idle - min(before.idle, now[name].idle))
		if busy+idle > 0 {
			points = append(points, point{"cpu." + name, 100 * busy / (busy + idle)})
		}
	}
	s.cpus = now
	return points
}

func (s *sampler) load(points []point) []point {
	loads, ok := parsed(s, "loadavg", parseLoad)
	if !ok {
		return points
	}
	return append(points, point{"load.1m", loads[0]}, point{"load.5m", loads[1]}, point{"load.15m", loads[2]})
}

func (s *sampler) memory(points []point) []point {
	m, ok := parsed(s, "meminfo", parseMemory)
	if !ok {
		return points
	}
	points = append(points,
		point{"memory.used_bytes", float64(m.used)},
		point{"memory.available_bytes", float64(m.available)})
	if m.swapTotal > 0 {
		points = append(points, point{"swap.used_bytes", float64(m.swapUsed)})
	}
	return points
}

// traffic adds octets per second in both directions for everything in file.
func (s *sampler) traffic(points []point, seconds float64, file, prefix string, suffix [2]string,
	parse func([]byte) (map[string]traffic, error), last *map[string]traffic) []point {
	now, ok := parsed(s, file, parse)
	if !ok {
		*last = nil // the growth since then is that of more than these seconds
		return points
	}
	for _, name := range names(now) {
		before, known := (*last)[name]
		if !known || seconds <= 0 {
			continue
		}
		if in, ok := growth(before.in, now[name].in); ok {
			points = append(points, point{fmt.Sprintf("%s.%s.%s", prefix, name, suffix[0]), in / seconds})
		}
		if out, ok := growth(before.out, now[name].out); ok {
			points = append(points, point{fmt.Sprintf("%s.%s.%s", prefix, name, suffix[1]), out / seconds})
		}
	}
	*last = now
	return points
}

// growth is how much a counter has grown. Drivers with 32-bit counters wrap
// around at 2^32; any other step backwards is a new beginning, about which
// nothing can be said.
func growth(before, now uint64) (float64, bool) {
	const wrap = 1 << 32
	if now >= before {
		return float64(now - before), true
	}
	// Half the range is more than any device moves between two samples.
	if before < wrap && wrap-before+now < wrap/2 {
		return float64(wrap - before + now), true
	}
	return 0, false
}

// usage is what all processes of one role take together.
type usage struct {
	processes, threads, fds, pages, ticks uint64
	measured                              bool // ticks is the growth of at least one process
}

// mesh adds the figures of the mesh's own processes, by role.
func (s *sampler) mesh(points []point, seconds float64) []point {
	entries, err := os.ReadDir(s.proc)
	if !s.usable(".", err) {
		s.processes = nil
		return points
	}
	roles := make(map[string]usage)
	seen := make(map[processID]uint64)
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid > 0 {
			s.process(pid, roles, seen)
		}
	}
	s.processes = seen
	for _, name := range names(roles) {
		u := roles[name]
		prefix := "mesh." + name + "."
		if u.measured && seconds > 0 {
			points = append(points, point{prefix + "cpu", 100 * float64(u.ticks) / ticksPerSecond / seconds})
		}
		points = append(points,
			point{prefix + "rss_bytes", float64(u.pages * s.pageSize)},
			point{prefix + "fds", float64(u.fds)},
			point{prefix + "threads", float64(u.threads)},
			point{prefix + "processes", float64(u.processes)})
	}
	return points
}

// process adds one process to its role, if it has one. A process may end at any
// time while it is looked at; then it counts no more.
func (s *sampler) process(pid int, roles map[string]usage, seen map[processID]uint64) {
	dir := filepath.Join(s.proc, strconv.Itoa(pid))
	exe, err := os.Readlink(filepath.Join(dir, "exe"))
	if err != nil && !os.IsPermission(err) {
		return // gone, or a thread of the kernel
	}
	b, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return
	}
	p, err := parseProcess(b)
	if err != nil {
		return
	}
	if exe == "" { // another user's: the name is all that may be read
		exe = p.name
	}
	if role(exe, nil) == "" {
		return
	}
	cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
	fds, _ := os.ReadDir(filepath.Join(dir, "fd")) // readable by the same user only

	name := role(exe, cmdline)
	u := roles[name]
	u.processes++
	u.threads += p.threads
	u.pages += p.pages
	u.fds += uint64(len(fds))
	id := processID{pid, p.started}
	if before, known := s.processes[id]; known && p.ticks >= before {
		u.ticks += p.ticks - before
		u.measured = true
	}
	seen[id] = p.ticks
	roles[name] = u
}

// names returns the keys in order, no more than maxNames of them.
func names[T any](m map[string]T) []string {
	all := slices.Sorted(maps.Keys(m))
	return all[:min(len(all), maxNames)]
}

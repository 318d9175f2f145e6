package hostmetrics

import (
	"math"
	"reflect"
	"testing"
)

const (
	statText = `cpu  11066 10 5609 121677 2738 1 105 205 7 0
cpu0 5094 4 2262 63242 75 1 15 87 3 0
cpu1 5972 6 3347 58435 2663 0 90 118 4 0
intr 2712431 0 9 0 0
ctxt 5139023
btime 1763694000
procs_running 2
`
	memText = `MemTotal:       24684096 kB
MemFree:        23776588 kB
MemAvailable:   24296920 kB
Buffers:           12404 kB
Cached:           644564 kB
SwapTotal:       2097148 kB
SwapFree:        2097000 kB
HugePages_Total:       0
`
	diskText = `   7       0 loop0 14 0 34 0 0 0 0 0 0 8 0
 254       0 vda 9712 512 1024000 3321 8710 9123 2048000 5534 0 5120 8901 0 0 0 0 120 45
 254       1 vda1 9600 512 1023000 3300 8600 9123 2048000 5500 0 5100 8800 0 0 0 0 0 0
 259       0 nvme0n1 100 0 2000 10 50 0 1000 5 0 10 15 0 0 0 0 0 0
 259       1 nvme0n1p1 100 0 2000 10 50 0 1000 5 0 10 15 0 0 0 0 0 0
   8      16 sdb 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
   8       1 sda1 10 0 80 1 10 0 160 1 0 1 2
 253       0 dm-0 1 0 8 0 1 0 8 0 0 0 0
 252       0 zram0 1 0 8 0 1 0 8 0 0 0 0
   9       0 md127 1 0 8 0 1 0 8 0 0 0 0
`
	netText = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    3193      29    0    0    0     0          0         0     3193      29    0    0    0     0       0          0
  ifb0:       0       0    0    0    0     0          0         0        0       0    0    0    0     0       0          0
  eth0:223906149    8690    0    0    0     0          0         0   609210    6283    0    0    0     0       0          0
eth0:1:      10       1    0    0    0     0          0         0       20       1    0    0    0     0       0          0
veth9f2: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0
`
	processText = `4711 (mdservice (x) y) S 1 4711 4711 0 -1 4194304 96 0 0 0 250 50 0 0 20 0 9 0 71025 3133440 362 18446744073709551615 1 2 3 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0
`
)

func TestParsers(t *testing.T) {
	t.Parallel()
	cpus, err := parseStat([]byte(statText))
	wantCPUs := map[string]cpuTimes{"total": {16996, 124415}, "0": {7463, 63317}, "1": {9533, 61098}}
	if err != nil || !reflect.DeepEqual(cpus, wantCPUs) {
		t.Errorf("parseStat = %v, %v; want %v", cpus, err, wantCPUs)
	}
	loads, err := parseLoad([]byte("0.45 1.32 12.19 1/87 10902\n"))
	if err != nil || loads != [3]float64{0.45, 1.32, 12.19} {
		t.Errorf("parseLoad = %v, %v", loads, err)
	}
	mem, err := parseMemory([]byte(memText))
	if want := (memory{used: 387176 << 10, available: 24296920 << 10, total: 24684096 << 10, swapUsed: 148 << 10, swapTotal: 2097148 << 10}); err != nil || mem != want {
		t.Errorf("parseMemory = %+v, %v; want %+v", mem, err, want)
	}
	old, err := parseMemory([]byte("MemTotal: 100 kB\nMemFree: 10 kB\nBuffers: 5 kB\nCached: 25 kB\n"))
	if err != nil || old.available != 40<<10 || old.used != 60<<10 {
		t.Errorf("parseMemory of an old kernel = %+v, %v", old, err)
	}
	disks, err := parseDisks([]byte(diskText))
	wantDisks := map[string]traffic{"vda": {1024000 * 512, 2048000 * 512}, "nvme0n1": {2000 * 512, 1000 * 512}, "sda1": {80 * 512, 160 * 512}}
	if err != nil || !reflect.DeepEqual(disks, wantDisks) {
		t.Errorf("parseDisks = %v, %v; want %v", disks, err, wantDisks)
	}
	nets, err := parseNet([]byte(netText))
	wantNets := map[string]traffic{"lo": {3193, 3193}, "eth0": {223906149, 609210}, "eth0:1": {10, 20}}
	if err != nil || !reflect.DeepEqual(nets, wantNets) {
		t.Errorf("parseNet = %v, %v; want %v", nets, err, wantNets)
	}
	p, err := parseProcess([]byte(processText))
	if want := (process{name: "mdservice (x) y", ticks: 300, threads: 9, started: 71025, pages: 362}); err != nil || p != want {
		t.Errorf("parseProcess = %+v, %v; want %+v", p, err, want)
	}
}

func TestParsersSayWhatTheyCannotRead(t *testing.T) {
	t.Parallel()
	for name, parse := range parsers {
		for _, text := range []string{"rubbish", "\x00\xff\n:\n", "cpu a b c d e\n", "1 (x", "1 (x) S 1 2"} {
			if err := parse([]byte(text)); err == nil {
				t.Errorf("%s accepts %q", name, text)
			}
		}
	}
	if disks, err := parseDisks(nil); err != nil || len(disks) != 0 {
		t.Errorf("a machine without disks: %v, %v", disks, err)
	}
}

// parsers by name, their results aside.
var parsers = map[string]func([]byte) error{
	"stat":      func(b []byte) error { _, err := parseStat(b); return err },
	"loadavg":   func(b []byte) error { _, err := parseLoad(b); return err },
	"meminfo":   func(b []byte) error { _, err := parseMemory(b); return err },
	"diskstats": func(b []byte) error { _, err := parseDisks(b); return err },
	"net/dev":   func(b []byte) error { _, err := parseNet(b); return err },
	"pid/stat":  func(b []byte) error { _, err := parseProcess(b); return err },
}

// FuzzParsers lets each parser read anything: none may panic, and no figure may
// be impossible.
func FuzzParsers(f *testing.F) {
	for _, text := range []string{statText, "0.45 1.32 12.19 1/87 10902\n", memText, diskText, netText, processText, "MemTotal: 18446744073709551615 kB", ") ( "} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, parse := range parsers {
			_ = parse(b)
		}
		if m, err := parseMemory(b); err == nil && (m.used > m.total || m.available > m.total || m.swapUsed > m.swapTotal) {
			t.Errorf("%q: impossible memory %+v", b, m)
		}
		if loads, err := parseLoad(b); err == nil {
			for _, l := range loads {
				if math.IsNaN(l) || l < 0 {
					t.Errorf("%q: impossible load %v", b, l)
				}
			}
		}
	})
}

func TestRole(t *testing.T) {
	t.Parallel()
	for want, tests := range map[string][][2]string{
		"mdbroker":              {{"/opt/bin/mdbroker", "mdbroker"}, {"/opt/bin/mdbroker (deleted)", "x"}, {"mdbroker", ""}},
		"mdservice.transform":   {{"/bin/mdservice", "mdservice\x00--broker\x00tcp://x:1\x00transform\x00--data\x00d\x00"}},
		"mdservice.hostmetrics": {{"/bin/mdservice", "mdservice\x00hostmetrics\x00"}},
		"mdservice.other":       {{"/bin/mdservice", "mdservice\x00--version\x00"}, {"/bin/mdservice", ""}, {"/bin/mdservice", "transform\x00"}},
		"":                      {{"/usr/bin/bash", "bash\x00mdbroker\x00"}, {"/bin/mdbroker2", ""}, {"", ""}, {"mdbroker/bash", ""}},
	} {
		for _, tc := range tests {
			if got := role(tc[0], []byte(tc[1])); got != want {
				t.Errorf("role(%q, %q) = %q, want %q", tc[0], tc[1], got, want)
			}
		}
	}
}

func TestGrowth(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		before, now uint64
		want        float64
		ok          bool
	}{
		"still":             {5, 5, 0, true},
		"grown":             {5, 105, 100, true},
		"wrapped at 2^32":   {1<<32 - 10, 20, 30, true},
		"begun anew":        {1 << 20, 3, 0, false},
		"begun anew, large": {1 << 40, 3, 0, false},
	}
	for name, tc := range tests {
		if got, ok := growth(tc.before, tc.now); got != tc.want || ok != tc.ok {
			t.Errorf("%s: growth = %v, %v; want %v, %v", name, got, ok, tc.want, tc.ok)
		}
	}
}

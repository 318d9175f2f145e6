package hostmetrics

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/mdmesh/mdmesh/services/ingest/record"
	"github.com/mdmesh/mdmesh/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is a made-up /proc.
type host struct {
	t   *testing.T
	dir string
}

func newHost(t *testing.T) host {
	h := host{t, t.TempDir()}
	h.write("stat", statText)
	h.write("loadavg", "0.45 1.32 12.19 1/87 10902\n")
	h.write("meminfo", memText)
	h.write("diskstats", diskText)
	h.write("net/dev", netText)
	return h
}

func (h host) write(name, text string) {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h host) remove(name string) {
	h.t.Helper()
	if err := os.RemoveAll(filepath.Join(h.dir, name)); err != nil {
		h.t.Fatal(err)
	}
}

// process makes one with a number of open files.
func (h host) process(pid int, exe, cmdline string, ticks, started, fds int) {
	h.t.Helper()
	dir := fmt.Sprint(pid)
	h.remove(dir)
	h.write(dir+"/stat", fmt.Sprintf("%d (%s) S 1 1 1 0 -1 0 0 0 0 0 %d 0 0 0 20 0 7 0 %d 0 100 0\n", pid, filepath.Base(exe), ticks, started))
	h.write(dir+"/cmdline", strings.ReplaceAll(cmdline, " ", "\x00"))
	for i := range fds {
		h.write(fmt.Sprintf("%s/fd/%d", dir, i), "")
	}
	if err := os.Symlink(exe, filepath.Join(h.dir, dir, "exe")); err != nil {
		h.t.Fatal(err)
	}
}

// sampled runs one sample and returns it by series.
func sampled(s *sampler, at time.Time) map[string]float64 {
	out := make(map[string]float64)
	for _, p := range s.sample(at) {
		out[p.series] = p.value
	}
	return out
}

// check compares some series; NaN-free, and -1 stands for "missing".
func check(t *testing.T, got map[string]float64, want map[string]float64) {
	t.Helper()
	for series, value := range want {
		v, there := got[series]
		if !there && value != missing || there && v != value {
			t.Errorf("%s = %v (there: %v), want %v", series, v, there, value)
		}
	}
}

const missing = -1

func TestSampling(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.process(10, "/opt/mdmesh/mdbroker", "mdbroker --listen x", 100, 5, 3)
	h.process(11, "/opt/mdmesh/mdservice", "mdservice transform", 1000, 6, 2)
	h.process(12, "/opt/mdmesh/mdservice", "mdservice transform --data x", 2000, 7, 4)
	h.process(13, "/usr/bin/bash", "bash", 5000, 8, 1)
	s := newSampler(h.dir, hclog.NewNullLogger())
	s.pageSize = 4096
	t0 := time.Now()

	first := sampled(s, t0)
	check(t, first, map[string]float64{
		"load.1m": 0.45, "load.5m": 1.32, "load.15m": 12.19,
		"memory.used_bytes": 387176 << 10, "memory.available_bytes": 24296920 << 10, "swap.used_bytes": 148 << 10,
		"mesh.mdbroker.processes": 1, "mesh.mdbroker.fds": 3, "mesh.mdbroker.threads": 7, "mesh.mdbroker.rss_bytes": 100 * 4096,
		"mesh.mdservice.transform.processes": 2, "mesh.mdservice.transform.fds": 6, "mesh.mdservice.transform.threads": 14,
		// Rates need two samples.
		"cpu.total": missing, "disk.vda.read_bytes": missing, "net.eth0.rx_bytes": missing, "mesh.mdbroker.cpu": missing,
	})

	// Two seconds later: a quarter of the time was busy on processor 0, and
	// processor 1 was switched off; sda1 and a transform are gone, a broker is new.
	h.write("stat", "cpu  11116 10 5609 121827 2738 1 105 205 7 0\ncpu0 5144 4 2262 63392 75 1 15 87 3 0\n")
	h.write("diskstats", strings.NewReplacer("vda 9712 512 1024000", "vda 9712 512 1024020", " sda1 ", " sdc ").Replace(diskText))
	h.write("net/dev", strings.Replace(netText, "223906149    8690    0    0    0     0          0         0   609210", "223908149    8690    0    0    0     0          0         0   609200", 1))
	h.process(10, "/opt/mdmesh/mdbroker (deleted)", "mdbroker --listen x", 150, 5, 3)
	h.process(11, "/opt/mdmesh/mdservice", "mdservice transform", 1010, 6, 2)
	h.remove("12")
	h.process(14, "/opt/mdmesh/mdbroker", "mdbroker", 9999, 900, 3)
	second := sampled(s, t0.Add(2*time.Second))
	check(t, second, map[string]float64{
		"cpu.total": 25, "cpu.0": 25, "cpu.1": missing,
		"disk.vda.read_bytes": 20 * 512 / 2, "disk.vda.write_bytes": 0,
		"disk.sda1.read_bytes": missing, "disk.sdc.read_bytes": missing, // gone, and too new
		"net.eth0.rx_bytes": 1000, "net.eth0.tx_bytes": missing, // the second counter began anew
		"mesh.mdbroker.cpu": 25, "mesh.mdbroker.processes": 2, "mesh.mdservice.transform.cpu": 5, "mesh.mdservice.transform.processes": 1,
	})

	// The pid of the broker is another broker's now: its ticks are no growth.
	h.process(10, "/opt/mdmesh/mdbroker", "mdbroker", 100000, 1200, 3)
	h.remove("14")
	third := sampled(s, t0.Add(3*time.Second))
	check(t, third, map[string]float64{
		"mesh.mdbroker.cpu": missing, "mesh.mdbroker.processes": 1, "disk.sdc.read_bytes": 0, "net.eth0.tx_bytes": 0,
		"cpu.0": missing, // no tick has passed, so there is nothing to say
	})
}

func TestAMissingFileIsSaidOnce(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	var text bytes.Buffer
	s := newSampler(h.dir, hclog.New(&hclog.LoggerOptions{Output: &text}))
	h.remove("meminfo")
	h.write("loadavg", "rubbish")
	at := time.Now()
	for i := range 5 {
		got := sampled(s, at.Add(time.Duration(i)*time.Second))
		check(t, got, map[string]float64{"memory.used_bytes": missing, "load.1m": missing})
		if _, ok := got["net.eth0.rx_bytes"]; ok != (i > 0) {
			t.Errorf("sample %d: the rest does not go on: %v", i, got)
		}
	}
	h.write("meminfo", memText)
	check(t, sampled(s, at.Add(5*time.Second)), map[string]float64{"memory.available_bytes": 24296920 << 10})
	for line, times := range map[string]int{"file=meminfo error=": 1, "file=loadavg error=": 1, "usable again: file=meminfo": 1, "WARN": 2} {
		if got := strings.Count(text.String(), line); got != times {
			t.Errorf("%q occurs %d times, want %d, in:\n%s", line, got, times, &text)
		}
	}
}

// TestARateNeedsTheSampleBefore: what could not be read for a while has no rate
// over the last second only.
func TestARateNeedsTheSampleBefore(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.process(10, "/opt/mdmesh/mdbroker", "mdbroker", 100, 5, 3)
	s := newSampler(h.dir, hclog.NewNullLogger())
	at := time.Now()
	second := func() map[string]float64 {
		at = at.Add(time.Second)
		return sampled(s, at)
	}
	second()
	check(t, second(), map[string]float64{"disk.vda.read_bytes": 0, "net.eth0.rx_bytes": 0, "mesh.mdbroker.cpu": 0})

	s.proc = filepath.Join(h.dir, "nowhere")
	second()
	s.proc = h.dir
	h.write("diskstats", strings.Replace(diskText, "vda 9712 512 1024000", "vda 9712 512 9924000", 1))
	h.write("net/dev", strings.Replace(netText, "223906149", "993906149", 1))
	h.process(10, "/opt/mdmesh/mdbroker", "mdbroker", 9000, 5, 3)
	check(t, second(), map[string]float64{
		"disk.vda.read_bytes": missing, "net.eth0.rx_bytes": missing, "mesh.mdbroker.cpu": missing, "mesh.mdbroker.fds": 3})
	check(t, second(), map[string]float64{"disk.vda.read_bytes": 0, "net.eth0.rx_bytes": 0, "mesh.mdbroker.cpu": 0})
}

// TestThisMachine reads the real /proc.
func TestThisMachine(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/stat"); err != nil {
		t.Fatalf("hostmetrics needs /proc: %v", err)
	}
	s := newSampler("/proc", hclog.NewNullLogger())
	got := sampled(s, time.Now())
	for _, series := range []string{"load.1m", "memory.used_bytes", "memory.available_bytes"} {
		if _, ok := got[series]; !ok {
			t.Errorf("%s is missing in %v", series, got)
		}
	}
	if len(s.cpus) < 2 || len(s.silent) > 0 {
		t.Errorf("processors %v, unusable %v", s.cpus, s.silent)
	}
}

// door is an ingest in memory; while it is shut, dials fail.
type door struct {
	mu       sync.Mutex
	shut     bool
	loseNext bool // closes after reading the next line, once
	records  []store.Record
	group    sync.WaitGroup
}

func (d *door) set(change func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change()
}

func (d *door) dial(context.Context, string) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut {
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	d.group.Go(func() { d.serve(theirs) })
	return ours, nil
}

func (d *door) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewScanner(conn)
	for in.Scan() {
		r, err := record.Parse(in.Bytes())
		answer := record.Answer{OK: err == nil}
		d.mu.Lock()
		d.records = append(d.records, r)
		lose := d.loseNext
		d.loseNext = false
		d.mu.Unlock()
		if err != nil {
			answer.Error = err.Error()
		}
		if lose {
			return
		}
		if _, err := conn.Write(answer.Append(nil)); err != nil {
			return
		}
	}
	_, _ = io.Copy(io.Discard, conn)
}

// start runs Metrics over h and d; end stops it.
func start(t *testing.T, h host, d *door, cfg Config) (m *Metrics, end func()) {
	t.Helper()
	cfg.Proc, cfg.Dial, cfg.Host = h.dir, d.dial, "web1"
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	end = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		d.group.Wait()
	})
	t.Cleanup(end)
	return m, end
}

func TestASampleEverySecond(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	synctest.Test(t, func(t *testing.T) {
		d := &door{loseNext: true}
		m, end := start(t, h, d, Config{Prefix: "web1."})
		begun := time.Now()
		time.Sleep(9500 * time.Millisecond) // fake time
		end()
		seen := make(map[string]store.Record)
		var loads []time.Duration
		resent := 0
		for _, r := range d.records {
			if !strings.HasPrefix(r.Series, "web1.") || r.ID != fmt.Sprintf("web1-%d", r.Time.UnixMilli()) {
				t.Errorf("record %+v", r)
			}
			if old, known := seen[r.Series+r.ID]; known {
				resent++
				if old != r {
					t.Errorf("%+v was sent again as %+v", old, r)
				}
				continue
			}
			seen[r.Series+r.ID] = r
			if r.Series == "web1.load.1m" {
				loads = append(loads, r.Time.Sub(begun))
			}
		}
		if len(loads) != 10 || loads[0] != 0 || loads[9] != 9*time.Second || resent == 0 {
			t.Errorf("samples at %v, %d records sent again", loads, resent)
		}
		if st := m.State(); st.Samples != 10 || st.Dropped != 0 || int(st.OK) != len(seen) || st.Rejected != 0 {
			t.Errorf("state %+v, %d records", st, len(seen))
		}
	})
}

func TestTheBacklogIsBounded(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	synctest.Test(t, func(t *testing.T) {
		d := &door{shut: true}
		var text bytes.Buffer
		m, end := start(t, h, d, Config{Backlog: 10, Logger: hclog.New(&hclog.LoggerOptions{Output: &text})})
		time.Sleep(5 * time.Minute) // fake time
		synctest.Wait()
		st := m.State()
		if st.Samples != 301 || st.Backlog != 10 || st.Dropped == 0 || st.OK != 0 || st.Connected {
			t.Errorf("while ingest is away: %+v", st)
		}
		d.set(func() { d.shut = false })
		time.Sleep(10*time.Second + 500*time.Millisecond) // fake time
		synctest.Wait()
		end()
		var loads []int64
		for _, r := range d.records {
			if r.Series == "load.1m" {
				loads = append(loads, r.Time.Unix())
			}
		}
		after := m.State()
		if !slices.IsSorted(loads) || len(loads) != int(after.Samples-after.Dropped) || after.Backlog != 0 || after.Dropped > st.Dropped+5 {
			t.Errorf("%d samples arrived, in order %v, state %+v", len(loads), slices.IsSorted(loads), after)
		}
		for line, times := range map[string]int{"samples are dropped: kept=10": 1, fmt.Sprint("ingest takes records again: samples-lost=", after.Dropped): 1} {
			if got := strings.Count(text.String(), line); got != times {
				t.Errorf("%q occurs %d times, want %d, in:\n%s", line, got, times, &text)
			}
		}
	})
}

func TestNewRefusesNonsense(t *testing.T) {
	t.Parallel()
	for text, cfg := range map[string]Config{
		"shorter than":        {Interval: time.Millisecond},
		"HOST:PORT":           {To: "nowhere"},
		"must not be":         {Backlog: -1},
		"control character":   {Host: "a\nb"},
		"the limit is":        {Prefix: strings.Repeat("x", 200)},
		"field \"id\": 201 o": {Host: strings.Repeat("x", 199)},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("New(%+v) = %v, want an error with %q", cfg, err, text)
		}
	}
	if _, err := New(Config{}); err != nil {
		t.Error(err)
	}
}

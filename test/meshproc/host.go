package meshproc

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Ports below those the kernel gives to outgoing connections and to port 0, so
// that nobody takes one by chance between the look and the use.
const (
	firstPort = 10_000
	endPort   = 30_000
	stride    = 20
)

// given are the bases handed out in this process: neighbours in time do not meet. Those
// of other test processes have a socket without a file that nobody else can have: else
// one would look whether a port is free while the other has just been told that it is.
var given sync.Map

// FreePorts returns a port such that n ports from it on (at most 20) are free on
// 127.0.0.1, and no other test's until this one ends.
func FreePorts(t testing.TB, n int) (base int) {
	t.Helper()
	if n > stride {
		t.Fatalf("%d ports in a row: ask for at most %d", n, stride)
	}
	for range 1000 {
		base = firstPort + stride*rand.IntN((endPort-firstPort)/stride)
		if _, taken := given.LoadOrStore(base, true); taken {
			continue
		}
		claim, err := net.Listen("unix", fmt.Sprintf("@mdmesh-test-ports-%d", base))
		if err != nil {
			continue // another process has it
		}
		if allFree(base, n) {
			t.Cleanup(func() { _ = claim.Close() })
			return base
		}
		_ = claim.Close()
	}
	t.Fatalf("no %d free ports in a row", n)
	return 0
}

func allFree(base, n int) bool {
	for port := base; port < base+n; port++ {
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}

// Folder makes one with a path short enough for sockets in it, and removes it
// with the test.
func Folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "md")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Alive tells whether a process runs; one that only waits to be buried does not.
func Alive(pid int) bool {
	state := State(pid)
	return state != 0 && state != 'Z' && state != 'X'
}

// State is a process's state as the kernel tells it (proc(5)), such as R, S or T for
// stopped; 0 if there is no such process.
func State(pid int) byte {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')'):]), " ")
	if after == "" {
		return 0
	}
	return after[0]
}

// Marked returns the processes that were started for t and its subtests, by
// whomever, and still run.
func Marked(t testing.TB) (pids []int) {
	want := markVariable + "=" + mark(t)
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		text, err := os.ReadFile(file)
		if err != nil || pid == os.Getpid() {
			continue
		}
		for pair := range strings.SplitSeq(string(text), "\x00") {
			if (pair == want || strings.HasPrefix(pair, want+"/")) && Alive(pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// Eventually asks check until it returns nil, and fails with its last error if
// that takes longer than Guard. It returns how long it took.
func Eventually(t testing.TB, what string, check func() error) time.Duration {
	t.Helper()
	return Await(t, what, 20*time.Millisecond, check)
}

// Await is Eventually for what is measured: it asks at the interval every.
func Await(t testing.TB, what string, every time.Duration, check func() error) time.Duration {
	t.Helper()
	begun := time.Now()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		err := check()
		took := time.Since(begun)
		if err == nil {
			return took
		}
		if took > Guard {
			t.Fatalf("not within %v: %s: %v", Guard, what, err)
		}
		<-ticker.C
	}
}

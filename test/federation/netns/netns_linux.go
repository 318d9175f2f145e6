package netns

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mdmesh/mdmesh/test/meshproc"
)

// prefix begins the names of our namespaces; the number of the test process and a
// count follow.
const prefix = "mdmesh-"

// cable is the name of the interface between the two hosts, on both.
const cable = "eth0"

// Host is a namespace with a loopback interface and one end of a cable. It is a
// zsock.Network for what this process does there.
type Host struct {
	Address string // at its end of the cable
	name    string
}

var (
	numbers atomic.Int64
	swept   sync.Once
)

// Pair makes two hosts with a cable between them. Without root or the tools the test
// is skipped; on CI it fails.
func Pair(t testing.TB) (a, b *Host) {
	t.Helper()
	need(t)
	swept.Do(sweep)
	n := numbers.Add(1)
	a = &Host{"10.0.0.1", fmt.Sprintf("%s%d-%da", prefix, os.Getpid(), n)}
	b = &Host{"10.0.0.2", fmt.Sprintf("%s%d-%db", prefix, os.Getpid(), n)}
	for _, h := range []*Host{a, b} {
		run(t, "ip", "netns", "add", h.name)
		t.Cleanup(func() { run(t, "ip", "netns", "delete", h.name) })
	}
	run(t, "ip", "link", "add", cable, "netns", a.name, "type", "veth", "peer", "name", cable, "netns", b.name)
	for _, h := range []*Host{a, b} {
		run(t, "ip", "-n", h.name, "address", "add", h.Address+"/30", "dev", cable)
		run(t, "ip", "-n", h.name, "link", "set", "lo", "up")
		h.Plug(t)
	}
	return a, b
}

// need skips the test, or on CI fails it, where namespaces cannot be had.
func need(t testing.TB) {
	t.Helper()
	why := ""
	if os.Getuid() != 0 {
		why = "network namespaces need root"
	}
	for _, tool := range [][2]string{{"ip", "iproute2"}, {"iptables", "iptables"}} {
		if _, err := exec.LookPath(tool[0]); err != nil {
			why = fmt.Sprintf("%s is missing (apt-get install %s)", tool[0], tool[1])
		}
	}
	switch {
	case why == "":
	case os.Getenv("CI") == "true":
		t.Fatal(why)
	default:
		t.Skip(why)
	}
}

// sweep removes what test processes left that were killed, and what runs there.
func sweep() {
	out, err := exec.Command("ip", "netns", "list").Output()
	if err != nil {
		return
	}
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest, ours := strings.CutPrefix(name, prefix)
		text, _, _ := strings.Cut(rest, "-")
		if pid, err := strconv.Atoi(text); ours && err == nil && !meshproc.Alive(pid) {
			inside, _ := exec.Command("ip", "netns", "pids", name).Output()
			for pid := range strings.FieldsSeq(string(inside)) {
				if pid, err := strconv.Atoi(pid); err == nil {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
			}
			_ = exec.Command("ip", "netns", "delete", name).Run()
		}
	}
}

func run(t testing.TB, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
}

// Command changes cmd so that it runs on the host, as the same process.
func (h *Host) Command(t testing.TB, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	ip, err := exec.LookPath("ip")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Args = append([]string{ip, "netns", "exec", h.name, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = ip
	return cmd
}

// Unplug takes the cable out, for both sides: a full partition.
func (h *Host) Unplug(t testing.TB) {
	t.Helper()
	run(t, "ip", "-n", h.name, "link", "set", cable, "down")
}

// Plug puts the cable back in.
func (h *Host) Plug(t testing.TB) {
	t.Helper()
	run(t, "ip", "-n", h.name, "link", "set", cable, "up")
}

// Mute drops all the host sends over the cable: a one-way partition.
func (h *Host) Mute(t testing.TB) {
	t.Helper()
	h.rule(t, "OUTPUT", "-o", cable, "-j", "DROP")
}

// Lose drops packets that come over the cable at random, a share of them.
func (h *Host) Lose(t testing.TB, share float64) {
	t.Helper()
	h.rule(t, "INPUT", "-i", cable, "-m", "statistic", "--mode", "random", "--probability", fmt.Sprint(share), "-j", "DROP")
}

// Reset ends every connection the host has over the cable, and every new one, at once.
func (h *Host) Reset(t testing.TB) {
	t.Helper()
	h.rule(t, "INPUT", "-i", cable, "-p", "tcp", "-j", "REJECT", "--reject-with", "tcp-reset")
	h.rule(t, "OUTPUT", "-o", cable, "-p", "tcp", "!", "--tcp-flags", "RST", "RST", "-j", "REJECT", "--reject-with", "tcp-reset")
}

// Shield lets nobody connect to the host over the cable, as a firewall does.
func (h *Host) Shield(t testing.TB) {
	t.Helper()
	h.rule(t, "INPUT", "-i", cable, "-p", "tcp", "--syn", "-j", "DROP")
}

// Mend ends Mute, Lose, Reset and Shield.
func (h *Host) Mend(t testing.TB) {
	t.Helper()
	h.tables(t, "-F")
}

func (h *Host) rule(t testing.TB, chain string, rule ...string) {
	t.Helper()
	h.tables(t, append([]string{"-A", chain}, rule...)...)
}

func (h *Host) tables(t testing.TB, args ...string) {
	t.Helper()
	run(t, "ip", append([]string{"netns", "exec", h.name, "iptables", "-w"}, args...)...)
}

// Listen is no part of what tests need.
func (h *Host) Listen(string) (net.Listener, error) { return nil, syscall.ENOTSUP }

// Dial connects from the host to tcp://ADDRESS:PORT.
func (h *Host) Dial(ctx context.Context, endpoint string) (net.Conn, error) {
	return h.DialContext(ctx, "tcp", strings.TrimPrefix(endpoint, "tcp://"))
}

// DialContext connects from the host; address holds no name of a host, for looking
// one up would be done elsewhere.
func (h *Host) DialContext(ctx context.Context, network, address string) (nc net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err = h.enter(); err == nil {
			var d net.Dialer
			nc, err = d.DialContext(ctx, network, address)
		}
	}()
	<-done
	return nc, err
}

// enter moves the calling thread to the host: sockets belong to where they are made.
func (h *Host) enter() error {
	f, err := os.Open("/run/netns/" + h.name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %s: %w", h.name, err)
	}
	return nil
}

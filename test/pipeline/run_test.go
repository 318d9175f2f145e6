package pipeline

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/test/meshproc"
)

// script is what `make run` runs.
const script = "../../examples/pipeline/run.sh"

// command prepares the script; its temporary folder is made in temp.
func command(t testing.TB, base int, temp string) *exec.Cmd {
	cmd := exec.Command(script)
	cmd.Env = append(meshproc.Environment(t), "MD_BIN="+meshproc.Binaries(t), fmt.Sprintf("MD_PORT_BASE=%d", base), "TMPDIR="+temp)
	return cmd
}

// run starts the script on free ports and waits for the page.
func run(t testing.TB, temp string) *mesh {
	t.Helper()
	m := &mesh{t: t, base: meshproc.FreePorts(t, ports)}
	cmd := command(t, m.base, temp)
	begun := time.Now()
	m.holder = meshproc.Start(t, cmd)
	t.Cleanup(m.logs)
	url := m.holder.Line(t, "page ")
	t.Logf("page line after %v", time.Since(begun))
	if want := "http://" + m.address(portPage) + "/"; url != want {
		t.Errorf("page %s, want %s", url, want)
	}
	m.dir = filepath.Dir(m.holder.Line(t, "logs "))
	return m
}

// TestRun is what a newcomer sees: the page grows, each process that is killed
// comes back by itself, and Ctrl-C ends all of it.
func TestRun(t *testing.T) {
	t.Parallel()
	meshproc.Binaries(t) // building is no part of what is timed
	temp := meshproc.Folder(t)
	m := run(t, temp)
	begun := time.Now()
	shown := openPage(t, "http://"+m.address(portPage)+"/")
	t.Logf("browser there after %v", time.Since(begun))
	m.showsThisMachine()
	t.Logf("roll-ups of this machine after %v", time.Since(begun))
	shown.grows()
	t.Logf("first roll-up by websocket after %v", time.Since(begun))
	m.ready()

	for _, name := range append([]string{"hostmetrics"}, children...) {
		if name == "transform-a:1" || name == "transform-b:1" {
			continue // of a kind with :0
		}
		before := m.child(name)
		m.kill(before)
		took := m.healed(before)
		growing := m.grows()
		shown.grows()
		t.Logf("%-13s back after %v, roll-ups grow after %v more", name, took, growing)
	}
	m.ready()
	m.supervisorHeals()
	shown.grows()
	m.ctrlC(temp, 1)
	if shown == nil {
		t.Skip("all but the page was tested: " + noChromium)
	}
}

// TestRunImpatiently: a second Ctrl-C leaves no more behind than the first one.
func TestRunImpatiently(t *testing.T) {
	t.Parallel()
	temp := meshproc.Folder(t)
	m := run(t, temp)
	m.ctrlC(temp, 3)
}

// TestRunSupervisorKilledAtTheStart: another one takes its place before the page is up.
func TestRunSupervisorKilledAtTheStart(t *testing.T) {
	t.Parallel()
	temp := meshproc.Folder(t)
	m := &mesh{t: t, base: meshproc.FreePorts(t, ports)}
	m.holder = meshproc.Start(t, command(t, m.base, temp))
	t.Cleanup(m.logs)
	meshproc.Eventually(t, "a first child", func() error {
		for _, pid := range meshproc.Marked(t) {
			if program, _ := arguments(pid); program == "mdbroker" {
				return nil
			}
		}
		return errors.New("no broker yet")
	})
	m.kill(child{Name: "supervisor", PID: m.supervisor()})
	m.holder.Line(t, "page ")
	m.dir = filepath.Dir(m.holder.Line(t, "logs "))
	meshproc.Eventually(t, "another supervisor", func() error { // children that go on show the page before it is there
		_, err := m.status()
		return err
	})
	m.ctrlC(temp, 1)
}

// TestRunSupervisorKilledAtTheEnd: Ctrl-C comes before there is another one, which
// is started all the same, to end what was left.
func TestRunSupervisorKilledAtTheEnd(t *testing.T) {
	t.Parallel()
	temp := meshproc.Folder(t)
	m := run(t, temp)
	pids := m.pids()
	m.kill(child{Name: "supervisor", PID: m.supervisor()})
	m.holder.Says(t, "starting another")
	m.holder.SignalGroup(t, syscall.SIGINT)
	m.nothingLeft(temp, m.holder.Wait(t), pids)
}

// TestRunEndsBySignal: the script alone gets the signal, as from a service
// manager or a terminal that is closed.
func TestRunEndsBySignal(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		temp := meshproc.Folder(t)
		m := run(t, temp)
		pids := m.pids()
		m.holder.Signal(t, sig)
		m.nothingLeft(temp, m.holder.Wait(t), pids)
	}
}

// TestRunPortTaken: the script says so and what to do, and starts nothing: half a
// mesh could join the one that has the port, and take its records to another store.
func TestRunPortTaken(t *testing.T) {
	t.Parallel()
	for _, port := range []int{portA, portBSubscribe, portBHTTP, portIngest, portPage} {
		base := meshproc.FreePorts(t, ports)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+port))
		if err != nil {
			t.Fatal(err)
		}
		temp := meshproc.Folder(t)
		r := meshproc.Run(t, command(t, base, temp))
		want := fmt.Sprintf(`^run: port %d is in use.*MD_PORT_BASE=20000 or the like\n$`, base+port)
		if r.Code != 69 || r.Stdout != "" || !regexp.MustCompile(want).MatchString(r.Stderr) {
			t.Errorf("%s taken: exit code %d\n%s%s", roles[port], r.Code, r.Stdout, r.Stderr)
		}
		if left, files := meshproc.Marked(t), entries(t, temp); len(left) > 0 || len(files) > 0 {
			t.Errorf("%s taken: processes %v and files %v left", roles[port], left, files)
		}
		_ = l.Close()
	}
}

func entries(t testing.TB, dir string) []os.DirEntry {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// showsThisMachine waits for the series that hostmetrics must have everywhere,
// in all windows and growing.
func (m *mesh) showsThisMachine() {
	m.t.Helper()
	for _, series := range []string{"cpu.total", "cpu.0", "load.1m", "memory.used_bytes", "net.lo.rx_bytes", "mesh.mdbroker.rss_bytes", "mesh.mdservice.transform.processes"} {
		meshproc.Eventually(m.t, series+" is shown", func() error {
			list, err := m.newest()
			if err != nil {
				return err
			}
			i := slices.IndexFunc(list, func(s newest) bool { return s.Series == series })
			if i < 0 || len(list[i].Points) != len(windows) {
				return fmt.Errorf("among %d series: %v", len(list), i)
			}
			for j, p := range list[i].Points {
				if p.Window != windows[j] || p.Count < 1 || p.Rev < 1 || p.Min > p.Last || p.Last > p.Max || !p.Start.Equal(p.Start.UTC().Truncate(lengths[p.Window])) {
					return fmt.Errorf("%+v", p)
				}
			}
			return nil
		})
	}
	m.grows()
}

// grows waits until rev and counts are above what they are now, and returns how
// long that took.
func (m *mesh) grows() time.Duration {
	m.t.Helper()
	var rev, count int64
	waited := meshproc.Eventually(m.t, "push answers", func() (err error) {
		if rev, err = m.lastRev(); err == nil {
			count, err = m.counted("cpu.total", "day")
		}
		return err
	})
	return waited + meshproc.Eventually(m.t, "roll-ups grow", func() error {
		newRev, err := m.lastRev()
		if err != nil {
			return err
		}
		newCount, err := m.counted("cpu.total", "day")
		if err == nil && (newRev <= rev || newCount <= count) {
			err = fmt.Errorf("rev %d after %d, count %d after %d", newRev, rev, newCount, count)
		}
		return err
	})
}

// supervisorHeals kills the supervisor: the children go on, and the one that
// takes its place knows them.
func (m *mesh) supervisorHeals() {
	m.t.Helper()
	before := m.pids()
	pid := m.supervisor()
	m.kill(child{Name: "supervisor", PID: pid})
	took := meshproc.Eventually(m.t, "a new supervisor", func() error {
		if meshproc.Alive(pid) {
			return fmt.Errorf("%d still there", pid)
		}
		_, err := m.status()
		return err
	})
	for name, pid := range before {
		if now := m.child(name); now.PID != pid || !now.runs() {
			m.t.Errorf("%s was %d, is %+v", name, pid, now)
		}
	}
	m.t.Logf("%-13s back after %v, children untouched; roll-ups grow after %v more", "supervisor", took, m.grows())
}

// supervisor returns the process below the script that runs mdsupervisor.
func (m *mesh) supervisor() int {
	m.t.Helper()
	for _, pid := range meshproc.Marked(m.t) {
		if program, args := arguments(pid); program == "mdsupervisor" && slices.Contains(args, "run") {
			return pid
		}
	}
	m.t.Fatal("no mdsupervisor runs")
	return 0
}

// arguments returns the name of a process's program and what it was given.
func arguments(pid int) (program string, args []string) {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	args = strings.Split(string(line), "\x00")
	return filepath.Base(args[0]), args[1:]
}

// ctrlC sends to the script's whole group, as a terminal does, so many times, and
// checks that nothing is left: no process, no file.
func (m *mesh) ctrlC(temp string, times int) {
	m.t.Helper()
	pids := m.pids()
	begun := time.Now()
	m.holder.SignalGroup(m.t, syscall.SIGINT)
	for range times - 1 { // as soon as the supervisor has begun to stop
		m.holder.Says(m.t, "stopping all children")
		m.holder.SignalGroup(m.t, syscall.SIGINT)
	}
	code := m.holder.Wait(m.t)
	m.t.Logf("all over %v after Ctrl-C (promised: 5 s)", time.Since(begun))
	m.nothingLeft(temp, code, pids)
}

// nothingLeft checks that the script ended well, and all that it had started.
func (m *mesh) nothingLeft(temp string, code int, pids map[string]int) {
	m.t.Helper()
	if code != 0 {
		m.t.Errorf("exit code %d", code)
	}
	for name, pid := range pids {
		if meshproc.Alive(pid) {
			m.t.Errorf("%s (%d) is left", name, pid)
		}
	}
	if left := meshproc.Marked(m.t); len(left) > 0 {
		m.t.Errorf("processes left: %v", left)
	}
	if left := entries(m.t, temp); len(left) > 0 {
		m.t.Errorf("files left: %v", left)
	}
}

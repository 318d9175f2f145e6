package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/test/meshproc"
)

func TestMain(m *testing.M) { meshproc.Main(m) }

// mesh is one instance of the main job.
type mesh struct {
	t      testing.TB
	base   int    // the first of its ten ports, laid out as run.sh does
	dir    string // supervisor's socket, logs
	data   string
	holder *meshproc.Process // run.sh, or mdsupervisor itself
}

// The ports of a mesh, from its base on.
const (
	portA, portAPublish, portASubscribe, portAHTTP = 0, 1, 2, 3
	portB, portBPublish, portBSubscribe, portBHTTP = 4, 5, 6, 7
	portIngest, portPage                           = 8, 9
	ports                                          = 10
)

func (m *mesh) address(port int) string { return fmt.Sprintf("127.0.0.1:%d", m.base+port) }
func (m *mesh) brokers() []string {
	return []string{"tcp://" + m.address(portA), "tcp://" + m.address(portB)}
}
func (m *mesh) socket() string { return filepath.Join(m.dir, "supervisor.sock") }

// meshFile is the pipeline of run.sh without hostmetrics, so that nothing comes
// in but what a test sends. {0} .. {9} are addresses, {data} is the folder of the store.
const meshFile = `
[[child]]
name = "broker-a"
command = ["mdbroker", "--name", "a", "--listen", "tcp://{0}", "--publish", "tcp://{1}", "--subscribe", "tcp://{2}", "--http", "{3}"]
ready = "notify"

[[child]]
name = "broker-b"
command = ["mdbroker", "--name", "b", "--listen", "tcp://{4}", "--publish", "tcp://{5}", "--subscribe", "tcp://{6}", "--http", "{7}", "--peer", "tcp://{0}"]
ready = "notify"

[[child]]
name = "transform-a"
command = ["mdservice", "--broker", "tcp://{0}", "--data", "{data}", "transform", "--scope", "mesh"]
numprocs = 2

[[child]]
name = "transform-b"
command = ["mdservice", "--broker", "tcp://{4}", "--data", "{data}", "transform", "--scope", "mesh"]
numprocs = 2

[[child]]
name = "rollup"
command = ["mdservice", "--broker", "tcp://{4}", "--data", "{data}", "rollup"]

[[child]]
name = "ingest"
command = ["mdservice", "--broker", "tcp://{0},tcp://{4}", "ingest", "--listen", "{8}"]

[[child]]
name = "push"
command = ["mdservice", "--broker", "tcp://{0}", "--data", "{data}", "push", "--listen", "{9}"]
`

// children are the names in meshFile, one process each.
var children = []string{"broker-a", "broker-b", "transform-a:0", "transform-a:1", "transform-b:0", "transform-b:1", "rollup", "ingest", "push"}

// start runs a mesh under a supervisor of its own and waits until the page and
// ingest are there.
func start(t testing.TB) *mesh {
	t.Helper()
	m := &mesh{t: t, base: meshproc.FreePorts(t, ports), dir: meshproc.Folder(t)}
	m.data = filepath.Join(m.dir, "data")
	text := strings.ReplaceAll(meshFile, "{data}", m.data)
	for port := range ports {
		text = strings.ReplaceAll(text, fmt.Sprintf("{%d}", port), m.address(port))
	}
	if err := os.WriteFile(m.file(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	m.hold()
	m.ready()
	t.Cleanup(m.logs)
	return m
}

func (m *mesh) file() string { return filepath.Join(m.dir, "mesh.toml") }

// hold starts a supervisor, the first one or the next.
func (m *mesh) hold() {
	m.t.Helper()
	m.holder = meshproc.Start(m.t, meshproc.Command(m.t, "mdsupervisor", "run", "--config", m.file(), "--socket", m.socket(), "--stop-timeout", "4s"))
}

// ready waits until all parts of the mesh know each other.
func (m *mesh) ready() {
	m.t.Helper()
	meshproc.Eventually(m.t, "the brokers are linked", func() error { return m.linked() })
	meshproc.Eventually(m.t, "four transform processes at work", func() error { return m.transforms(4) })
	meshproc.Eventually(m.t, "push answers", func() error { _, err := m.get("/healthz"); return err })
	meshproc.Eventually(m.t, "ingest answers", func() error { return m.reachable(portIngest) })
}

// logs shows the ends of the children's logs if the test failed.
func (m *mesh) logs() {
	if !m.t.Failed() {
		return
	}
	files, _ := filepath.Glob(filepath.Join(m.dir, "*logs", "*"))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		m.t.Logf("%s:\n%s", filepath.Base(file), text[max(0, len(text)-3000):])
	}
}

// child is one line of `mdsupervisor -o json status`.
type child struct {
	Name     string    `json:"name"`
	State    string    `json:"state"`
	PID      int       `json:"pid"`
	Since    time.Time `json:"since"`
	Restarts int       `json:"restarts"`
}

func (c child) runs() bool { return c.PID > 0 && (c.State == "up" || c.State == "ready") }

// status asks the supervisor.
func (m *mesh) status() ([]child, error) {
	r := meshproc.Run(m.t, meshproc.Command(m.t, "mdsupervisor", "-o", "json", "status", "--socket", m.socket()))
	if r.Code != 0 {
		return nil, fmt.Errorf("status: exit code %d: %s", r.Code, r.Stderr)
	}
	var list []child
	if err := json.Unmarshal([]byte(r.Stdout), &list); err != nil {
		return nil, fmt.Errorf("status: %w in %s", err, r.Stdout)
	}
	return list, nil
}

// all is status for when the supervisor must answer.
func (m *mesh) all() []child {
	m.t.Helper()
	list, err := m.status()
	if err != nil {
		m.t.Fatal(err)
	}
	return list
}

func (m *mesh) child(name string) child {
	m.t.Helper()
	list := m.all()
	i := slices.IndexFunc(list, func(c child) bool { return c.Name == name })
	if i < 0 {
		m.t.Fatalf("no child %s in %+v", name, list)
	}
	return list[i]
}

// pids returns the processes by name.
func (m *mesh) pids() map[string]int {
	m.t.Helper()
	pids := make(map[string]int)
	for _, c := range m.all() {
		pids[c.Name] = c.PID
	}
	return pids
}

// kill ends a process like a crash. What is no longer there counts as killed.
func (m *mesh) kill(c child) {
	m.t.Helper()
	if c.PID <= 1 { // 0 would be ourselves
		m.t.Fatalf("nothing to kill: %+v", c)
	}
	if err := syscall.Kill(c.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		m.t.Fatalf("kill %+v: %v", c, err)
	}
}

// healed waits until the child that was killed is back as another process, and
// returns how long that took.
func (m *mesh) healed(before child) time.Duration {
	m.t.Helper()
	return meshproc.Eventually(m.t, before.Name+" is back", func() error {
		list, err := m.status()
		if err != nil {
			return err
		}
		for _, c := range list {
			if c.Name == before.Name && c.runs() && c.PID != before.PID && c.Restarts > before.Restarts && meshproc.Alive(c.PID) {
				return nil
			}
		}
		return fmt.Errorf("%+v", list)
	})
}

// list asks a broker something by mdcli.
func (m *mesh) list(broker, question string) ([]map[string]any, error) {
	r := meshproc.Run(m.t, meshproc.Command(m.t, "mdcli", "--broker", broker, "-o", "json", question))
	if r.Code != 0 {
		return nil, fmt.Errorf("mdcli %s: exit code %d: %s", question, r.Code, r.Stderr)
	}
	var rows []map[string]any
	if err := json.Unmarshal([]byte(r.Stdout), &rows); err != nil {
		return nil, fmt.Errorf("mdcli %s: %w in %s", question, err, r.Stdout)
	}
	return rows, nil
}

// linked tells whether each broker sees the other.
func (m *mesh) linked() error {
	for i, broker := range m.brokers() {
		peers, err := m.list(broker, "peers")
		if err != nil {
			return err
		}
		if len(peers) != 1 || peers[0]["state"] != "up" || peers[0]["name"] != []string{"b", "a"}[i] {
			return fmt.Errorf("%s has the peers %v", broker, peers)
		}
	}
	return nil
}

// transforms tells whether at least n processes work for transform at the two
// brokers, both of which have some.
func (m *mesh) transforms(n int) error {
	pids := make(map[any]bool)
	for _, broker := range m.brokers() {
		workers, err := m.list(broker, "workers")
		if err != nil {
			return err
		}
		before := len(pids)
		for _, w := range workers {
			if pid, _ := w["pid"].(float64); w["service"] == "transform" && meshproc.Alive(int(pid)) {
				pids[w["pid"]] = true
			}
		}
		if len(pids) == before {
			return fmt.Errorf("%s has no transform of its own: %v", broker, workers)
		}
	}
	if len(pids) < n {
		return fmt.Errorf("%d transform processes", len(pids))
	}
	return nil
}

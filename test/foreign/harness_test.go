package foreign

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// guard is how long any single step may take before the test gives up. It is no
// measure of speed: machines that run tests are busy.
const guard = 30 * time.Second

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// built is the broker under test, built once for all tests. MD_TEST_BROKER names
// another binary to test instead.
var built struct {
	once sync.Once
	dir  string
	path string
	err  error
}

func brokerBinary(t testing.TB) string {
	t.Helper()
	built.once.Do(func() {
		if built.path = os.Getenv("MD_TEST_BROKER"); built.path != "" {
			return
		}
		if built.dir, built.err = os.MkdirTemp("", "foreign-"); built.err != nil {
			return
		}
		built.path = filepath.Join(built.dir, "mdbroker")
		args := append(append([]string{"build"}, buildFlags...), "-o", built.path, "../../cmd/mdbroker")
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			built.err = fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

// broker is one mdbroker process.
type broker struct {
	endpoint string // tcp://127.0.0.1:PORT
	cmd      *exec.Cmd
	exited   chan struct{} // closed when the process has ended
	killed   bool          // by the test
	log      *logBuffer
}

// startBroker runs a broker that listens on a port of its own, or on the endpoint
// given by further flags, until the test ends.
func startBroker(t testing.TB, flags ...string) *broker {
	t.Helper()
	b := &broker{exited: make(chan struct{}), log: &logBuffer{}}
	args := []string{"--listen", "tcp://127.0.0.1:0", "--publish", "", "--subscribe", "", "--http", "", "--heartbeat", "1s"}
	if len(flags) > 0 && flags[0] == "--listen" {
		args = args[2:]
	}
	b.cmd = exec.Command(brokerBinary(t), append(args, flags...)...)
	b.cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1 exitcode=66")
	stderr, err := b.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	listening := make(chan string, 1)
	go func() {
		defer close(b.exited)
		b.read(stderr, listening)
		_ = b.cmd.Wait()
	}()
	t.Cleanup(func() { b.end(t) })
	select {
	case b.endpoint = <-listening:
	case <-b.exited:
		t.Fatalf("the broker ended at once: %v\n%s", b.cmd.ProcessState, b.log)
	case <-time.After(guard):
		t.Fatalf("the broker does not listen\n%s", b.log)
	}
	return b
}

// read keeps what the broker says and finds the endpoint it listens on.
func (b *broker) read(stderr io.Reader, listening chan<- string) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		b.log.add(lines.Text())
		if rest, ok := strings.CutPrefix(lines.Text(), "listening role=requests endpoint="); ok {
			select {
			case listening <- strings.TrimSpace(rest):
			default:
			}
		}
	}
	_, _ = io.Copy(io.Discard, stderr)
}

// end stops the broker and fails the test if it had died before.
func (b *broker) end(t testing.TB) {
	select {
	case <-b.exited:
		if !b.killed && b.cmd.ProcessState.ExitCode() != 0 {
			t.Errorf("the broker ended with %v", b.cmd.ProcessState)
		}
	default:
		_ = b.cmd.Process.Kill()
		<-b.exited
	}
	if t.Failed() {
		t.Logf("broker:\n%s", b.log)
	}
}

// terminate asks the broker to end in good order.
func (b *broker) terminate(t testing.TB) {
	t.Helper()
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// kill ends the broker like a crash.
func (b *broker) kill(t testing.TB) {
	t.Helper()
	b.killed = true
	if err := b.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	await(t, "end of the broker", b.exited)
}

// address is the broker's endpoint without the scheme.
func (b *broker) address() string { return strings.TrimPrefix(b.endpoint, "tcp://") }

// alive proves that the broker still serves: a new client asks and is answered.
func (b *broker) alive(t testing.TB) {
	t.Helper()
	p := startPeer(t)
	c := p.open(t, b, "REQ")
	c.send(t, "MDPC01", "mmi.service", "nobody")
	c.expect(t, "MDPC01", "mmi.service", "404")
	p.close(t)
}

// dialRaw opens a TCP connection that knows nothing of ZeroMQ.
func dialRaw(t testing.TB, b *broker) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", b.address(), guard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(guard)); err != nil {
		t.Fatal(err)
	}
	return c
}

func await(t testing.TB, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(guard):
		t.Fatalf("no %s within %v", what, guard)
	}
}

// logBuffer keeps the last lines of a process for failed tests.
type logBuffer struct {
	mu    sync.Mutex
	lines []string
}

func (l *logBuffer) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lines = append(l.lines, line); len(l.lines) > 200 {
		l.lines = l.lines[1:]
	}
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

// interpreters are looked for once; a missing one skips tests, but never on CI.
var interpreters sync.Map

func need(t testing.TB, what, debianPackage string, probe ...string) {
	t.Helper()
	err, known := interpreters.Load(what)
	if !known {
		out, failed := exec.Command(probe[0], probe[1:]...).CombinedOutput()
		err = ""
		if failed != nil {
			err = fmt.Sprintf("%v %s", failed, bytes.TrimSpace(out))
		}
		interpreters.Store(what, err)
	}
	if err == "" {
		return
	}
	text := fmt.Sprintf("%s is missing (apt-get install %s): %v", what, debianPackage, err)
	if os.Getenv("CI") == "true" {
		t.Fatal(text)
	}
	t.Skip(text)
}

const python, php = "/usr/bin/python3", "/usr/bin/php"

func needPython(t testing.TB) {
	t.Helper()
	need(t, "python3-zmq", "python3-zmq", python, "-c", "import zmq")
}

func needPHP(t testing.TB) {
	t.Helper()
	need(t, "php-zmq", "php-cli php-zmq", php, "-r", `exit(extension_loaded("zmq") ? 0 : 1);`)
}

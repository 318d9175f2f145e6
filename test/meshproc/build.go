// Package meshproc runs the programs of the mesh as real processes in tests: it
// builds them once per test process, starts them on ports of their own, reads
// what they say, kills them, and leaves nothing behind.
//
// The one invariant: whatever was started for a test, and whatever that started
// in turn, is gone when the test has ended. Every process carries the test's name
// in its environment, which children inherit; so also the children of a killed
// supervisor are found and ended.
//
// Start reading at Command and Start. A package that uses this one calls Main
// from its TestMain.
package meshproc

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Guard is how long any single step may take before a test gives up. It is no
// measure of speed: machines that run tests are busy.
const Guard = 90 * time.Second

// binariesVariable names a folder of binaries to test instead of building them.
const binariesVariable = "MD_TEST_BIN"

var built struct {
	once sync.Once
	temp string // to be removed
	dir  string
	err  error
}

// Main runs the tests of a package, removes the binaries and ends the process.
func Main(m *testing.M) {
	code := m.Run()
	if built.temp != "" {
		_ = os.RemoveAll(built.temp)
	}
	os.Exit(code)
}

// Binaries returns the folder of all programs, built as `make build` does, once
// for all tests of the process. MD_TEST_BIN names another folder to use.
func Binaries(t testing.TB) string {
	t.Helper()
	built.once.Do(func() { built.err = build() })
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.dir
}

func build() (err error) {
	if given := os.Getenv(binariesVariable); given != "" {
		built.dir, err = filepath.Abs(given)
		return err
	}
	if built.temp, err = os.MkdirTemp("", "mdbin"); err != nil {
		return err
	}
	built.dir = built.temp
	cmd := exec.Command("go", "build", "-o", built.dir+"/", "github.com/mdmesh/mdmesh/cmd/...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}

// Command prepares one of our programs, such as "mdbroker"; its environment is
// that of Environment.
func Command(t testing.TB, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(filepath.Join(Binaries(t), program), args...)
	cmd.Env = Environment(t)
	return cmd
}

// markVariable carries the name of the test a process was started for.
const markVariable = "MESHPROC_TEST"

// Environment is the test process's own without what would set our flags, and
// with the mark by which everything started for t is found again.
func Environment(t testing.TB) []string {
	env := []string{markVariable + "=" + mark(t)}
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "MD_") && !strings.HasPrefix(pair, markVariable) && !strings.HasPrefix(pair, "NOTIFY_SOCKET=") {
			env = append(env, pair)
		}
	}
	return env
}

func mark(t testing.TB) string { return fmt.Sprintf("%d/%s", os.Getpid(), t.Name()) }

package logging

import (
	"bytes"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
)

// TB is the part of testing.TB that Test needs; named here so that programs do
// not link package testing.
type TB interface {
	Helper()
	Cleanup(func())
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
}

// Test returns a logger at level trace whose lines go to t's log. A call with an
// odd number of arguments, which hclog marks as an extra value, fails the test.
// Lines after the end of the test are dropped, so a goroutine that outlives it
// cannot make the run panic.
func Test(t TB) hclog.Logger {
	w := &testWriter{t: t}
	t.Cleanup(w.end)
	return hclog.New(&hclog.LoggerOptions{Level: hclog.Trace, Output: w, DisableTime: true})
}

type testWriter struct {
	mu sync.Mutex
	// mu guards the following.
	t    TB
	over bool
}

func (w *testWriter) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
}

func (w *testWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return len(line), nil
	}
	w.t.Helper()
	text := string(bytes.TrimRight(line, "\n"))
	if strings.Contains(text, hclog.MissingKey) {
		w.t.Errorf("log line with a value but no key: %s", text)
	} else {
		w.t.Logf("%s", text)
	}
	return len(line), nil
}

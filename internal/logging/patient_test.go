package logging

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// standing is a log that takes nothing while its gate is closed.
type standing struct {
	gate chan struct{}
	text strings.Builder
}

func (s *standing) Write(p []byte) (int, error) {
	<-s.gate
	return s.text.Write(p)
}

func newPatient(gate chan struct{}) (*patient, *standing) {
	log := &standing{gate: gate}
	return &patient{to: log, patience: patience, lost: func(n int) []byte { return fmt.Appendf(nil, "lost %d\n", n) }}, log
}

// TestPatience: a log that stands still delays the first who logs by a second and
// nobody else; what fits comes later, in order, and the rest is counted.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, log := newPatient(make(chan struct{}))
		line := strings.Repeat("x", 1023) + "\n"
		begun := time.Now()
		for range 1 + maxBacklog/len(line) + 3 {
			if n, err := w.Write([]byte(line)); n != len(line) || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
		}
		if took := time.Since(begun); took != patience {
			t.Errorf("who logged waited %v in all, want %v", took, patience)
		}
		close(log.gate)
		synctest.Wait()
		if want := strings.Repeat(line, 1+maxBacklog/len(line)) + "lost 3\n"; log.text.String() != want {
			t.Errorf("%d octets were written, want %d; they end with %q", log.text.Len(), len(want), log.text.String()[log.text.Len()-20:])
		}
		if _, err := w.Write([]byte("after\n")); err != nil || !strings.HasSuffix(log.text.String(), "\nafter\n") {
			t.Errorf("%v, %q", err, log.text.String()[log.text.Len()-20:])
		}
		if time.Since(begun) != patience {
			t.Error("a log that is read again delays somebody")
		}
	})
}

// TestLongLine: one that is longer than the bound is written all the same.
func TestLongLine(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	close(gate)
	w, log := newPatient(gate)
	_, _ = w.Write(make([]byte, 2*maxBacklog))
	if log.text.Len() != 2*maxBacklog {
		t.Errorf("%d octets written", log.text.Len())
	}
}

func TestLost(t *testing.T) {
	t.Parallel()
	if line := string(lost(7)); !strings.HasSuffix(line, "[WARN]  log: log lines dropped: nobody read them: lines=7\n") {
		t.Errorf("line %q", line)
	}
}

package supervisor

import (
	"errors"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestShutdownOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{}
		b := beginBench(t, host, specs(t, entry("broker"), entry("worker", procs(2)), entry("page"))...)
		b.stop()
		if b.err != nil {
			t.Fatal(b.err)
		}
		got := host.entries("15")
		if len(got) != 4 || got[0] != "15 page" || got[3] != "15 broker" {
			t.Errorf("stopped %q", got)
		}
	})
}

func TestShutdownIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{obeys: func(name string, s syscall.Signal) bool { return s == syscall.SIGKILL || name == "broker" }}
		b := beginBench(t, host, specs(t, entry("broker"), entry("hung", procs(3)), entry("crashed", notifying))...)
		began := time.Now()
		b.stop()
		if took := time.Since(began); b.err != nil || took != b.bound {
			t.Errorf("took %v, error %v; want %v", took, b.err, b.bound)
		}
		// One that hangs does not take the time to end from those after it.
		if got := host.entries("15"); len(got) != 5 {
			t.Errorf("asked to end: %q, want all five", got)
		}
		if got := host.entries("9"); len(got) != 4 || slices.Contains(got, "9 broker") {
			t.Errorf("killed %q, want the four that did not end", got)
		}
	})
}

func TestShutdownGivesUpOnTheUnkillable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{obeys: func(string, syscall.Signal) bool { return false }}
		b := beginBench(t, host, specs(t, entry("a"))...)
		b.stop()
		if b.err == nil || b.err.Error() != "still running after SIGKILL: a (pid 1)" {
			t.Errorf("error %v", b.err)
		}
	})
}

func TestHurry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{obeys: func(_ string, s syscall.Signal) bool { return s == syscall.SIGKILL }}
		b := beginBench(t, host, specs(t, entry("a"), entry("b"), entry("c"))...)
		ended := make(chan struct{})
		go func() { b.stop(); close(ended) }()
		pass(time.Second)
		began := time.Now()
		close(b.hurried)
		<-ended
		if took := time.Since(began); took != 0 || b.err != nil {
			t.Errorf("took %v, error %v", took, b.err)
		}
	})
}

func TestShutdownOfWhatIsNotRunning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host := &fakeHost{refuse: errors.New("no")}
		b := beginBench(t, host, specs(t, entry("a"), entry("b", failures(1)))...)
		began := time.Now()
		if _, err := b.do(t.Context(), OpShutdown, nil); err != nil {
			t.Error(err)
		}
		if _, err := b.do(t.Context(), OpStart, nil); !errors.Is(err, ErrClosing) {
			t.Errorf("start after the end: %v", err)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v", took)
		}
	})
}

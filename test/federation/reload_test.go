package federation

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/test/faults/rig"
)

// Peers come and go with the file and SIGHUP, under load: links follow, no call fails,
// and a faulty file changes nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	ledger := newLedger()
	b, c := start(t, "b"), start(t, "c")
	file := filepath.Join(t.TempDir(), "broker.toml")
	write := func(peers ...*site) {
		t.Helper()
		var list []string
		for _, p := range peers {
			list = append(list, fmt.Sprintf("%q", p.Requests))
		}
		if err := os.WriteFile(file, fmt.Appendf(nil, "peer = [%s]\n", strings.Join(list, ", ")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	a := start(t, "a", "--config", file)
	for _, s := range []*site{a, b, c} {
		s.works(t, 2, ledger.sleeping(s.name, 10*time.Millisecond))
	}
	busy := drive(t, "callers at a", a.client(t), ledger, 6, false)
	once := drive(t, "callers once at a", a.client(t), ledger, 2, true)
	has := func(peers ...*site) {
		t.Helper()
		var want []string
		for _, p := range peers {
			want = append(want, p.name)
		}
		rig.Await(t, fmt.Sprintf("a is linked with %q", want), func() error {
			st, err := a.Look()
			var got []string
			for _, l := range st.Peers {
				if isUp(l.State) {
					got = append(got, l.Name)
				}
			}
			if err == nil && !slices.Equal(got, want) {
				err = fmt.Errorf("peers %+v", st.Peers)
			}
			return err
		})
		from := make(map[*site]int)
		for _, p := range peers {
			from[p] = ledger.of(p.name)
		}
		for p, n := range from {
			rig.Await(t, p.name+" gets work", func() error {
				if ledger.of(p.name) < n+10 {
					return fmt.Errorf("%d executions", ledger.of(p.name)-n)
				}
				return nil
			})
		}
		busy.some(t, 50)
	}
	for _, peers := range [][]*site{{b}, {b, c}, {c}, {}, {b, c}} {
		write(peers...)
		a.Signal(t, syscall.SIGHUP)
		has(peers...)
	}
	if err := os.WriteFile(file, []byte("peer = [\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a.Signal(t, syscall.SIGHUP)
	a.Says(t, "configuration not reloaded")
	has(b, c)
	busy.stop(t)
	once.stop(t)
	settled(t, a, b, c)
	requests, again := ledger.check(t)
	t.Logf("%d requests executed, %d executions more than that", requests, again)
}

package layers

import (
	"strings"
	"testing"
)

// TestPlantedViolations proves that each rule can fail, and that what the house
// needs passes.
func TestPlantedViolations(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, from, imported, want string }{
		{"downwards", "cmd/mdbroker", module + "broker", ""},
		{"two floors down", "broker", module + "mdp", ""},
		{"upwards", "mdp", module + "zsock", "floor 0 must not know floor 1"},
		{"engine to service", "worker", module + "services/echo", "floor 3 must not know floor 4"},
		{"contract to its memory", "zsock", module + "zsock/memsock", "floor 1 must not know floor 2"},
		{"engines", "broker", module + "worker", "neighbours"},
		{"commands", "cmd/mdcli", module + "cmd/mdbroker", "neighbours"},
		{"stores", "store/sqlite", module + "store/mem", "neighbours"},
		{"store and its parts", "store/sqlite", module + "store", ""},
		{"tiny neighbours", "internal/config", module + "internal/logging", "neighbours"},
		{"tiny neighbours of cli", "internal/cli", module + "internal/version", ""},
		{"services", "services/rollup", module + "services/transform", "neighbours"},
		{"a service's part", "services/ingest", module + "services/ingest/record", ""},
		{"the line format", "services/transform", module + "services/ingest/record", ""},
		{"the line client", "services/transform", module + "services/ingest/lineclient", "neighbours"},
		{"a feed", "services/feed", module + "services/ingest/lineclient", ""},
		{"a service opens a store", "services/transform", module + "store/sqlite", "by interface"},
		{"a service and the cache", "services/rollup", module + "store/mem", "by interface"},
		{"push and the cache", "services/push", module + "store/mem", ""},
		{"supervisor and MDP", "supervisor", module + "mdp", "knows nothing of MDP"},
		{"second door to ZeroMQ", "broker", "github.com/go-zeromq/zmq4", "only zsock may"},
		{"second door, below it", "client", "github.com/go-zeromq/zmq4/security/null", "only zsock may"},
		{"the door", "zsock", "github.com/go-zeromq/zmq4", ""},
		{"a module of a similar name", "broker", "github.com/go-zeromq/zmq4x", ""},
		{"flags in an engine", "broker", "github.com/spf13/cobra", "only cmd"},
		{"a socket in mdp", "mdp", "net", "mdp is pure"},
		{"a lock in mdp", "mdp", "sync/atomic", "mdp is pure"},
		{"text in mdp", "mdp", "strings", ""},
		{"a new folder", "misc/helpers", "strings", "on no floor"},
		{"import of a new folder", "broker", module + "misc", "on no floor"},
		{"tests know everything", "test/commands", module + "test/meshproc", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			expect(t, violations([]pkg{{ImportPath: module + c.from, Imports: []string{c.imported}}}), c.want)
		})
	}
	for _, c := range []struct{ name, from, dep, want string }{
		{"heavy in a light program", "cmd/mdbroker", "modernc.org/sqlite/lib", "heavy"},
		{"heavy where it belongs", "cmd/mdservice", "modernc.org/sqlite/lib", ""},
		{"websockets in mdcli", "cmd/mdcli", "github.com/gorilla/websocket", "heavy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			expect(t, violations([]pkg{{ImportPath: module + c.from, Deps: []string{c.dep}}}), c.want)
		})
	}
}

func expect(t *testing.T, got []string, want string) {
	t.Helper()
	switch {
	case want == "" && len(got) > 0:
		t.Errorf("refused: %q", got)
	case want != "" && (len(got) != 1 || !strings.Contains(got[0], want)):
		t.Errorf("got %q, want one violation with %q", got, want)
	}
}

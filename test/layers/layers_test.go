// Package layers holds the house to its floors: imports of non-test files go only
// downwards (docs/ARCHITECTURE.md), ZeroMQ comes in by one door, package mdp is
// pure, and what is heavy stays out of the programs that must be light.
//
// The one invariant: a rule is data in this file, and each has a planted violation
// in TestPlantedViolations that proves it can fail. Start at violations.
package layers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/mdmesh/mdmesh/"

// floors is the house. A package belongs to the longest entry that is its path or a
// folder above it.
var floors = map[string]int{
	"test": 6, "bench": 6, "examples": 6, "deploy": 6,
	"cmd":      5,
	"services": 4, "mdtest": 4,
	"broker": 3, "worker": 3, "client": 3, "supervisor": 3, "store": 3,
	"zsock/memsock": 2,
	"zsock":         1,
	"mdp":           0, "internal": 0,
}

// neighbours are imports permitted all the same, beside those between a package
// and the folders above or below it. Both sides may end in "/*".
var neighbours = []struct{ from, to, why string }{
	{"internal/cli", "internal/*", "the frame of all programs puts the tiny parts together"},
	{"services/push", "store/mem", "the page reads through the in-process cache: a lower floor, and the only service that may"},
	{"services/*", "services/ingest/record", "the line format is the contract between ingest and those that feed or read it"},
	{"services/*", "services/outage", "how an outage is logged is the same for all"},
	{"services/feed", "services/ingest/lineclient", "a feed is a TCP client of ingest, like a foreign program"},
	{"services/hostmetrics", "services/ingest/lineclient", "the same"},
	{"services/ingest/*", "services/ingest/*", "one service, several packages"},
	{"mdtest/*", "mdtest/*", "one test kit, several packages"},
}

// forbidden names imports a package must not have though its floor would permit
// them.
var forbidden = []struct{ from, to, why string }{
	{"supervisor", "mdp", "the supervisor restarts any program and knows nothing of MDP"},
	{"supervisor", "zsock", "the supervisor restarts any program and knows nothing of MDP"},
	{"broker", "internal/*", "flags, files and logs are the command's"},
	{"services/*", "zsock", "services speak by worker and client"},
	{"services/*", "broker", "services find each other by the mesh"},
	{"services/*", "supervisor", "services do not know who restarts them"},
	{"services/*", "store/sqlite", "services take a store by interface; the command opens it"},
	{"services/*", "store/mysql", "services take a store by interface; the command opens it"},
	{"services/*", "store/mem", "services take a store by interface; the command opens it"},
	{"services/*", "internal/*", "flags, files and logs are the command's"},
}

// doors are outside modules that only one folder may import.
var doors = []struct{ module, folder string }{
	{"github.com/go-zeromq/zmq4", "zsock"},
	{"github.com/spf13/cobra", "cmd internal/cli internal/config internal/logging"},
	{"modernc.org/sqlite", "store/sqlite"},
	{"github.com/go-sql-driver/mysql", "store/mysql"},
	{"github.com/gomodule/redigo", "store/redis"},
	{"github.com/gorilla/websocket", "services/push"},
}

// impure is what package mdp must do without.
var impure = []string{"net", "os", "sync", "log", "context", "runtime", "syscall", "io/fs", "math/rand"}

// heavy modules must not be linked into the light programs.
var (
	heavy = []string{"modernc.org/sqlite", "github.com/go-sql-driver/mysql", "github.com/gomodule/redigo",
		"github.com/gorilla/websocket", "github.com/chromedp/chromedp", "github.com/cockroachdb/pebble", "github.com/go-mysql-org/go-mysql"}
	light = []string{"cmd/mdbroker", "cmd/mdworker", "cmd/mdcli", "cmd/mdsupervisor"}
)

// pkg is what `go list -json` says of one package. Imports are those of its
// non-test files; Deps is everything linked with it.
type pkg struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func TestLayers(t *testing.T) {
	t.Parallel()
	pkgs := list(t)
	if len(pkgs) < 20 {
		t.Fatalf("only %d packages listed: is this the whole module?", len(pkgs))
	}
	for _, v := range violations(pkgs) {
		t.Error(v)
	}
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-pgo=off", "-json=ImportPath,Imports,Deps", "./...")
	cmd.Dir, cmd.Stderr = "../..", os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		pkgs = append(pkgs, p)
	}
}

// violations lists every broken rule, one line each.
func violations(pkgs []pkg) (out []string) {
	for _, p := range pkgs {
		from := strings.TrimPrefix(p.ImportPath, module)
		if _, known := floorOf(from); !known {
			out = append(out, from+" is on no floor: add its folder to floors, and to docs/ARCHITECTURE.md")
			continue
		}
		for _, imported := range p.Imports {
			if reason := refuse(from, imported); reason != "" {
				out = append(out, fmt.Sprintf("%s imports %s: %s", from, strings.TrimPrefix(imported, module), reason))
			}
		}
		if slices.Contains(light, from) {
			for _, dep := range p.Deps {
				if slices.ContainsFunc(heavy, func(m string) bool { return within(dep, m) }) {
					out = append(out, fmt.Sprintf("%s links %s, which is heavy: it belongs to mdservice", from, dep))
				}
			}
		}
	}
	return out
}

// refuse says why a package must not have an import, or nothing.
func refuse(from, imported string) string {
	to, own := strings.CutPrefix(imported, module)
	if !own {
		return refuseOutside(from, imported)
	}
	for _, f := range forbidden {
		if match(from, f.from) && match(to, f.to) && !permitted(from, to) {
			return f.why
		}
	}
	below, _ := floorOf(from)
	floor, known := floorOf(to)
	switch {
	case !known:
		return "it is on no floor"
	case floor > below:
		return fmt.Sprintf("floor %d must not know floor %d", below, floor)
	case floor == below && below < 6 && !within(from, to) && !within(to, from) && !permitted(from, to):
		return "neighbours of one floor do not know each other"
	}
	return ""
}

func refuseOutside(from, imported string) string {
	for _, d := range doors {
		folders := strings.Fields(d.folder)
		if within(imported, d.module) && !slices.ContainsFunc(folders, func(f string) bool { return within(from, f) }) {
			return "only " + d.folder + " may"
		}
	}
	if within(from, "mdp") && slices.ContainsFunc(impure, func(name string) bool { return within(imported, name) }) {
		return "mdp is pure: no input, output, clock or goroutine"
	}
	return ""
}

func permitted(from, to string) bool {
	for _, n := range neighbours {
		if match(from, n.from) && match(to, n.to) {
			return true
		}
	}
	return false
}

func floorOf(path string) (floor int, known bool) {
	longest := -1
	for folder, n := range floors {
		if within(path, folder) && len(folder) > longest {
			floor, known, longest = n, true, len(folder)
		}
	}
	return floor, known
}

// within tells whether path is folder or lies below it.
func within(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

// match tells whether path is what a rule names; "x/*" is all below x.
func match(path, rule string) bool {
	if folder, all := strings.CutSuffix(rule, "/*"); all {
		return strings.HasPrefix(path, folder+"/")
	}
	return path == rule
}

package faults

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/test/faults/actor"
	"github.com/mdmesh/mdmesh/test/faults/rig"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// Row 17. Processes whose clocks are hours apart work together: only what is left of
// a deadline travels, so nothing expires early and nothing lives longer.
func TestClocksApart(t *testing.T) {
	t.Parallel()
	elsewhen := func(cmd *exec.Cmd, offset string) *exec.Cmd {
		cmd.Args = append([]string{"unshare", "--time", "--monotonic", offset, "--boottime", offset, cmd.Path}, cmd.Args[1:]...)
		cmd.Path = "/usr/bin/unshare"
		return cmd
	}
	if out, err := elsewhen(exec.Command("/bin/true"), "3600").CombinedOutput(); err != nil {
		text := "needs root and time namespaces: " + err.Error() + " " + string(out)
		if os.Getenv("CI") == "true" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	p := meshproc.Start(t, elsewhen(meshproc.Command(t, "mdbroker", "--listen", "tcp://127.0.0.1:0", "--publish", "", "--subscribe", "", "--http", "127.0.0.1:0"), "3600"))
	b := &rig.Broker{Process: p, Requests: p.Endpoint(t, "requests"), HTTP: p.Endpoint(t, "http")}
	service := rig.Fresh()
	w := meshproc.Start(t, elsewhen(rig.ActorCommand(t, "worker", b.Requests, service, rig.Set(actor.Concurrency, 2)), "7200"))
	w.Line(t, "ready")
	pair := &rig.Pair{Broker: b, Service: service, Client: rig.Client(t, b.Requests)}
	if o := rig.Do(t.Context(), pair.Client, pair.Call("echo")); o.Err != nil {
		t.Error(o.Err)
	}
	const deadline = 3500 * time.Millisecond // longer than liveness
	call := pair.Call("hold")
	call.Timeout = deadline
	begun := time.Now()
	o := rig.Do(t.Context(), pair.Client, call)
	took := time.Since(begun)
	var e *mdp.Error
	if !errors.As(o.Err, &e) || e.Status != mdp.Expired || took < deadline*8/10 {
		t.Errorf("after %v: %v; want expired after %v", took, o.Err, deadline)
	}
	w.Line(t, "cancelled")
	bounded(t, b, 2, 1)
	if n := b.State(t).Counters["sessions_expired"]; n != 0 {
		t.Errorf("%d sessions expired", n)
	}
}

// wallClock are the methods of time.Time, and functions, that see the wall clock; what
// is left compares by the monotonic one.
var wallClock = []string{"Unix", "UnixMilli", "UnixMicro", "UnixNano", "UTC", "Local", "AddDate", "Date", "Clock"}

// Row 17. The wall clock cannot be set back for one process, so that it is not looked
// at is shown by reading: nothing that decides about time uses what would see it jump.
func TestWallClockDecidesNothing(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, dir := range []string{"mdp", "zsock", "broker", "worker", "client"} {
		err := filepath.WalkDir(filepath.Join("../..", dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			seen++
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				name, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || !slices.Contains(wallClock, name.Sel.Name) {
					return true
				}
				if x, ok := name.X.(*ast.Ident); ok && x.Name == "time" && name.Sel.Name == "Unix" && constant(call.Args) {
					return true // a time long ago, to wake who waits on a connection
				}
				t.Errorf("%s calls %s: does it decide about time?", path, name.Sel.Name)
				return true
			})
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if seen < 40 {
		t.Errorf("only %d files were read", seen)
	}
}

func constant(args []ast.Expr) bool {
	for _, a := range args {
		if _, ok := a.(*ast.BasicLit); !ok {
			return false
		}
	}
	return true
}

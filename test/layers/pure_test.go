package layers

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// clocks are the functions of package time that look at one.
var clocks = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}

// TestProtocolIsPure: package mdp may name durations, but never looks at a clock or
// starts a goroutine, so that everything in it can be tested and fuzzed as it is.
func TestProtocolIsPure(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../mdp/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files of mdp: %v", err)
	}
	set := token.NewFileSet()
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range unclean(set, file) {
			t.Error(v)
		}
	}
}

func TestPlantedClock(t *testing.T) {
	t.Parallel()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, "planted.go", `package mdp
import "time"
var fine = time.Second
func f() { go g(); _ = time.Now() }`, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	if got := unclean(set, file); len(got) != 2 {
		t.Errorf("got %q, want the goroutine and the clock", got)
	}
}

// unclean lists the places where a file starts goroutines or looks at a clock.
func unclean(set *token.FileSet, file *ast.File) (out []string) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			out = append(out, fmt.Sprintf("%v: starts a goroutine", set.Position(n.Pos())))
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clocks, n.Sel.Name) {
				out = append(out, fmt.Sprintf("%v: looks at a clock (time.%s)", set.Position(n.Pos()), n.Sel.Name))
			}
		}
		return true
	})
	return out
}

// Pgo makes the profiles that mdbroker and bench-peers are built with out of those that
// their processes have left in a folder (`make profile`). The compiler then inlines what
// runs often; see docs/PERFORMANCE.md.
//
// The one invariant: what it writes says nothing of the machine, its folders or the time.
// Start at merge.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/pprof/profile"
)

// outputs are the files that are written, below the root of the repository, and of which
// program's processes they come. All roles of all systems are in bench-peers' own, so that
// none is built better than another.
var outputs = []struct{ path, program string }{
	{"cmd/mdbroker/default.pgo", "mdbroker"},
	{"bench/peers/default.pgo", "bench-peers"},
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: pgo FOLDER ROOT: merge FOLDER/*.pprof into the repository at ROOT")
		os.Exit(64)
	}
	for _, out := range outputs {
		if err := write(os.Args[1], out.program, filepath.Join(os.Args[2], out.path)); err != nil {
			fmt.Fprintln(os.Stderr, "pgo:", err)
			os.Exit(1)
		}
	}
}

// write merges what the processes of a program have left in dir into the file path.
func write(dir, program, path string) error {
	files, err := filepath.Glob(filepath.Join(dir, program+"-*.pprof"))
	if err != nil {
		return err
	}
	p, err := merge(files)
	if err != nil {
		return fmt.Errorf("profiles of %s in %s: %w", program, dir, err)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := p.Write(f); err != nil {
		_ = f.Close()
		return fmt.Errorf("%s: %w", path, err)
	}
	return f.Close()
}

// merge is one profile of all in files, with nothing in it but functions, lines and how
// often each was seen.
func merge(files []string) (*profile.Profile, error) {
	var all []*profile.Profile
	for _, name := range files {
		p, err := parse(name)
		if err != nil {
			return nil, err
		}
		if len(p.Sample) > 0 { // a process that only waited has none
			all = append(all, p)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("none has a sample")
	}
	p, err := profile.Merge(all)
	if err != nil {
		return nil, err
	}
	p.TimeNanos, p.DurationNanos, p.Comments, p.DocURL = 0, 0, nil, ""
	p.Mapping = nil
	for _, l := range p.Location {
		l.Mapping, l.Address = nil, 0
	}
	for _, f := range p.Function {
		f.Filename = ""
	}
	return p.Compact(), p.CheckValid()
}

func parse(name string) (*profile.Profile, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p, err := profile.Parse(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

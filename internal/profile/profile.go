// Package profile writes the CPU profile of a whole process, for `make profile` and for
// whoever asks where the time goes.
//
// The one invariant: without MD_CPUPROFILE in the environment it does nothing. Start at
// Start.
package profile

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strconv"
)

// Variable names the folder that profiles are written to, one file for each process.
const Variable = "MD_CPUPROFILE"

// Start begins the profile of this process, if one is wanted: DIR/program-PID.pprof, in
// the format of runtime/pprof. stop, which is never nil, ends it; a process that ends
// before that leaves an empty file.
func Start(program string) (stop func() error, err error) {
	none := func() error { return nil }
	dir := os.Getenv(Variable)
	if dir == "" {
		return none, nil
	}
	f, err := os.Create(filepath.Join(dir, program+"-"+strconv.Itoa(os.Getpid())+".pprof"))
	if err != nil {
		return none, fmt.Errorf("%s: %w", Variable, err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		_ = f.Close()
		return none, fmt.Errorf("%s: %w", Variable, err)
	}
	return func() error {
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			return fmt.Errorf("%s: %w", Variable, err)
		}
		return nil
	}, nil
}

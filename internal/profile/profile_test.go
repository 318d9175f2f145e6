package profile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/mdmesh/mdmesh/internal/profile"
)

func TestStart(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(profile.Variable, dir)
	stop, err := profile.Start("mdtest")
	if err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "mdtest-*.pprof"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, error %v; want one", files, err)
	}
	if head, err := os.ReadFile(files[0]); err != nil || len(head) < 2 || head[0] != 0x1f || head[1] != 0x8b {
		t.Errorf("%q, error %v; want gzip", head, err)
	}
}

func TestNotWanted(t *testing.T) {
	t.Setenv(profile.Variable, "")
	stop, err := profile.Start("mdtest")
	if err != nil || stop() != nil {
		t.Errorf("error %v, want none", err)
	}
}

func TestNoFolder(t *testing.T) {
	t.Setenv(profile.Variable, filepath.Join(t.TempDir(), "missing"))
	stop, err := profile.Start("mdtest")
	if !errors.Is(err, fs.ErrNotExist) || stop() != nil {
		t.Errorf("error %v, want that there is no such folder", err)
	}
}

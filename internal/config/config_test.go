package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type childSpec struct {
	Name     string            `toml:"name"`
	Numprocs int               `toml:"numprocs"`
	Timeout  Duration          `toml:"timeout"`
	Size     Bytes             `toml:"size"`
	Env      map[string]string `toml:"environment"`
}

type meshSpec struct {
	Child []childSpec `toml:"child"`
}

var errNumprocs = errors.New("numprocs must be at least 1")

func (m *meshSpec) Validate() error {
	for i, c := range m.Child {
		if c.Numprocs < 0 {
			return At(errNumprocs, "child", i, "numprocs")
		}
		if c.Name == "" {
			return At(errors.New("needs a name"), "child", i, "name")
		}
		for k := range c.Env {
			if strings.Contains(k, "=") {
				return At(errors.New("bad variable"), "child", i, "environment", k)
			}
		}
	}
	return nil
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mesh.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFile(t *testing.T) {
	t.Parallel()
	spec := meshSpec{}
	path := write(t, "[[child]]\nname = \"echo\"\ntimeout = \"1m30s\"\nsize = \"64MiB\"\n[child.environment]\nA = \"b\"\n[[child]]\nname = 'two'\nsize = 10\n")
	if err := File(path, &spec); err != nil {
		t.Fatal(err)
	}
	first := spec.Child[0]
	if len(spec.Child) != 2 || first.Name != "echo" || first.Timeout.String() != "1m30s" || first.Size != 64<<20 ||
		first.Env["A"] != "b" || spec.Child[1].Size != 10 {
		t.Errorf("decoded %+v", spec)
	}
}

func TestFileErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text string
		want       string // after the path
	}{
		{"unknown key", "[[child]]\nname = \"echo\"\nnumproc = 4\n", ":3:1: unknown key \"child.numproc\"\n  numproc = 4\n  ^"},
		{"two unknown keys", "a = 1\nb = 2\n", ":1:1: unknown key \"a\" (and 1 more)\n  a = 1\n  ^"},
		{"unknown table", "[child.deep]\nx = 1\n", ":1:"},
		{"wrong type", "[[child]]\nname = \"echo\"\n\tnumprocs = \"four\"\n", ":3:13: "},
		{"syntax", "[[child]]\nname = \"echo\n", ":2:"},
		{"bad duration", "[[child]]\nname = \"a\"\ntimeout = \"soon\"\n", ":3:11: \"soon\" is no duration; write a number with a unit, such as 500ms, 10s or 1m30s\n  timeout = \"soon\"\n            ^"},
		{"bad size", "[[child]]\nsize = \"64 apples\"\n", ":2:8: \"64 apples\" is no size"},
		{"doubled key", "[[child]]\nname = \"a\"\nname = \"b\"\n", ":3:1: "},
		{"validator, key written", "[[child]]\nname = \"a\"\n[[child]]\nname = \"b\"\nnumprocs = -1\n", ":5:12: numprocs must be at least 1\n  numprocs = -1\n             ^"},
		{"validator, key left out", "[[child]]\nname = \"a\"\n\n[[child]]\nnumprocs = 2\n", ":4:3: needs a name\n  [[child]]\n    ^"},
		{"validator, sub-table", "[[child]]\nname = \"a\"\n[child.environment]\n\"x=y\" = \"1\"\n", ":4:9: bad variable"},
		{"not text", "\x00\x01\x02", ":1:1: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := write(t, c.text)
			err := File(path, &meshSpec{})
			if err == nil {
				t.Fatal("no error")
			}
			var e *Error
			if !errors.As(err, &e) || e.ExitCode() != 78 {
				t.Errorf("error %T does not end the program with 78", err)
			}
			if got := err.Error(); !strings.HasPrefix(got, path+c.want) {
				t.Errorf("error\n%s\nwant prefix\n%s", got, path+c.want)
			}
		})
	}
}

func TestFileKeepsCause(t *testing.T) {
	t.Parallel()
	err := File(write(t, "[[child]]\nnumprocs = -1\n"), &meshSpec{})
	if !errors.Is(err, errNumprocs) {
		t.Errorf("%v does not wrap the validator's error", err)
	}
	if err := File(filepath.Join(t.TempDir(), "none.toml"), &meshSpec{}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("missing file: %v", err)
	}
	if err := File(t.TempDir(), &meshSpec{}); err == nil || !strings.Contains(err.Error(), "is a folder") {
		t.Errorf("folder: %v", err)
	}
}

func TestCaretBelowTabs(t *testing.T) {
	t.Parallel()
	err := File(write(t, "[[child]]\n\tnumprocs = -1\n"), &meshSpec{})
	if want := "\n  \tnumprocs = -1\n  \t           ^"; err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got %q, want suffix %q", err, want)
	}
}

// FuzzFile: whatever a file holds, decoding neither panics nor fails without
// saying where.
func FuzzFile(f *testing.F) {
	for _, seed := range []string{"", "a = 1", "[[child]]\nname=\"x\"\nnumprocs=-1", "[child]\n[[child]]", "[a.b]\n[[a.b.c]]\n[a.b.c.d]\nx=[1,[2]]",
		"\"\"=1", "a.b.c = {d = 1}", "x = 2020-01-01", "[[child]]\n[child.environment]\n\"=\"=\"\""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		entries(text)
		if err := decode("f", text, &meshSpec{}); err != nil && !strings.HasPrefix(err.Error(), "f:") {
			t.Errorf("error without place: %v", err)
		}
	})
}

// TestPlain: a wrong type is told in words of the file.
func TestPlain(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"[[child]]\nnumprocs = \"3\"\n":      "this is a string; write a whole number",
		"[[child]]\ncommand = \"sleep 1\"\n": `this is a string; write a list such as ["a", "b"]`,
		"[[child]]\nwait = 10\n":             `"10" is no duration`,
	} {
		var f struct {
			Child []struct {
				Numprocs int      `toml:"numprocs"`
				Command  []string `toml:"command"`
				Wait     Duration `toml:"wait"`
			} `toml:"child"`
		}
		if err := File(write(t, text), &f); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

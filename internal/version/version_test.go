package version

import (
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestFormat(t *testing.T) {
	t.Parallel()
	const revision = "0123456789abcdef0123456789abcdef01234567"
	for _, c := range []struct {
		name string
		info debug.BuildInfo
		want string
	}{
		{"no facts", debug.BuildInfo{GoVersion: "go1.26"}, "devel go1.26"},
		{"go build", debug.BuildInfo{GoVersion: "go1.26", Main: debug.Module{Version: "(devel)"}}, "devel go1.26"},
		{"release", debug.BuildInfo{GoVersion: "go1.26", Main: debug.Module{Version: "v1.2.3"},
			Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: "false"}}},
			"v1.2.3 commit 0123456789ab go1.26"},
		{"changed tree", debug.BuildInfo{GoVersion: "go1.26", Main: debug.Module{Version: "v1.2.3"},
			Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: "true"}}},
			"v1.2.3 commit 0123456789ab+ go1.26"},
		{"short revision", debug.BuildInfo{GoVersion: "go1.26",
			Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "0123"}}}, "devel commit 0123 go1.26"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := format(&c.info); got != c.want {
				t.Errorf("format = %q, want %q", got, c.want)
			}
		})
	}
}

func TestStringNamesGo(t *testing.T) {
	t.Parallel()
	if s := String(); !strings.HasSuffix(s, runtime.Version()) {
		t.Errorf("String() = %q does not end with %q", s, runtime.Version())
	}
}

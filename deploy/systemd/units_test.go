// Package systemd_test checks the unit files beside it: with systemd's own tools,
// and for the rules of this house that those do not know. It holds no code.
package systemd_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var units = []string{"mdbroker.service", "mdsupervisor.service", "mdworker@.service"}

func TestEveryUnitIsChecked(t *testing.T) {
	t.Parallel()
	found, err := filepath.Glob("*.service")
	if err != nil {
		t.Fatal(err)
	}
	if slices.Sort(found); !slices.Equal(found, units) {
		t.Errorf("units %q, checked %q", found, units)
	}
}

// analyzer returns systemd-analyze; where it is missing the test is skipped, but
// never on CI.
func analyzer(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("systemd-analyze")
	if err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("systemd-analyze is missing; install the package systemd")
	}
	t.Skip("systemd-analyze is missing; install the package systemd to check the units")
	return ""
}

var execStart = regexp.MustCompile(`(?m)^ExecStart=/usr/local/bin/\w+`)

// verify runs systemd-analyze verify over a copy of a unit whose program exists,
// and returns all that was said: a unit is good when that is nothing. (Unknown
// keys are only warned of, with exit code 0.)
func verify(t *testing.T, name, text string) string {
	t.Helper()
	if !execStart.MatchString(text) {
		t.Fatalf("%s starts nothing in /usr/local/bin", name)
	}
	path := filepath.Join(t.TempDir(), name)
	text = execStart.ReplaceAllLiteralString(text, "ExecStart=/bin/true")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(analyzer(t), "verify", "--man=no", path).CombinedOutput()
	if err != nil {
		return string(out) + err.Error()
	}
	return string(out)
}

func TestVerify(t *testing.T) {
	t.Parallel()
	for _, name := range units {
		if said := verify(t, name, read(t, name)); said != "" {
			t.Errorf("%s:\n%s", name, said)
		}
	}
}

// TestVerifySees shows that a mistake does not pass in silence.
func TestVerifySees(t *testing.T) {
	t.Parallel()
	good := read(t, "mdbroker.service")
	for _, c := range []struct{ old, new string }{
		{"Restart=always", "Restart=allways"},
		{"Restart=always", "Restrat=always"},
		{"[Service]", "[Services]"},
		{"SystemCallFilter=@system-service", "SystemCallFilter=@sytem-service"},
		{"SystemCallFilter=~@privileged", "SystemCallFilter=~@privileged ~@resources"},
	} {
		if verify(t, "mdbroker.service", strings.Replace(good, c.old, c.new, 1)) == "" {
			t.Errorf("%q instead of %q was not noticed", c.new, c.old)
		}
	}
}

// TestExposure holds the units to what systemd-analyze security says of them, in
// tenths (0 = closed, 100 = open). The supervisor and the workers run programs we
// do not know, and leave them more.
func TestExposure(t *testing.T) {
	t.Parallel()
	for name, most := range map[string]string{"mdbroker.service": "15", "mdworker@.service": "20", "mdsupervisor.service": "30"} {
		out, err := exec.Command(analyzer(t), "security", "--offline=true", "--no-pager", "--threshold="+most, name).CombinedOutput()
		if err != nil {
			t.Errorf("%s is more exposed than %s: %v\n%s", name, most, err, out)
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// settings returns the values of a key, in order.
func settings(text, key string) []string {
	var values []string
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			values = append(values, value)
		}
	}
	return values
}

// TestUsers: mdmesh.conf makes whoever a unit runs as.
func TestUsers(t *testing.T) {
	t.Parallel()
	analyzer(t) // of the same package
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o700); err != nil {
		t.Fatal(err)
	}
	conf, err := filepath.Abs("mdmesh.conf")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-sysusers", "--root="+root, conf).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	made := read(t, filepath.Join(root, "etc/passwd"))
	for _, name := range units {
		text := read(t, name)
		for _, user := range append(settings(text, "User"), settings(text, "Group")...) {
			if !strings.Contains(made, user+":") {
				t.Errorf("%s runs as %s, made is %q", name, user, made)
			}
		}
	}
}

// TestAWorkerIsToldWhatToOffer: an instance without its file must not join the mesh
// with answers of its own.
func TestAWorkerIsToldWhatToOffer(t *testing.T) {
	t.Parallel()
	text := read(t, "mdworker@.service")
	if got := settings(text, "Environment"); len(got) > 0 {
		t.Errorf("Environment is %q, want none", got)
	}
	if got := settings(text, "ExecStart"); !slices.Equal(got, []string{"/usr/local/bin/mdworker $MDWORKER"}) {
		t.Errorf("ExecStart is %q", got)
	}
}

func TestHouseRules(t *testing.T) {
	t.Parallel()
	for _, name := range units {
		text := read(t, name)
		prevent := "64 77 78" // usage, denied, configuration
		if len(settings(text, "User")) > 0 {
			prevent += " 217" // no such user
		}
		for key, want := range map[string]string{
			"Restart":                  "always",
			"RestartPreventExitStatus": prevent,
			"NoNewPrivileges":          "yes",
			"ProtectSystem":            "strict",
			"SystemCallErrorNumber":    "EPERM",
			"CapabilityBoundingSet":    "",
			"StartLimitIntervalSec":    "0",
		} {
			if got := settings(text, key); !slices.Equal(got, []string{want}) {
				t.Errorf("%s: %s is %q, want %q", name, key, got, want)
			}
		}
		for _, filter := range settings(text, "SystemCallFilter") {
			if strings.ContainsAny(strings.TrimSpace(filter), " ") {
				t.Errorf("%s: SystemCallFilter=%s names more than one group; only the first would count", name, filter)
			}
		}
	}
	for _, name := range []string{"mdbroker.service", "mdsupervisor.service"} { // they tell it from a live loop
		if got := settings(read(t, name), "WatchdogSec"); !slices.Equal(got, []string{"30s"}) {
			t.Errorf("%s: WatchdogSec is %q, want 30s", name, got)
		}
	}
	for name, want := range map[string][2]string{
		"mdbroker.service":     {"notify", ""},
		"mdsupervisor.service": {"notify", "process"},
		"mdworker@.service":    {"exec", "mixed"},
	} {
		text := read(t, name)
		if got := settings(text, "Type"); !slices.Equal(got, []string{want[0]}) {
			t.Errorf("%s: Type is %q, want %q", name, got, want[0])
		}
		if got := strings.Join(settings(text, "KillMode"), " "); got != want[1] {
			t.Errorf("%s: KillMode is %q, want %q", name, got, want[1])
		}
	}
}

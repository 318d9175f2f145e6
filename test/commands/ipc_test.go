package commands

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mdmesh/mdmesh/test/meshproc"
)

// asOther connects to a socket file as another user, who is in one group only, and
// tells how that went.
func asOther(t *testing.T, path string, gid uint32) string {
	t.Helper()
	cmd := exec.Command(python, "-c", "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])", path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: gid}}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if err == nil {
		return "connected"
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

// TestSocketFileOfAGroup: who is in the group that the endpoint names may connect,
// others may not.
func TestSocketFileOfAGroup(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "mdipc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	own, shared := filepath.Join(dir, "own"), filepath.Join(dir, "shared")
	group := os.Getgid()
	if os.Getuid() == 0 {
		group = 50_001 // that nobody is in, so that only the credential below is
	}
	p := meshproc.Start(t, meshproc.Command(t, "mdbroker", "--http", "", "--publish", "", "--subscribe", "",
		"--listen", "ipc://"+own, "--listen", fmt.Sprintf("ipc://%s,group=%d", shared, group)))
	p.Says(t, "listening role=requests endpoint=ipc://"+own)
	if rest := p.Says(t, "endpoint=ipc://"+shared); rest != "" {
		t.Errorf("the endpoint is shown with %q behind it", rest)
	}
	want(t, &broker{requests: "ipc://" + shared}, "[]\n", "-o", "json", "services")
	if os.Getuid() == 0 { // else there is no other user to be
		for _, c := range []struct {
			path string
			gid  uint32
			want string
		}{
			{shared, 50_001, "connected"},
			{shared, 50_002, "PermissionError: [Errno 13] Permission denied"},
			{own, 50_001, "PermissionError: [Errno 13] Permission denied"},
		} {
			if got := asOther(t, c.path, c.gid); got != c.want {
				t.Errorf("%s as group %d: %s, want %s", filepath.Base(c.path), c.gid, got, c.want)
			}
		}
	}
	r := meshproc.Run(t, meshproc.Command(t, "mdbroker", "--http", "", "--publish", "", "--subscribe", "", "--listen", "ipc://"+filepath.Join(dir, "x")+",group=nobody-at-all"))
	oneLine(t, r, 78, "unknown group nobody-at-all")
}

package zsock

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestIPCEndpoints(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]string{
		"ipc://":                               "ipc:///PATH",
		"ipc://@name":                          "abstract",
		"ipc:///" + strings.Repeat("x", 200):   "shorter",
		"ipc:///tmp/a\x00b":                    "00",
		"ipc:///no/such/directory/at/all.sock": "no such file",
		"udp://127.0.0.1:1":                    "ipc:///PATH",
	} {
		if _, err := Listen(endpoint, Config{Type: Router}, newRecorder()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("listen on %.30q: %v, want %q", endpoint, err, want)
		}
		if _, err := Dial(t.Context(), endpoint, Config{Type: Dealer}, newRecorder()); err == nil {
			t.Errorf("dial %.30q: no error", endpoint)
		}
	}
}

// A socket file belongs to who listens on it; one that a killed process left is
// replaced, and everything else is left alone.
func TestIPCFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	bind := func() (*Listener, error) { return Listen("ipc://"+path, Config{Type: Router}, newRecorder()) }
	l, err := bind()
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || info.Mode().Type() != fs.ModeSocket {
		t.Errorf("the file is %v, %v", info, err)
	}
	if _, err := bind(); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second listener got %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the refused listener took the file away: %v", err)
	}
	l.StopAccepting()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the end: %v", err)
	}

	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	_ = stale.Close()
	l, err = bind()
	if err != nil {
		t.Fatalf("over a stale file: %v", err)
	}
	l.StopAccepting()

	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := bind(); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("over a file: %v", err)
	}
	if text, err := os.ReadFile(path); string(text) != "precious" {
		t.Errorf("the file holds %q, %v", text, err)
	}
}

// Somebody may keep the directory locked: that is said, not waited for.
func TestIPCLockedDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	endpoint := "ipc://" + filepath.Join(dir, "s")
	if _, err := Listen(endpoint, Config{Type: Router}, newRecorder()); !errors.Is(err, syscall.EWOULDBLOCK) || !strings.Contains(err.Error(), dir) {
		t.Errorf("while it is locked: %v", err)
	}
	bound := make(chan error)
	go func() {
		l, err := Listen(endpoint, Config{Type: Router}, newRecorder())
		if err == nil {
			l.StopAccepting()
		}
		bound <- err
	}()
	_ = d.Close()
	if err := receive(t, bound); err != nil {
		t.Errorf("once it is not: %v", err)
	}
}

// With a group its members may connect, too; nobody else gets a right in between, and
// the endpoint that others are told is the plain one.
func TestIPCGroup(t *testing.T) {
	t.Parallel()
	gid := os.Getgid()
	names := []string{strconv.Itoa(gid)}
	if g, err := user.LookupGroupId(names[0]); err == nil {
		names = append(names, g.Name)
	}
	for _, name := range names {
		path := filepath.Join(t.TempDir(), "s")
		l, err := Listen("ipc://"+path+",group="+name, Config{Type: Router}, newRecorder())
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o660 || int(info.Sys().(*syscall.Stat_t).Gid) != gid {
			t.Errorf("group %s: the file is %v, %v", name, info, err)
		}
		if l.Endpoint() != "ipc://"+path {
			t.Errorf("endpoint %s", l.Endpoint())
		}
		nc, err := dialIPC(t.Context(), "ipc://"+path+",group="+name)
		if err != nil {
			t.Errorf("dialled as it was named: %v", err)
		} else {
			_ = nc.Close()
		}
		l.StopAccepting()
	}
	path := filepath.Join(t.TempDir(), "s")
	var unknown user.UnknownGroupError
	if _, err := Listen("ipc://"+path+",group=no such group", Config{Type: Router}, newRecorder()); !errors.As(err, &unknown) {
		t.Errorf("an unknown group: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its file: %v", err)
	}
	if os.Getuid() != 0 {
		if _, err := Listen("ipc://"+path+",group=0", Config{Type: Router}, newRecorder()); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("a group of others: %v", err)
		}
	}
}

func TestIPCRemoteName(t *testing.T) {
	t.Parallel()
	tr := transport{"ipc", nil, "ipc://" + filepath.Join(t.TempDir(), "s"), true}
	h := newRecorder()
	l := listen(t, tr, Config{}, h)
	c := dial(t, tr, l, Config{}, newRecorder())
	if got := receive(t, h.opened).Peer().Remote; got != tr.endpoint {
		t.Errorf("accepted from %q", got)
	}
	if got := c.Peer().Remote; got != tr.endpoint {
		t.Errorf("connected to %q", got)
	}
}

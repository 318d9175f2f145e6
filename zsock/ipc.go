//go:build unix

package zsock

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// ipcGroup comes behind the path, then the name or number of a group.
	ipcGroup = ",group="
	// maxIPCPath is what fits into a socket address, the final zero octet left out.
	maxIPCPath = len(unix.RawSockaddrUnix{}.Path) - 1
	// staleTimeout bounds the question whether anybody listens on a socket file.
	staleTimeout = time.Second
	// lockTries, lockPause apart, bound the wait for the lock of a directory: a second.
	lockTries = 100
	lockPause = 10 * time.Millisecond
)

// ipcPath cuts the scheme off, and the group, which means nothing to who dials. Names in the abstract namespace (@NAME) are refused:
// they have no permissions, so that every user of the machine could connect.
func ipcPath(endpoint string) (string, error) {
	path, _, _ := strings.Cut(strings.TrimPrefix(endpoint, ipcScheme), ipcGroup)
	switch {
	case path == "":
		return "", fmt.Errorf("endpoint %q: use ipc:///PATH", endpoint)
	case path[0] == '@':
		return "", fmt.Errorf("endpoint %q: abstract names are open to every user of this machine: use ipc:///PATH", endpoint)
	case strings.IndexByte(path, 0) >= 0 || len(path) > maxIPCPath:
		return "", fmt.Errorf("endpoint %q: a path has at most %d octets, none of them 00: use a shorter one", endpoint, maxIPCPath)
	}
	return path, nil
}

// listenIPC binds a socket file that only its owner may connect to (mode 0600), or,
// with ipc:///PATH,group=NAME, also the members of that group (0660). As in libzmq
// ipc://* takes a new name, in the directory for temporary files. Closing the
// listener removes the file.
func listenIPC(endpoint string) (net.Listener, error) {
	path, err := ipcPath(endpoint)
	if err != nil {
		return nil, err
	}
	gid, err := groupOf(endpoint)
	if err != nil {
		return nil, err
	}
	if path == "*" {
		path = filepath.Join(os.TempDir(), "mdmesh-"+rand.Text()+".sock")
	}
	unlock, err := lockDirectory(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := removeStale(path); err != nil {
		return nil, &net.OpError{Op: "listen", Net: "unix", Addr: &net.UnixAddr{Name: path, Net: "unix"}, Err: err}
	}
	// The file takes the mode that the descriptor has when it is bound: nobody else
	// gets a chance before it is narrowed. Elsewhere it is narrowed right after.
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { _ = unix.Fchmod(int(fd), 0o600) })
	}}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := admit(path, gid); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// nobodyElse is the group of a socket file that is its owner's alone.
const nobodyElse = -1

// groupOf is the number of the group that an endpoint names.
func groupOf(endpoint string) (gid int, err error) {
	_, name, found := strings.Cut(endpoint, ipcGroup)
	if !found {
		return nobodyElse, nil
	}
	if gid, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(gid), nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, fmt.Errorf("endpoint %q: %w", endpoint, err)
	}
	return strconv.Atoi(g.Gid)
}

// admit gives a socket file to its group, first the file and then the right: no other
// group has it in between.
func admit(path string, gid int) error {
	if gid == nobodyElse {
		return os.Chmod(path, 0o600)
	}
	if err := os.Chown(path, -1, gid); err != nil {
		return fmt.Errorf("%w: whoever gives a file to a group must be in it", err)
	}
	return os.Chmod(path, 0o660)
}

// lockDirectory keeps two processes from removing each other's socket file. Who has the
// lock has it for moments; but any user may take, and keep, that of a directory such as
// /tmp.
func lockDirectory(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for range lockTries {
		if err = unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EINTR && err != unix.EWOULDBLOCK {
			break
		}
		time.Sleep(lockPause)
	}
	if err == nil {
		return func() { _ = d.Close() }, nil
	}
	_ = d.Close()
	if err == unix.EWOULDBLOCK {
		err = fmt.Errorf("%w: another process keeps the directory locked: use a directory of your own", err)
	}
	return nil, &fs.PathError{Op: "flock", Path: dir, Err: err}
}

// removeStale removes a socket file that nobody listens on any more, as a process
// that was killed leaves it behind. Anything else in that place stays.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%w: there is a file that is no socket: choose another path or move it away", syscall.EADDRINUSE)
	}
	nc, err := net.DialTimeout("unix", path, staleTimeout)
	if err == nil {
		_ = nc.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return syscall.EADDRINUSE // somebody listens, or may
	}
	return os.Remove(path)
}

func dialIPC(ctx context.Context, endpoint string) (net.Conn, error) {
	path, err := ipcPath(endpoint)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	return d.DialContext(ctx, "unix", path)
}

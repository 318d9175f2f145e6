//go:build !linux

package supervisor

import (
	"errors"
	"net"
	"os"
)

var errNotLinux = errors.New("it needs Linux: pidfds, /proc and credentials of local sockets")

func supported() error { return errNotLinux }

// None of the following is called, as Run ends before.

func openPidfd(int) (*os.File, error)                { return nil, errNotLinux }
func peerOf(*net.UnixConn) (uid, pid int, err error) { return 0, 0, errNotLinux }
func nameSenders(*net.UnixConn) error                { return errNotLinux }

var senderSize = 0

func senderOf([]byte) (pid int) { return 0 }

//go:build unix && !linux

package zsock

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// setUserTimeout does nothing: TCP_USER_TIMEOUT is Linux's; keepalive remains.
func setUserTimeout(*net.TCPConn, time.Duration) {}

// unacknowledged is not known here.
func unacknowledged(int) int { return 0 }

// writeSegments writes what the descriptor takes of the first segment without
// blocking.
func writeSegments(fd int, segments [][]byte) (n int, err error) {
	for {
		if n, err = unix.Write(fd, segments[0]); err != unix.EINTR {
			return n, err
		}
	}
}

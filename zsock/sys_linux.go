package zsock

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

func setUserTimeout(t *net.TCPConn, d time.Duration) {
	raw, err := t.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
}

// unacknowledged is how many octets the kernel keeps in case it must send them again.
func unacknowledged(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
}

// maxSegments bounds one writev; the kernel takes at most 1,024.
const maxSegments = 64

// writeSegments writes what the descriptor takes without blocking.
func writeSegments(fd int, segments [][]byte) (n int, err error) {
	for {
		if len(segments) == 1 {
			n, err = unix.Write(fd, segments[0])
		} else {
			n, err = unix.Writev(fd, segments[:min(len(segments), maxSegments)])
		}
		if err != unix.EINTR {
			return n, err
		}
	}
}

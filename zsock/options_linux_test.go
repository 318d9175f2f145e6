package zsock

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLinkOptions reads back what every TCP link must have, at both ends.
func TestLinkOptions(t *testing.T) {
	t.Parallel()
	tr := transports()[0]
	h := newRecorder()
	l := listen(t, tr, Config{}, h)
	dialled := dial(t, tr, l, Config{}, newRecorder())
	for name, c := range map[string]*Conn{"dialled": dialled, "accepted": receive(t, h.opened)} {
		raw, err := c.nc.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range []struct {
			name                string
			level, option, want int
		}{
			{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
			{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 5},
			{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 1},
			{"TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3},
			{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 12_000},
		} {
			_ = raw.Control(func(fd uintptr) {
				if got, err := unix.GetsockoptInt(int(fd), o.level, o.option); got != o.want || err != nil {
					t.Errorf("%s: %s is %d, %v, want %d", name, o.name, got, err, o.want)
				}
			})
		}
	}
}

// What the kernel still holds for a peer that does not read is not sent, and what
// the peer's kernel has taken is, read or not.
func TestUnsent(t *testing.T) {
	t.Parallel()
	tr := transports()[0]
	h := newRecorder()
	p := open(t, tr, listen(t, tr, Config{}, h), "DEALER", 0)
	c := receive(t, h.opened)
	waitFor(t, func() bool { return c.Unsent() == 0 })
	send(t, c, "small")
	waitFor(t, func() bool { return c.Unsent() == 0 }) // nobody has read it
	const size = 32 << 20
	send(t, c, string(make([]byte, size)))
	waitFor(t, func() bool {
		_, queued := c.Queued()
		return queued > 0 && queued < size && c.Unsent() > queued
	})
	p.take(2 + 5 + 9 + size)
	waitFor(t, func() bool { return c.Unsent() == 0 })
}

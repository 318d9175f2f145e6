//go:build !linux

package zsock

// sock is for systems with epoll: here every connection has a goroutine of its own.
type sock struct{ p noPoller }

type noPoller struct{}

func (noPoller) call(*Conn) {}

func (*sock) await(*Conn)         {}
func (*sock) release()            {}
func (*sock) stopTalking(*Conn)   {}
func (*sock) unacknowledged() int { return 0 }
func (*sock) turns() uint32       { return 0 }

// Errand has the reader run do, where one reader serves many connections. Here it does
// not, and reports false.
func (c *Conn) Errand(func()) bool { return false }

// Relieve has another goroutine read on, if the reader is on an errand.
func (c *Conn) Relieve() {}

func (c *Conn) share(func()) bool         { return false }
func (c *Conn) writeShared() (int, error) { return 0, nil }

package zsock

import (
	"testing"

	"github.com/hashicorp/go-hclog"
)

// stuckLog is a log that nobody reads: writing to it takes until it is released.
type stuckLog struct{ entered, release chan struct{} }

func (s stuckLog) Write(p []byte) (int, error) {
	s.entered <- struct{}{}
	<-s.release
	return len(p), nil
}

// A log that takes its time delays neither who comes nor who goes.
func TestSlowLogDelaysNobody(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		log := stuckLog{make(chan struct{}, 64), make(chan struct{})}
		server := newRecorder()
		l := listen(t, tr, Config{Logger: hclog.New(&hclog.LoggerOptions{Output: log})}, server)
		t.Cleanup(func() { close(log.release) })
		first, second := open(t, tr, l, "DEALER", 0), open(t, tr, l, "DEALER", 0)
		receive(t, server.opened)
		receive(t, server.opened)
		_, _ = connect(t, tr, l).Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		receive(t, log.entered)
		_ = first.Close()
		receive(t, server.closed)
		second.write(frame(0, "message"))
		receive(t, server.messages)
		open(t, tr, l, "DEALER", 0)
		receive(t, server.opened)
	})
}

package federation

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// outcome is how a call ended.
type outcome struct {
	mine  string
	reply *client.Reply
	err   error
}

// ask starts n calls, and delivers how they end.
func ask(t *testing.T, c *client.Client, n int, once bool) <-chan outcome {
	t.Helper()
	ch := make(chan outcome, n)
	for i := range n {
		mine := fmt.Sprint("call ", i)
		if once {
			mine = fmt.Sprint(onceWord, " ", i)
		}
		go func() {
			reply, err := c.Do(t.Context(), client.Call{Service: service, Body: [][]byte{[]byte(mine)}, Timeout: meshproc.Guard, Once: once})
			ch <- outcome{mine, reply, err}
		}()
	}
	return ch
}

func receive[T any](t *testing.T, ch <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(meshproc.Guard):
		t.Fatalf("nothing came within %v", meshproc.Guard)
	}
	return v
}

// lost fails the test unless the call was refused because the peer was lost, and the
// error says that it may have run.
func lost(t *testing.T, o outcome) {
	t.Helper()
	var e *mdp.Error
	if !errors.Is(o.err, mdp.PeerLost) || !errors.As(o.err, &e) || !e.MayHaveRun {
		t.Errorf("%s ended with %v, %+v; want PEER_LOST, may have run", o.mine, o.err, e)
	}
}

// answeredBy fails the test unless the call was answered by this attempt at this site.
func answeredBy(t *testing.T, o outcome, site string, attempt int) {
	t.Helper()
	switch {
	case o.err != nil:
		t.Errorf("%s failed: %v", o.mine, o.err)
	case len(o.reply.Body) != 2 || string(o.reply.Body[0]) != site || string(o.reply.Body[1]) != o.mine || o.reply.Attempt != attempt:
		t.Errorf("%s: attempt %d answered %q; want attempt %d at %s", o.mine, o.reply.Attempt, o.reply.Body, attempt, site)
	}
}

package push

import (
	"errors"
	"net"
	"testing"
	"testing/synctest"
)

func TestLimitedListener(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network := newPipes()
		listener := limit(network, 2)
		accepted := make(chan net.Conn)
		ended := make(chan error, 1)
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					ended <- err
					return
				}
				accepted <- conn
			}
		}()
		dial := func() {
			conn, err := network.dial(t.Context(), "", "")
			if err == nil {
				t.Cleanup(func() { conn.Close() })
			}
		}
		go dial()
		first := <-accepted
		go dial()
		<-accepted
		go dial()
		synctest.Wait()
		select {
		case <-accepted:
			t.Error("a third connection was accepted")
		default:
		}
		first.Close()
		first.Close() // gives its place back once only
		<-accepted
		synctest.Wait()
		if n := len(listener.slots); n != 2 {
			t.Errorf("%d places taken, want 2", n)
		}
		listener.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

package broker

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/zsock"
)

func TestSelfLinkIsRefused(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", peers("b"))
		m.pass(30 * time.Second)
		if n := len(b.upLinks()); n != 0 {
			t.Errorf("%d links to itself", n)
		}
		p := b.Peers()
		if len(p) != 1 || p[0].State != "down" || p[0].Error != errSelf.Error() {
			t.Errorf("peers %+v", p)
		}
	})
}

// A name that led to the broker itself may lead elsewhere one day.
func TestNameThatLedToItself(t *testing.T) {
	inBubble(t, func(m *mesh) {
		m.broker("c")
		name := &renamed{to: map[string]string{"tcp://b:1": "tcp://a:1"}}
		a := m.broker("a", peers("b"), func(c *Config) { name.Network, c.Network = c.Network, name })
		m.pass(30 * time.Second)
		if dials := name.dials.Load(); dials != 1 {
			t.Errorf("it dialled itself %d times", dials)
		}
		name.mu.Lock()
		name.to["tcp://b:1"] = "tcp://c:1"
		name.mu.Unlock()
		m.pass(selfPause)
		m.up(a, 1)
	})
}

// renamed is a network where names lead elsewhere.
type renamed struct {
	zsock.Network
	mu    sync.Mutex
	to    map[string]string
	dials atomic.Int64
}

func (r *renamed) Dial(ctx context.Context, endpoint string) (net.Conn, error) {
	r.dials.Add(1)
	r.mu.Lock()
	to := r.to[endpoint]
	r.mu.Unlock()
	return r.Network.Dial(ctx, to)
}

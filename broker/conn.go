package broker

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// conn is what the broker knows of one connection on the requests endpoint. One
// connection may carry requests and one worker session, or be a peer link.
type conn struct {
	b *Broker
	z *zsock.Conn

	// The following belong to the connection's reader goroutine.
	cmd     mdp.Command
	recent  *service // of the last request: saves the look-up
	greeted bool     // said HELLO

	// The following are set by the reader and read by the ticker.
	worker   atomic.Pointer[worker]
	link     atomic.Pointer[link]
	client   atomic.Pointer[clientInfo]
	received atomic.Uint32 // messages; any is a sign of life
	sent     atomic.Uint32

	// The following belong to the ticker (liveness.go).
	watch watch

	// mu guards the following. It is taken after a service's mutex, never before.
	mu          sync.Mutex
	closed      bool
	outstanding list[request] // requests that came by this connection

	lastDisconnect atomic.Int64 // when a stranger was last told DISCONNECT
}

// clientInfo is a native client's own word about itself.
type clientInfo struct {
	instance string
	hello    mdp.HelloMap
}

// Reasons for which the broker closes a connection.
var (
	errSilent    = errors.New("silent for three heartbeats")
	errBye       = errors.New("said bye")
	errDenied    = errors.New("denied")
	errProtocol  = errors.New("protocol error")
	errDuplicate = errors.New("second link to the same broker")
	errDrained   = errors.New("broker is shutting down")
)

// Opened is called by zsock once the handshake is done.
func (b *Broker) Opened(z *zsock.Conn) {
	c, ok := z.User.(*conn)
	if !ok { // accepted; dialled links bring theirs along
		c = &conn{}
		z.User = c
	}
	c.b, c.z = b, z
	c.outstanding.place = clientPlace
	b.track(c)
	if l := c.link.Load(); l != nil {
		l.opened()
	}
}

// Message is called by zsock for every message, in order, from the connection's
// reader goroutine; it runs the broker's state directly (DESIGN: no dispatcher).
func (b *Broker) Message(batch *zsock.Batch, z *zsock.Conn, m *zsock.Msg) {
	c := z.User.(*conn)
	c.received.Add(1)
	if err := mdp.Decode(m.Frames(), mdp.AtBroker, &c.cmd); err != nil {
		b.malformed(c, err)
		return
	}
	switch c.cmd.Role {
	case mdp.Client:
		c.fromClient(batch, m)
	case mdp.Worker:
		c.fromWorker(batch, m)
	case mdp.Peer:
		c.fromPeer(batch, m)
	}
}

// Closed is called by zsock once, after the last message.
func (b *Broker) Closed(z *zsock.Conn, err error) {
	c := z.User.(*conn)
	b.untrack(c)
	if b.log.IsDebug() {
		b.log.Debug("connection closed", "remote", z.Peer().Remote, "reason", err)
	}
	var batch zsock.Batch
	if w := c.worker.Load(); w != nil {
		w.leave(&batch, err.Error())
	}
	if l := c.link.Load(); l != nil {
		l.closed(&batch, err)
	}
	c.abandon(&batch)
	batch.Flush()
}

// malformed counts a message that no dialect explains. An empty one is what
// ZMQ_PROBE_ROUTER sends: no fault.
func (b *Broker) malformed(c *conn, err error) {
	if errors.Is(err, mdp.ErrEmpty) {
		b.count.probes.Add(1)
		return
	}
	b.count.malformed.Add(1)
	if b.log.IsDebug() {
		b.log.Debug("message dropped", "remote", c.z.Peer().Remote, "error", err)
	}
}

// maxHeadFrames is the largest number of frames before the body: an envelope,
// delimiter, header, command, address, empty frame.
const maxHeadFrames = mdp.MaxEnvelope + 6

// send writes one command and a body to the connection. It never blocks.
func (c *conn) send(batch *zsock.Batch, cmd *mdp.Command, body zsock.Body) error {
	var frames [maxHeadFrames][]byte
	var scratch [mdp.MaxHead]byte
	c.sent.Add(1)
	return c.z.Send(batch, mdp.Append(frames[:0], scratch[:], cmd), body)
}

// sendControl writes a native command without a body; a refusal means that the
// connection is going or that its reader is stuck, which liveness settles.
func (c *conn) sendControl(batch *zsock.Batch, cmd *mdp.Command) {
	cmd.Dialect = mdp.Native
	if err := c.send(batch, cmd, zsock.Body{}); err != nil {
		c.b.count.controlDropped.Add(1)
	}
}

// adopt files a new request under the connection it came by. It reports false
// when the connection has closed meanwhile. The service's mutex is held.
func (c *conn) adopt(r *request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.outstanding.pushBack(r)
	return true
}

// disown is the opposite of adopt, when the request is done.
func (c *conn) disown(r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.outstanding.remove(r)
	}
}

// requestRef names a request from outside its service's lock: valid as long as
// the token finds it.
type requestRef struct {
	s     *service
	token uint64
}

// abandon drops or detaches what the closed connection had asked for. Its list
// is taken first, then each service in turn (lock order).
func (c *conn) abandon(batch *zsock.Batch) {
	for _, ref := range c.takeOutstanding() {
		ref.s.mu.Lock()
		if r := ref.s.table.find(ref.token); r != nil && r.from.conn == c {
			ref.s.clientGone(batch, r)
		}
		ref.s.mu.Unlock()
	}
}

func (c *conn) takeOutstanding() []requestRef {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	refs := make([]requestRef, 0, c.outstanding.n)
	for r := c.outstanding.first; r != nil; r = r.ofClient.next {
		refs = append(refs, requestRef{r.service, r.token()})
	}
	return refs
}

// outstandingCount is how many requests of this connection are unanswered.
func (c *conn) outstandingCount() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.outstanding.n
}

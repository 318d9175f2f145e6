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
	z transport

	// The following belong to the connection's reader goroutine.
	cmd      mdp.Command
	recent   *service // of the last request: saves the look-up
	sessions int      // worker sessions so far
	read     uint32   // number of the read whose messages are handled
	readAt   int64    // when it was, see arrival

	// The following are set by the reader and read by the ticker.
	worker atomic.Pointer[worker]
	link   atomic.Pointer[link]
	client atomic.Pointer[clientInfo]
	sent   atomic.Uint32
	asking atomic.Int32 // questions that wait for the clerk

	account account // of the requests that came by this connection

	// The following belong to the ticker (liveness.go).
	watch watch

	// mu guards the following. It is taken after a service's mutex, never before.
	mu          sync.Mutex
	closed      bool
	outstanding list[request] // requests that came by this connection
	// byToken finds them for CANCEL. It is made when one comes and many are
	// outstanding, and lives until none is: most connections never need it.
	byToken map[wireKey]requestRef

	lastDisconnect atomic.Int64 // when a stranger was last told DISCONNECT
}

// transport is what the broker needs of a connection, which is a *zsock.Conn. As an
// interface the state behind it can be simulated without sockets and goroutines.
type transport interface {
	SendNumbered(b *zsock.Batch, head [][]byte, body zsock.Body) (number uint32, err error)
	Unwritten(number uint32) bool
	Queued() (messages, octets int)
	Unsent() int
	Reads() uint32
	Writes() uint32
	Turns() uint32
	Precede()
	Peer() zsock.Peer
	Close(error)
	CloseAfterFlush(error)
}

// wireKey is what the asking side calls its request. Tokens of peers are unique
// within a service only, so the id belongs to it.
type wireKey struct {
	token uint64
	id    mdp.RequestID
}

// clientInfo is a native client's own word about itself.
type clientInfo struct {
	instance string
	hello    mdp.HelloMap
}

// Reasons for which the broker closes a connection, with the names by which /state
// counts them (docs/PROTOCOL.md section 1).
var (
	errSilent   = zsock.NewReason("silent", "silent for three heartbeats")
	errBye      = zsock.NewReason("bye", "said bye")
	errDenied   = zsock.NewReason("denied", "denied")
	errProtocol = zsock.NewReason("mdp", "protocol error") // "protocol" is ZMTP's
	errDrained  = zsock.NewReason("drained", "broker is shutting down")
	errHollow   = zsock.NewReason("hollow", "answers no CANCEL")
	errSlow     = zsock.NewReason("slow", "reads its answers too slowly")
)

// Opened is called by zsock once the handshake is done.
func (b *Broker) Opened(z *zsock.Conn) {
	c, ok := z.User.(*conn)
	if !ok { // accepted; dialled links bring theirs along
		c = &conn{}
		z.User = c
	}
	c.opened(b, z)
}

func (c *conn) opened(b *Broker, z transport) {
	c.b, c.z = b, z
	c.outstanding.place = clientPlace
	b.track(c)
	if l := c.link.Load(); l != nil {
		l.opened()
	}
}

// Message is called by zsock for every message, in order, from the connection's
// reader goroutine; it runs the broker's state directly (no dispatcher: docs/ARCHITECTURE.md section 6).
func (b *Broker) Message(batch *zsock.Batch, z *zsock.Conn, m *zsock.Msg) {
	z.User.(*conn).message(batch, m)
}

func (c *conn) message(batch *zsock.Batch, m *zsock.Msg) {
	if err := mdp.Decode(m.Frames(), mdp.AtBroker, &c.cmd); err != nil {
		c.malformed(batch, err)
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

// arrival is when what is handled now was read: the clock is looked at once for all
// answers that came together. It is for measuring alone. Whoever is waited for, or given
// something, goes by b.now: a broker may be stopped in the middle of what it has read.
func (c *conn) arrival() int64 {
	if n := c.z.Reads(); n != c.read || c.readAt == 0 {
		c.read, c.readAt = n, c.b.now()
	}
	return c.readAt
}

// Closed is called by zsock once, after the last message.
func (b *Broker) Closed(batch *zsock.Batch, z *zsock.Conn, err error) {
	z.User.(*conn).ended(batch, err)
}

func (c *conn) ended(batch *zsock.Batch, err error) {
	b := c.b
	b.untrack(c)
	if b.log.IsDebug() {
		b.log.Debug("connection closed", "remote", c.z.Peer().Remote, "reason", err)
	}
	if w := c.worker.Load(); w != nil {
		w.leave(batch, err.Error())
	}
	if l := c.link.Load(); l != nil {
		l.closed(batch, err)
	}
	c.abandon(batch)
}

// malformed counts a message that no dialect explains. An empty one is what
// ZMQ_PROBE_ROUTER sends: no fault. Somebody waits for what becomes of a request, an
// answer and a registration: they are told.
func (c *conn) malformed(batch *zsock.Batch, err error) {
	b := c.b
	if errors.Is(err, mdp.ErrEmpty) {
		b.count.probes.Add(1)
		return
	}
	b.count.malformed.Add(1)
	if b.log.IsDebug() {
		b.log.Debug("message dropped", "remote", c.z.Peer().Remote, "error", err)
	}
	bad := mdp.Errorf(mdp.BadRequest, "%v", err)
	switch c.cmd.Role {
	case mdp.Client:
		c.tellClient(batch, bad)
	case mdp.Worker:
		c.tellWorker(batch, bad)
	case mdp.Peer:
		if c.cmd.Kind == mdp.Partial || c.cmd.Kind == mdp.Final {
			c.z.Close(errProtocol) // who asked would wait for ever: the end of the link tells it
		}
	}
}

// tellClient answers a command of a client that cannot be read.
func (c *conn) tellClient(batch *zsock.Batch, bad *mdp.Error) {
	switch c.cmd.Kind {
	case mdp.Hello:
		c.refuseClient(batch, bad)
	case mdp.Request, mdp.Attach:
		c.refuse(batch, nil, bad)
	}
}

// tellWorker tells whom it concerns of a worker's command that cannot be read: the
// worker, or whoever waits for its answer.
func (c *conn) tellWorker(batch *zsock.Batch, bad *mdp.Error) {
	w := c.worker.Load()
	unreadable := mdp.Errorf(mdp.Internal, "the worker's answer cannot be read: %s", bad.Text)
	switch {
	case c.cmd.Kind == mdp.Ready || c.cmd.Kind == mdp.Hello:
		c.refuseWorker(batch, bad)
	case w == nil:
	case c.cmd.Kind == mdp.Final:
		c.cmd.SetError(unreadable)
		w.final(batch, nil)
	case c.cmd.Kind == mdp.Partial:
		unreadable.MayHaveRun = true
		w.unreadable(batch, unreadable)
	}
}

// headRoom is where the frames before a body are written: one for each batch that is
// sent with. What it points to is seen by the connection's security, an interface, so on
// the stack it would be moved to the heap with every message.
type headRoom struct {
	frames  [maxHeadFrames][]byte
	scratch [mdp.MaxHead]byte
	address [16]byte
}

// maxHeadFrames is the largest number of frames before the body: an envelope,
// delimiter, header, command, address, empty frame.
const maxHeadFrames = mdp.MaxEnvelope + 6

func roomOf(batch *zsock.Batch) *headRoom {
	room, _ := batch.User.(*headRoom)
	if room == nil {
		room = new(headRoom)
		batch.User = room
	}
	return room
}

// send writes one command and a body to the connection. It never blocks. The
// token of a request for a foreign worker becomes its address frame.
func (c *conn) send(batch *zsock.Batch, cmd *mdp.Command, body zsock.Body) error {
	_, err := c.sendNumbered(batch, cmd, body)
	return err
}

// sendNumbered is send for what is taken back if it was never written.
func (c *conn) sendNumbered(batch *zsock.Batch, cmd *mdp.Command, body zsock.Body) (number uint32, err error) {
	room := roomOf(batch)
	if cmd.Role == mdp.Worker && cmd.Kind == mdp.Request && cmd.Dialect != mdp.Native {
		cmd.Address = mdp.AppendAddress(room.address[:0], cmd.Head.Token)
	}
	c.sent.Add(1)
	return c.z.SendNumbered(batch, mdp.Append(room.frames[:0], room.scratch[:], cmd), body)
}

// sendControl writes a native command without a body; a refusal means that the
// connection is going or that its reader is stuck, which liveness settles.
func (c *conn) sendControl(batch *zsock.Batch, cmd *mdp.Command) {
	cmd.Dialect = mdp.Native
	if err := c.send(batch, cmd, zsock.Body{}); err != nil {
		c.b.count.controlDropped.Add(1)
	}
}

// adopt files a new request under the connection it came by. It is called by the
// reader, with the service's mutex held.
func (c *conn) adopt(r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outstanding.pushBack(r)
	if c.byToken != nil {
		c.byToken[r.key()] = requestRef{r.service, r.token()}
	}
}

// disown is the opposite of adopt, when the request is done.
func (c *conn) disown(r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.outstanding.remove(r)
	switch {
	case c.byToken == nil:
	case c.outstanding.n == 0:
		c.byToken = nil
	default:
		delete(c.byToken, r.key())
	}
}

// key is what the asking side calls the request.
func (r *request) key() wireKey { return wireKey{r.from.token, r.id} }

// scanned is how many outstanding requests are looked through without an index.
const scanned = 32

// findOutstanding finds what the asking side calls its request.
func (c *conn) findOutstanding(key wireKey) (requestRef, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byToken == nil && c.outstanding.n > scanned {
		c.byToken = make(map[wireKey]requestRef, c.outstanding.n)
		for r := c.outstanding.first; r != nil; r = r.ofClient.next {
			c.byToken[r.key()] = requestRef{r.service, r.token()}
		}
	}
	if c.byToken != nil {
		ref, ok := c.byToken[key]
		return ref, ok
	}
	for r := c.outstanding.first; r != nil; r = r.ofClient.next {
		if r.key() == key {
			return requestRef{r.service, r.token()}, true
		}
	}
	return requestRef{}, false
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
		if batch.Heavy() {
			batch.Flush() // one worker may have had them all: it is told of each
		}
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

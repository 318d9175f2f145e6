package broker

import (
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// fromClient handles one command of the client half, native or foreign.
func (c *conn) fromClient(batch *zsock.Batch, m *zsock.Msg) {
	switch c.cmd.Kind {
	case mdp.Request:
		c.request(batch, m)
	case mdp.Hello:
		c.greetClient(batch)
	case mdp.Cancel:
		c.cancel(batch)
	case mdp.Attach:
		c.attach(batch)
	case mdp.Bye:
		c.z.Close(errBye)
	case mdp.Heartbeat, mdp.Drain:
	default:
		c.b.count.protocolErrors.Add(1)
	}
}

// greetClient answers a native client's HELLO. Requests may follow it at once.
func (c *conn) greetClient(batch *zsock.Batch) {
	if c.client.Load() != nil {
		c.b.count.protocolErrors.Add(1)
		c.z.Close(errProtocol)
		return
	}
	var info clientInfo
	if err := mdp.DecodeMap(c.cmd.Map, &info.hello); err != nil {
		c.refuseClient(batch, mdp.Errorf(mdp.BadRequest, "HELLO needs a map with an instance: %v", err))
		return
	}
	if info.hello.Instance == "" {
		c.refuseClient(batch, mdp.Errorf(mdp.BadRequest, "HELLO needs a map with an instance"))
		return
	}
	info.instance = info.hello.Instance
	c.client.Store(&info)
	c.welcome(batch, mdp.Client)
	if c.b.draining.Load() { // it came too late to be told with the others
		c.sendControl(batch, &mdp.Command{Role: mdp.Client, Kind: mdp.Drain})
	}
}

// refuseClient ends a session that did not begin well.
func (c *conn) refuseClient(batch *zsock.Batch, err *mdp.Error) {
	cmd := mdp.Command{Role: mdp.Client, Kind: mdp.Welcome}
	cmd.SetError(err)
	c.sendControl(batch, &cmd)
	c.z.CloseAfterFlush(errProtocol)
}

// welcome tells a native client or worker the broker's side of the session.
func (c *conn) welcome(batch *zsock.Batch, role mdp.Role) {
	c.sendControl(batch, &mdp.Command{Role: role, Kind: mdp.Welcome, Map: c.b.welcomeMap()})
}

// request enters the request of a client or a peer, or answers it at once: a
// question to the broker itself (mmi.), or one for which there is no room.
func (c *conn) request(batch *zsock.Batch, m *zsock.Msg) {
	if isMMI(c.cmd.Service) {
		c.b.answerMMI(batch, c, m)
		return
	}
	if c.b.draining.Load() && (c.cmd.Dialect == mdp.Native || !c.b.offeredElsewhere(c.cmd.Service)) {
		c.refuseDraining(batch)
		return // an MDP client cannot be told to go elsewhere, but what it asks for can
	}
	if c.cmd.Head.Flags&mdp.FlagNoWait != 0 && c.b.find(c.cmd.Service) == nil {
		c.refuse(batch, nil, mdp.Errorf(mdp.NoWorker, "nobody offers %q", c.cmd.Service)) // no need to remember the name
		return
	}
	if c.cmd.Head.Flags&mdp.FlagDetached != 0 && c.cmd.Role == mdp.Client && c.client.Load() == nil {
		c.refuse(batch, nil, mdp.Errorf(mdp.BadRequest, "a detached request needs a HELLO before it"))
		return // nobody could fetch its answer
	}
	s, err := c.b.require(c.recent, c.cmd.Service, 0)
	if err != nil {
		c.refuse(batch, nil, err)
		return
	}
	defer s.mu.Unlock()
	c.recent = s
	now := c.b.now()
	if c.cmd.Role == mdp.Peer {
		s.hearRequest(batch, c.link.Load(), &c.cmd, now)
		if err := s.turnsAway(c); err != nil {
			c.refuse(batch, s, err)
			return
		}
	}
	body := m.Body(c.cmd.Body)
	if detached := c.detaches(); detached {
		if err := c.b.detached.open(c.cmd.Head.ID, c.client.Load()); err != nil {
			c.refuse(batch, s, err)
			return
		}
	}
	r, err := s.admit(batch, c, int64(body.Cost())+sizeOf(c.cmd.Envelope), now)
	if err != nil {
		if c.detaches() {
			c.b.detached.drop(c.cmd.Head.ID)
		}
		c.refuse(batch, s, err)
		return
	}
	c.fill(r, now)
	c.adopt(r)
	r.body = body.Hold()
	s.submit(batch, r, now)
}

// refuseDraining sends a request elsewhere. A peer's is counted and confirmed all the
// same: it crossed our DRAIN, and is not to be taken for lost.
func (c *conn) refuseDraining(batch *zsock.Batch) {
	err := mdp.Errorf(mdp.NotTaken, "the broker is shutting down")
	var s *service
	if c.cmd.Role == mdp.Peer {
		s = c.b.find(c.cmd.Service)
	}
	if s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.hearRequest(batch, c.link.Load(), &c.cmd, c.b.now())
	}
	c.refuse(batch, s, err)
}

// detaches tells whether the request just read is to go on without its client.
func (c *conn) detaches() bool {
	return c.cmd.Head.Flags&mdp.FlagDetached != 0 && c.cmd.Role == mdp.Client
}

// requestFlags are the flags a request may come with.
const requestFlags = mdp.FlagOnce | mdp.FlagNoWait | mdp.FlagDetached | mdp.FlagRestartable

// fill copies what the command says about the request into it.
func (c *conn) fill(r *request, now int64) {
	cmd := &c.cmd
	r.from = origin{conn: c, role: cmd.Role, token: cmd.Head.Token, dialect: cmd.Dialect, delimited: cmd.Delimited}
	if len(cmd.Envelope) > 0 {
		r.from.envelope = cloneFrames(cmd.Envelope)
	}
	r.hops = homeHops
	if cmd.Dialect != mdp.Native {
		r.id, r.attempt = c.b.nextID(), 1
		return
	}
	r.id, r.flags, r.attempt = cmd.Head.ID, cmd.Head.Flags&requestFlags, max(cmd.Head.Attempt, 1)
	r.deadline = deadlineAfter(now, cmd.Head.Remaining)
	r.from.detached = c.detaches()
	if cmd.Role == mdp.Peer {
		r.hops = min(cmd.Head.Hops, homeHops-1)
		r.entered -= min(int64(cmd.Head.Load.ElapsedMs)*int64(time.Millisecond), int64(maxElapsed))
	}
}

func sizeOf(frames [][]byte) (n int64) {
	for _, f := range frames {
		n += int64(len(f))
	}
	return n
}

func cloneFrames(frames [][]byte) [][]byte {
	out := make([][]byte, len(frames))
	for i, f := range frames {
		out[i] = append([]byte(nil), f...)
	}
	return out
}

// refuse answers the command just read with an error. To foreign clients that is
// silence: their protocol has no word for it. A peer is told the state of the
// service, which is locked, or nil when there is none to tell of.
func (c *conn) refuse(batch *zsock.Batch, s *service, err *mdp.Error) {
	c.noteRefusal(err)
	if c.cmd.Dialect != mdp.Native {
		c.b.count.foreignUnanswered.Add(1)
		return
	}
	cmd := mdp.Command{Role: c.cmd.Role, Kind: mdp.Final, Service: peerService(&c.cmd),
		Head: mdp.Head{Token: c.cmd.Head.Token, ID: c.cmd.Head.ID, Attempt: c.cmd.Head.Attempt}}
	if s != nil && cmd.Role == mdp.Peer {
		cmd.Head.Load, cmd.Head.Flags = s.wordFor(c.link.Load(), c.b.now())
		if s.onceWorkers > 0 {
			cmd.Head.Flags |= mdp.FlagOnce
		}
		if err.Status == mdp.Busy {
			err = mdp.Errorf(mdp.NotTaken, "%s", err.Text) // its home knows other brokers
		}
	}
	cmd.Dialect = mdp.Native
	cmd.SetError(err)
	c.reply(batch, &cmd, zsock.Body{})
}

// peerService is the service name an answer carries: on peer links only.
func peerService(cmd *mdp.Command) []byte {
	if cmd.Role == mdp.Peer {
		return cmd.Service
	}
	return nil
}

// cancel drops or stops a request its client or peer has given up. Nothing is
// answered.
func (c *conn) cancel(batch *zsock.Batch) {
	ref, ok := c.findOutstanding(wireKey{c.cmd.Head.Token, c.cmd.Head.ID})
	if !ok {
		return // the answer is under way already
	}
	ref.s.mu.Lock()
	defer ref.s.mu.Unlock()
	if r := ref.s.table.find(ref.token); r != nil && r.from.conn == c {
		if r.from.detached {
			c.b.detached.drop(r.id)
		}
		ref.s.cancelled(batch, r)
	}
}

// cancelled ends a request for which nobody waits any more.
func (s *service) cancelled(batch *zsock.Batch, r *request) {
	s.stats.Cancelled++
	s.noteEnd(r, mdp.Cancelled)
	s.finish(batch, r)
}

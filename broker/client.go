package broker

import (
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
	var info clientInfo
	if err := mdp.DecodeMap(c.cmd.Map, &info.hello); err != nil || info.hello.Instance == "" {
		cmd := mdp.Command{Role: mdp.Client, Kind: mdp.Welcome}
		cmd.SetError(mdp.Errorf(mdp.BadRequest, "HELLO needs a map with an instance"))
		c.sendControl(batch, &cmd)
		c.z.CloseAfterFlush(errProtocol)
		return
	}
	info.instance = info.hello.Instance
	c.client.Store(&info)
	c.welcome(batch, mdp.Client)
}

// welcome tells a native client or worker the broker's side of the session.
func (c *conn) welcome(batch *zsock.Batch, role mdp.Role) {
	c.sendControl(batch, &mdp.Command{Role: role, Kind: mdp.Welcome, Map: c.b.welcomeMap()})
}

// request enters a client's request, or answers it at once: a question to the
// broker itself (mmi.), or one for which there is no room.
func (c *conn) request(batch *zsock.Batch, m *zsock.Msg) {
	if isMMI(c.cmd.Service) {
		c.b.answerMMI(batch, c, m)
		return
	}
	if c.b.draining.Load() {
		c.refuse(batch, mdp.Errorf(mdp.NotTaken, "the broker is shutting down"))
		return
	}
	s, err := c.b.require(c.recent, c.cmd.Service)
	if err != nil {
		c.refuse(batch, err)
		return
	}
	defer s.mu.Unlock()
	c.recent = s
	body := m.Body(c.cmd.Body)
	r, err := s.admit(int64(body.Size()))
	if err != nil {
		c.refuse(batch, err)
		return
	}
	c.fill(r)
	if r.from.detached {
		if err := c.b.detached.open(r.id, c.client.Load(), c.b.now()); err != nil {
			r.from.conn = nil
			s.finish(batch, r)
			c.refuse(batch, err)
			return
		}
	}
	if !c.adopt(r) {
		r.from.conn = nil
		s.finish(batch, r)
		return
	}
	r.body = body.Hold()
	s.place(batch, r)
}

// fill copies what the command says about the request into it.
func (c *conn) fill(r *request) {
	cmd := &c.cmd
	r.from = origin{conn: c, role: cmd.Role, token: cmd.Head.Token, dialect: cmd.Dialect, delimited: cmd.Delimited}
	if len(cmd.Envelope) > 0 {
		r.from.envelope = cloneFrames(cmd.Envelope)
	}
	r.attempt = 1
	if cmd.Dialect != mdp.Native {
		r.hops = homeHops
		r.id = c.b.nextID()
		return
	}
	r.id, r.flags, r.attempt = cmd.Head.ID, cmd.Head.Flags, max(cmd.Head.Attempt, 1)
	r.deadline = deadlineAfter(r.entered, cmd.Head.Remaining)
	r.hops = homeHops
	if cmd.Role == mdp.Peer {
		r.hops = min(cmd.Head.Hops, homeHops)
		r.entered -= int64(cmd.Head.Load.ElapsedMs) * 1e6
		return
	}
	r.from.detached = cmd.Head.Flags&mdp.FlagDetached != 0 && c.client.Load() != nil
}

func cloneFrames(frames [][]byte) [][]byte {
	out := make([][]byte, len(frames))
	for i, f := range frames {
		out[i] = append([]byte(nil), f...)
	}
	return out
}

// refuse answers the command just read with an error. To foreign clients that is
// silence: their protocol has no word for it.
func (c *conn) refuse(batch *zsock.Batch, err *mdp.Error) {
	if c.cmd.Dialect != mdp.Native {
		c.b.count.foreignUnanswered.Add(1)
		return
	}
	cmd := mdp.Command{Role: c.cmd.Role, Kind: mdp.Final, Service: peerService(&c.cmd),
		Head: mdp.Head{Token: c.cmd.Head.Token, ID: c.cmd.Head.ID, Attempt: c.cmd.Head.Attempt}}
	cmd.SetError(err)
	c.sendControl(batch, &cmd)
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
	ref, ok := c.findOutstanding(c.cmd.Head.Token)
	if !ok {
		return // the answer is under way already
	}
	ref.s.mu.Lock()
	defer ref.s.mu.Unlock()
	if r := ref.s.table.find(ref.token); r != nil && r.from.conn == c {
		ref.s.stats.Cancelled++
		if r.from.detached {
			c.b.detached.drop(r.id)
		}
		ref.s.finish(batch, r)
		ref.s.dispatch(batch)
	}
}

func (c *conn) findOutstanding(token uint64) (requestRef, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for r := c.outstanding.first; r != nil; r = r.ofClient.next {
		if r.from.token == token {
			return requestRef{r.service, r.token()}, true
		}
	}
	return requestRef{}, false
}

package broker

import (
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// worker is one worker session: from READY or HELLO until it leaves. It is
// guarded by its service's mutex, except for the fields set once.
type worker struct {
	conn      *conn
	service   *service
	dialect   mdp.Dialect
	delimited bool
	hello     mdp.HelloMap // native only
	since     int64

	credit  int    // requests it runs at once; 1 for MDP/0.1 and 0.2
	held    []held // what it was given and has not answered
	gone    bool
	drained bool // said DRAIN: gets nothing more
	stuck   bool // its connection's queue is full: waits for its next answer

	all, waiting link2[worker]
	in           *list[worker] // the waiting list it is in, or nil
}

func allPlace(w *worker) *link2[worker]     { return &w.all }
func waitingPlace(w *worker) *link2[worker] { return &w.waiting }

// fromWorker handles one command of the worker half, native or foreign.
func (c *conn) fromWorker(batch *zsock.Batch, m *zsock.Msg) {
	w := c.worker.Load()
	switch c.cmd.Kind {
	case mdp.Ready, mdp.Hello:
		c.register(batch, w)
		return
	case mdp.Bye, mdp.Disconnect:
		if w != nil {
			w.leave(batch, "said goodbye")
		}
		if c.cmd.Kind == mdp.Bye {
			c.z.Close(errBye)
		}
		return
	}
	if w == nil {
		c.stranger(batch)
		return
	}
	switch c.cmd.Kind {
	case mdp.Partial:
		w.partial(batch, m)
	case mdp.Final:
		w.final(batch, m)
	case mdp.Credit:
		w.setCredit(batch, int(c.cmd.Head.Status))
	case mdp.Drain:
		w.drain()
	case mdp.Heartbeat:
	default:
		w.protocolError(batch)
	}
}

// register opens a session, or refuses it: a service name of the broker's own, a
// second READY in one session (RFC 7: valid but unexpected, so DISCONNECT).
func (c *conn) register(batch *zsock.Batch, before *worker) {
	if before != nil {
		before.protocolError(batch)
		return
	}
	if isMMI(c.cmd.Service) {
		c.refuseWorker(batch, mdp.Errorf(mdp.Denied, "services that begin with mmi. belong to the broker"))
		return
	}
	if c.b.draining.Load() {
		c.refuseWorker(batch, mdp.Errorf(mdp.NotTaken, "the broker is shutting down"))
		return
	}
	w := &worker{conn: c, dialect: c.cmd.Dialect, delimited: c.cmd.Delimited, credit: 1, since: c.b.now()}
	if w.dialect == mdp.Native {
		if err := mdp.DecodeMap(c.cmd.Map, &w.hello); err != nil {
			c.refuseWorker(batch, mdp.Errorf(mdp.BadRequest, "%v", err))
			return
		}
		w.credit = max(int(c.cmd.Head.Status), 1)
	}
	s, err := c.b.require(nil, c.cmd.Service)
	if err != nil {
		c.refuseWorker(batch, err)
		return
	}
	defer s.mu.Unlock()
	w.service = s
	s.workers.pushBack(w)
	c.worker.Store(w)
	if w.dialect == mdp.Native {
		c.welcome(batch, mdp.Worker)
	}
	c.b.log.Info("worker ready", "service", s.name, "remote", c.z.Peer().Remote, "dialect", w.dialect, "concurrency", w.credit)
	w.wait()
	s.changed()
	s.dispatch(batch)
}

// refuseWorker denies a session: in WELCOME to native workers, by DISCONNECT to others.
func (c *conn) refuseWorker(batch *zsock.Batch, err *mdp.Error) {
	c.b.count.workersRefused.Add(1)
	c.b.log.Info("worker refused", "remote", c.z.Peer().Remote, "error", err)
	if c.cmd.Dialect != mdp.Native {
		c.disconnect(batch, c.cmd.Dialect, c.cmd.Delimited)
		return
	}
	cmd := mdp.Command{Role: mdp.Worker, Kind: mdp.Welcome}
	cmd.SetError(err)
	c.sendControl(batch, &cmd)
	c.z.CloseAfterFlush(errDenied)
}

// stranger answers a worker command on a connection without a session: its next
// HEARTBEAT is how a foreign worker learns of a broker restart. At most one
// DISCONNECT a second, because some peers answer every command (MDP-FACTS 7.12).
func (c *conn) stranger(batch *zsock.Batch) {
	c.b.count.strangers.Add(1)
	if c.cmd.Dialect == mdp.Native {
		c.sendControl(batch, &mdp.Command{Role: mdp.Worker, Kind: mdp.Bye})
		c.z.CloseAfterFlush(errProtocol)
		return
	}
	now := c.b.now()
	if last := c.lastDisconnect.Load(); last != 0 && now-last < 1e9 {
		return
	}
	c.lastDisconnect.Store(max(now, 1))
	c.disconnect(batch, c.cmd.Dialect, c.cmd.Delimited)
}

func (c *conn) disconnect(batch *zsock.Batch, d mdp.Dialect, delimited bool) {
	cmd := mdp.Command{Role: mdp.Worker, Kind: mdp.Disconnect, Dialect: d, Delimited: delimited}
	if err := c.send(batch, &cmd, zsock.Body{}); err != nil {
		c.b.count.controlDropped.Add(1)
	}
}

// protocolError ends a session for a command that has no place in it.
func (w *worker) protocolError(batch *zsock.Batch) {
	w.conn.b.count.protocolErrors.Add(1)
	w.leave(batch, "protocol error")
	w.dismiss(batch)
}

// dismiss tells the worker that its session is over, so that it comes back at once.
func (w *worker) dismiss(batch *zsock.Batch) {
	if w.dialect == mdp.Native {
		w.conn.sendControl(batch, &mdp.Command{Role: mdp.Worker, Kind: mdp.Bye})
		w.conn.z.CloseAfterFlush(errProtocol)
		return
	}
	w.conn.disconnect(batch, w.dialect, w.delimited)
}

// leave ends the session; what the worker held goes to others.
func (w *worker) leave(batch *zsock.Batch, why string) {
	s := w.service
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.gone {
		return
	}
	w.gone = true
	w.conn.worker.CompareAndSwap(w, nil)
	w.unwait()
	s.workers.remove(w)
	s.b.log.Info("worker left", "service", s.name, "remote", w.conn.z.Peer().Remote, "reason", why, "held", len(w.held))
	held := w.held
	w.held = nil
	for _, h := range held {
		if h.r == nil {
			continue
		}
		h.r.dropHolder(w, nil)
		s.lost(batch, h.r, mdp.WorkerLost, "worker left: "+why)
	}
	s.changed()
	s.dispatch(batch)
}

// dropHolder removes a worker or a route from the request's holders.
func (r *request) dropHolder(w *worker, p *route) {
	for i := range r.holders {
		if r.holders[i].worker == w && r.holders[i].route == p {
			r.unhold(i)
			return
		}
	}
}

// wait puts the worker at the end of the list that fits its load.
func (w *worker) wait() {
	w.unwait()
	switch {
	case w.gone || w.drained || w.stuck || len(w.held) >= w.credit:
		return
	case len(w.held) == 0:
		w.in = &w.service.idle
	default:
		w.in = &w.service.partly
	}
	w.in.pushBack(w)
}

func (w *worker) unwait() {
	if w.in != nil {
		w.in.remove(w)
		w.in = nil
	}
}

// request sends r to the worker. It reports false when the connection refuses,
// after taking the worker out of rotation.
func (w *worker) request(batch *zsock.Batch, r *request) bool {
	now := w.service.b.now()
	if err := w.sendRequest(batch, r, now); err != nil {
		w.service.b.count.requestsRefused.Add(1)
		w.stuck = true // closing, or its queue is full: its next answer or its end settles it
		w.unwait()
		return false
	}
	if w.hello.Once {
		r.flags |= mdp.FlagOnce
	}
	r.deliveries++
	r.started = now
	r.holders = append(r.holders, holder{worker: w, at: len(w.held)})
	w.held = append(w.held, held{r.token(), r})
	w.wait()
	return true
}

func (w *worker) sendRequest(batch *zsock.Batch, r *request, now int64) error {
	cmd := mdp.Command{Role: mdp.Worker, Kind: mdp.Request, Dialect: w.dialect, Delimited: w.delimited}
	if w.dialect == mdp.Native {
		cmd.Service = w.service.nameFrame
		cmd.Head = mdp.Head{Flags: r.flags &^ mdp.FlagMap, Token: r.token(), ID: r.id,
			Remaining: r.remaining(now), Attempt: r.attempt + uint16(r.deliveries)}
		return w.conn.send(batch, &cmd, r.body)
	}
	var address [16]byte
	cmd.Address = mdp.AppendAddress(address[:0], r.token())
	return w.conn.send(batch, &cmd, atLeastOneFrame(r.body))
}

func (w *worker) cancel(batch *zsock.Batch, token uint64) {
	if w.dialect == mdp.Native {
		w.conn.sendControl(batch, &mdp.Command{Role: mdp.Worker, Kind: mdp.Cancel, Head: mdp.Head{Token: token}})
	}
}

// answered names the request an answer belongs to: the token of a native head,
// or the address frame of a foreign one. At is -1 when the worker holds no such.
func (w *worker) answered() (at int) {
	token := w.conn.cmd.Head.Token
	if w.dialect != mdp.Native {
		var ok bool
		if token, ok = mdp.ParseAddress(w.conn.cmd.Address); !ok {
			return -1
		}
	}
	if r := w.service.table.find(token); r != nil {
		for _, h := range r.holders {
			if h.worker == w {
				return h.at
			}
		}
	}
	for i := range w.held { // answered by somebody else meanwhile
		if w.held[i].token == token {
			return i
		}
	}
	return -1
}

// release takes the held request at index i off the worker.
func (w *worker) release(i int) {
	last := len(w.held) - 1
	if moved := w.held[last]; i != last {
		w.held[i] = moved
		if moved.r != nil {
			for k := range moved.r.holders {
				if moved.r.holders[k].worker == w {
					moved.r.holders[k].at = i
				}
			}
		}
	}
	w.held[last] = held{}
	w.held = w.held[:last]
}

func (w *worker) partial(batch *zsock.Batch, m *zsock.Msg) {
	s := w.service
	s.mu.Lock()
	defer s.mu.Unlock()
	i := w.answered()
	if i < 0 || w.held[i].r == nil {
		s.stats.Late++
		return
	}
	s.partial(batch, w.held[i].r, m.Body(w.conn.cmd.Body))
}

// final ends one request of the worker: the first answer wins, later ones are
// counted; the worker has room again in any case.
func (w *worker) final(batch *zsock.Batch, m *zsock.Msg) {
	s := w.service
	s.mu.Lock()
	defer s.mu.Unlock()
	i := w.answered()
	if i < 0 {
		s.b.count.unaskedReplies.Add(1) // MDP-FACTS 7.12: a sign of life, no more
		return
	}
	r := w.held[i].r
	w.release(i)
	w.stuck = false
	if r == nil {
		s.stats.Late++
	} else {
		r.dropHolder(w, nil)
		s.settle(batch, r, &w.conn.cmd, m)
	}
	w.wait()
	s.changed()
	s.dispatch(batch)
}

// settle applies a FINAL of a worker or a peer to a request it held.
func (s *service) settle(batch *zsock.Batch, r *request, cmd *mdp.Command, m *zsock.Msg) {
	switch status := mdp.Status(cmd.Head.Status); {
	case status == mdp.OK:
		s.mean.add(s.b.now() - r.started)
		s.answer(batch, r, m.Body(cmd.Body))
	case status == mdp.NotTaken, status == mdp.Busy && cmd.Role == mdp.Peer:
		s.notTaken(batch, r)
	case status == mdp.WorkerLost && cmd.Role == mdp.Peer:
		s.lost(batch, r, status, "worker lost at a peer")
	default:
		s.fail(batch, r, mdp.AnswerError(cmd).(*mdp.Error))
	}
}

func (w *worker) setCredit(batch *zsock.Batch, credit int) {
	s := w.service
	s.mu.Lock()
	defer s.mu.Unlock()
	w.credit = max(credit, 1)
	w.wait()
	s.changed()
	s.dispatch(batch)
}

func (w *worker) drain() {
	s := w.service
	s.mu.Lock()
	defer s.mu.Unlock()
	w.drained = true
	w.unwait()
	s.changed()
}

package broker

import (
	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// fromWorker handles one command of the worker half, native or foreign.
func (c *conn) fromWorker(batch *zsock.Batch, m *zsock.Msg) {
	w := c.worker.Load()
	switch c.cmd.Kind {
	case mdp.Ready, mdp.Hello:
		c.register(batch, w)
		return
	case mdp.Bye, mdp.Disconnect:
		if c.cmd.Kind == mdp.Bye {
			c.z.Close(errBye) // before it leaves: what is not written by now, it was not given
		}
		if w != nil {
			w.leave(batch, "said goodbye")
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
		w.drain(batch)
	case mdp.Heartbeat:
		if c.cmd.Head.Token != 0 {
			w.answeredProbe()
		}
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
			c.refuseWorker(batch, mdp.Errorf(mdp.BadRequest, "HELLO needs a map: %v", err))
			return
		}
		if scope := w.hello.Scope; scope != "" && scope != "mesh" && scope != "local" {
			c.refuseWorker(batch, mdp.Errorf(mdp.BadRequest, "scope %q is neither mesh nor local", scope))
			return // who misspells local must not be offered to all
		}
		w.credit = max(int(c.cmd.Head.Status), 1)
		w.local = w.hello.Scope == "local"
	}
	s, err := c.b.require(nil, c.cmd.Service, c.b.roomForWorkers())
	if err != nil {
		c.refuseWorker(batch, err)
		return
	}
	c.sessions++
	w.logged = c.sessions <= sessionsLogged // no peer may fill the log by coming and going
	credit := w.credit                      // guarded from here on
	w.enter(batch, s)
	s.mu.Unlock()
	if w.logged {
		c.b.note(hclog.Info, "worker ready", "service", s.name, "remote", c.z.Peer().Remote, "dialect", w.dialect, "concurrency", credit)
	}
}

// enter makes the session one of the service's, whose mutex is held.
func (w *worker) enter(batch *zsock.Batch, s *service) {
	w.service = s
	s.workers.pushBack(w)
	s.unoffered = 0    // however short it stays
	w.conn.z.Precede() // it may be idle until it has its request; a client's answer can come behind
	if w.hello.Once && !w.local {
		s.onceWorkers++
		s.turnAway(batch)
	}
	w.conn.worker.Store(w)
	if w.dialect == mdp.Native {
		w.conn.welcome(batch, mdp.Worker)
	}
	if w.hello.Reads {
		w.sendProbe(batch, s.b.now())
	}
	w.wait()
	s.changed()
	s.dispatch(batch)
}

// refuseWorker denies a session: in WELCOME to native workers, by DISCONNECT to others.
func (c *conn) refuseWorker(batch *zsock.Batch, err *mdp.Error) {
	c.b.count.workersRefused.Add(1)
	if c.cmd.Dialect != mdp.Native {
		if c.disconnectNow(batch) {
			c.b.note(hclog.Info, "worker refused", "remote", c.z.Peer().Remote, "error", err)
		}
		return
	}
	c.b.note(hclog.Info, "worker refused", "remote", c.z.Peer().Remote, "error", err)
	cmd := mdp.Command{Role: mdp.Worker, Kind: mdp.Welcome}
	cmd.SetError(err)
	c.sendControl(batch, &cmd)
	c.z.CloseAfterFlush(errDenied)
}

// stranger answers a worker command on a connection without a session: its next
// HEARTBEAT is how a foreign worker learns of a broker restart. At most one
// DISCONNECT a second, because some peers answer every command.
func (c *conn) stranger(batch *zsock.Batch) {
	c.b.count.strangers.Add(1)
	if c.cmd.Dialect == mdp.Native {
		c.sendControl(batch, &mdp.Command{Role: mdp.Worker, Kind: mdp.Bye})
		c.z.CloseAfterFlush(errProtocol)
		return
	}
	c.disconnectNow(batch)
}

// disconnectNow answers the command just read with DISCONNECT, but not more often
// than once a second. It reports whether it did.
func (c *conn) disconnectNow(batch *zsock.Batch) bool {
	if last := c.lastDisconnect.Load(); last != 0 && c.b.now()-last < disconnectEvery {
		return false
	}
	c.disconnect(batch, c.cmd.Dialect, c.cmd.Delimited)
	return true
}

// disconnect sends DISCONNECT and notes when.
func (c *conn) disconnect(batch *zsock.Batch, d mdp.Dialect, delimited bool) {
	c.lastDisconnect.Store(c.b.now())
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
	held, left := w.exit(batch, why)
	if left && w.logged {
		w.conn.b.note(hclog.Info, "worker left", "service", w.service.name, "remote", w.conn.z.Peer().Remote, "reason", why, "held", held)
	}
}

// exit tells how much the worker held, and false if it had left before.
func (w *worker) exit(batch *zsock.Batch, why string) (n int, left bool) {
	s := w.service
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.gone {
		return 0, false
	}
	w.gone = true
	w.conn.worker.CompareAndSwap(w, nil)
	w.wait()
	s.workers.remove(w)
	if w.due {
		s.unheard.remove(w)
		w.due = false
	}
	if w.hello.Once && !w.local {
		s.onceWorkers--
	}
	held := w.held
	n = len(held)
	w.held, w.orphans = nil, nil
	why = "worker left: " + why
	var ended endings
	for _, h := range newestFirst(held) {
		h.r.dropHolder(w, nil)
		ended.add(h.token, s.left(h, w.conn, mdp.WorkerLost, why))
	}
	s.end(batch, ended)
	s.turnAway(batch)
	s.changed()
	s.dispatch(batch)
	return n, true
}

// setCredit takes CREDIT: the worker runs another number at once from now on.
func (w *worker) setCredit(batch *zsock.Batch, credit int) {
	s := w.service
	s.mu.Lock()
	defer s.mu.Unlock()
	w.credit = max(credit, 1)
	w.wait()
	s.changed()
	s.dispatch(batch)
}

// drain takes DRAIN: the worker gets nothing more and answers what it holds.
func (w *worker) drain(batch *zsock.Batch) {
	s := w.service
	s.mu.Lock()
	defer s.mu.Unlock()
	w.drained = true
	if w.dialect == mdp.Native { // nothing comes behind this: what it has not read by now it need not wait for
		w.conn.sendControl(batch, &mdp.Command{Role: mdp.Worker, Kind: mdp.Drain})
	}
	w.wait()
	s.turnAway(batch)
	s.changed()
}

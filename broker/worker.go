package broker

import (
	"time"

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
	local     bool         // serves this broker's own clients only
	since     int64

	credit    int    // requests it runs at once; 1 for MDP/0.1 and 0.2
	held      []held // what it was given and has not answered
	busySince int64  // when it was given the first of them
	turn      int    // how many it was given in its turn, if that is not over
	gone      bool
	logged    bool // its coming was logged, and so its going will be
	drained   bool // said DRAIN: gets nothing more
	stuck     bool // took nothing, or its connection did not: gets nothing until it answers, or the next sweep

	// orphans tells where those of held are that have no request any more, by token: nil
	// where there are none, as with nearly all workers.
	orphans map[uint64]int

	all, waiting place[worker]
	in           *list[worker] // the waiting list it is in, or nil
	// As counted in the service's totals: places free, in all, and offered to peers.
	room, capacity, offered int
	trust
}

// wait puts the worker at the end of the list that fits its load, or at the front of it
// while its turn lasts, and keeps the service's totals. It is called after every change
// of the fields above.
func (w *worker) wait() {
	s := w.service
	room, capacity, offered := 0, 0, 0
	if !w.gone && !w.drained {
		capacity = w.credit
	}
	if !w.suspect && !w.local {
		offered = capacity
	}
	if !w.stuck && !w.suspect {
		room = max(capacity-len(w.held), 0)
	}
	var in *list[worker]
	if room > 0 {
		in = &s.partly
		if len(w.held) == 0 {
			in, w.turn = &s.idle, 0
		}
	}
	w.queue(in)
	s.free += room - w.room
	s.capacity += capacity - w.capacity
	s.meshCapacity += offered - w.offered
	if !w.local {
		s.meshFree += room - w.room
	}
	w.room, w.capacity, w.offered = room, capacity, offered
}

// queue puts the worker into a waiting list, or into none: at its front while its turn
// lasts, else at its end. Where it stands there already, as one that is alone does, it
// stays.
func (w *worker) queue(in *list[worker]) {
	if in != nil && w.in == in && (w.turn > 0 && in.first == w || w.turn == 0 && in.last == w) {
		return
	}
	if w.in != nil {
		w.in.remove(w)
	}
	switch w.in = in; {
	case in == nil:
	case w.turn > 0:
		in.insertBefore(in.first, w)
	default:
		in.pushBack(w)
	}
}

// request sends r to the worker. When the connection does not take it now, the
// worker is out of rotation until its queue is empty (service.sweep) or it answers.
func (w *worker) request(batch *zsock.Batch, r *request, now int64) error {
	number, err := w.sendRequest(batch, r, now)
	if err != nil {
		w.service.b.count.requestsRefused.Add(1)
		if !isUnfit(err) {
			w.stuck = true
			w.wait()
		}
		return err
	}
	r.flags |= w.wish()
	if len(w.held) == 0 {
		w.busySince = now
	}
	r.hold(w, nil, len(w.held), now)
	w.held = append(w.held, held{token: r.token(), r: r, number: number, mark: w.launch(now, r.size)})
	w.expectSign(now)
	if w.turn++; w.turn >= w.service.workerTurn() {
		w.turn = 0
	}
	w.wait()
	return nil
}

// A worker's turn, where none is idle.
const (
	maxWorkerTurn = 8
	quickRun      = 2 * time.Millisecond // with the way there and back
)

// workerTurn is how many requests a worker with room for more is given before the next
// one's turn: quick ones of one client that travel together are answered together.
func (s *service) workerTurn() int {
	if mean := s.mean.duration(); mean > 0 && mean <= quickRun {
		return maxWorkerTurn
	}
	return 1
}

// wish is the flag of a worker that wants no request to run a second time.
func (w *worker) wish() uint8 {
	if w.hello.Once {
		return mdp.FlagOnce
	}
	return 0
}

// workerFlags are the flags of a request that workers are told.
const workerFlags = mdp.FlagOnce | mdp.FlagDetached | mdp.FlagRestartable

func (w *worker) sendRequest(batch *zsock.Batch, r *request, now int64) (number uint32, err error) {
	cmd := mdp.Command{Role: mdp.Worker, Kind: mdp.Request, Dialect: w.dialect, Delimited: w.delimited}
	cmd.Head.Token = r.token()
	if w.dialect != mdp.Native {
		return w.conn.sendNumbered(batch, &cmd, atLeastOneFrame(r.body))
	}
	cmd.Service = w.service.nameFrame
	cmd.Head.Flags, cmd.Head.ID = (r.flags|w.wish())&workerFlags, r.id
	cmd.Head.Remaining, cmd.Head.Attempt = r.remaining(now), r.nextAttempt()
	return w.conn.sendNumbered(batch, &cmd, r.body)
}

func (w *worker) cancel(batch *zsock.Batch, r *request) {
	if w.dialect == mdp.Native {
		w.conn.sendControl(batch, &mdp.Command{Role: mdp.Worker, Kind: mdp.Cancel, Head: mdp.Head{Token: r.token(), ID: r.id}})
	}
}

// answered finds what an answer belongs to, by the token of a native head or the
// address frame of a foreign one: the index among what the worker holds, -1 if it
// holds no such.
func (w *worker) answered() int {
	token := w.conn.cmd.Head.Token
	if w.dialect != mdp.Native {
		var ok bool
		if token, ok = mdp.ParseAddress(w.conn.cmd.Address); !ok {
			return -1
		}
	}
	if r := w.service.table.find(token); r != nil {
		if i := r.holder(w, nil); i >= 0 {
			return r.holders[i].at
		}
	}
	if i, ok := w.orphans[token]; ok { // answered by somebody else meanwhile
		return i
	}
	return -1 // whoever makes tokens up costs no search
}

// orphan leaves what the worker holds at index i without its request. Its place stays
// taken until the FINAL comes.
func (w *worker) orphan(i int, moved bool) {
	h := &w.held[i]
	h.r, h.moved = nil, moved
	if w.orphans == nil {
		w.orphans = make(map[uint64]int)
	}
	w.orphans[h.token] = i
}

// release takes what is held at index i off the worker.
func (w *worker) release(i int) {
	if w.held[i].r == nil {
		if delete(w.orphans, w.held[i].token); len(w.orphans) == 0 {
			w.orphans = nil // the room of many is not kept
		}
	}
	last := len(w.held) - 1
	if moved := w.held[last]; i != last {
		w.held[i] = moved
		if moved.r != nil {
			moved.r.holders[moved.r.holder(w, nil)].at = i
		} else {
			w.orphans[moved.token] = i
		}
	}
	w.held[last] = held{}
	w.held = w.held[:last]
}

// partial passes one part of an answer on.
func (w *worker) partial(batch *zsock.Batch, m *zsock.Msg) {
	s := w.service
	s.mu.Lock()
	defer s.mu.Unlock()
	switch i := w.answered(); {
	case i < 0:
		s.b.count.unaskedReplies.Add(1)
	case w.held[i].r != nil: // else it was cancelled and does not know yet
		r := w.held[i].r
		w.reached(w.held[i].mark)
		if h := r.holder(w, nil); !r.holders[h].doubted {
			s.partial(batch, r, h, m.Body(w.conn.cmd.Body))
			return
		}
		s.b.count.partialsDropped.Add(1) // it was told CANCEL: the rest will not come
		w.letGo(r)
		s.lost(batch, r, mdp.WorkerLost, "cancelled after it was silent")
		s.dispatch(batch)
	}
}

// unreadable fails the request of which a part cannot be passed on: an answer with a
// hole in it would be worse. The place stays taken until the FINAL comes.
func (w *worker) unreadable(batch *zsock.Batch, err *mdp.Error) {
	s := w.service
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := w.answered(); i >= 0 && w.held[i].r != nil {
		s.b.count.partialsDropped.Add(1)
		s.fail(batch, w.held[i].r, err)
	}
}

// final ends one request of the worker: the first answer wins, later ones are
// counted; the worker has room again in any case.
func (w *worker) final(batch *zsock.Batch, m *zsock.Msg) {
	s, cmd := w.service, &w.conn.cmd
	s.mu.Lock()
	defer s.mu.Unlock()
	i := w.answered()
	if i < 0 {
		s.b.count.unaskedReplies.Add(1) // a sign of life, no more
		return
	}
	h := w.held[i]
	w.reached(h.mark)
	w.release(i)
	w.stuck = mdp.Status(cmd.Head.Status) == mdp.NotTaken // it would refuse again at once
	w.wait()                                              // before the answer is written: to a peer it says how much is idle here
	if h.r != nil {
		h.r.dropHolder(w, nil)
		s.settle(batch, h.r, cmd, m)
	} else if status := mdp.Status(cmd.Head.Status); status != mdp.NotTaken && (status != mdp.Cancelled || h.moved) {
		s.stats.Late++
	}
	s.changed()
	s.dispatch(batch)
}

// settle applies a FINAL of a worker or a peer to a request it held, and was the
// last one to let go of. What a handler answers has run; a peer knows better than
// we do.
func (s *service) settle(batch *zsock.Batch, r *request, cmd *mdp.Command, m *zsock.Msg) {
	status := mdp.Status(cmd.Head.Status)
	switch {
	case status == mdp.OK:
		if cmd.Role == mdp.Worker { // of a peer's answer, most may be waiting
			run := r.last.worker.conn.arrival() - r.started
			s.mean.add(run)
			s.runs.add(run)
		}
		s.answer(batch, r, m.Body(cmd.Body))
		return
	case status == mdp.Cancelled && r.last.doubted: // we told it to
		s.stats.Late++
		s.lost(batch, r, mdp.WorkerLost, "cancelled after it was silent")
		return
	case status == mdp.NotTaken && r.begun() && !r.last.doubted: // it lies: it began to answer
		s.lost(batch, r, mdp.WorkerLost, "refused after it had begun to answer")
		return
	case status == mdp.NotTaken:
		if cmd.Role == mdp.Peer {
			r.flags |= cmd.Head.Flags & mdp.FlagOnce // what its workers wish
		}
		s.notTaken(batch, r)
		return
	}
	err := mdp.AnswerError(cmd).(*mdp.Error)
	if status == mdp.AppError && cmd.Role == mdp.Worker {
		s.runs.add(r.last.worker.conn.arrival() - r.started)
	}
	switch {
	case cmd.Role == mdp.Worker:
		err.MayHaveRun = true
		s.fail(batch, r, err)
	case status == mdp.WorkerLost || status == mdp.PeerLost || status == mdp.BrokerLost:
		r.flags |= cmd.Head.Flags & mdp.FlagOnce
		s.lost(batch, r, status, "at a peer: "+err.Text)
	case (status == mdp.Busy || status == mdp.NoWorker) && !err.MayHaveRun:
		s.notTaken(batch, r)
	default:
		s.fail(batch, r, err)
	}
}

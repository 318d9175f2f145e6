package broker

import (
	"errors"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// oneEmptyFrame stands in for a missing body: some foreign peers need at least
// one body frame, none minds an empty one (docs/PROTOCOL.md section 9).
var oneEmptyFrame = zsock.NewBody([]byte{})

func atLeastOneFrame(body zsock.Body) zsock.Body {
	if body.Frames() == 0 {
		return oneEmptyFrame
	}
	return body
}

// answer delivers the final answer of a handler and ends the request.
func (s *service) answer(batch *zsock.Batch, r *request, body zsock.Body) {
	s.stats.Answered++
	if len(r.from.collected) > 0 && r.from.local == nil {
		body = joinBodies(r.from.collected, body)
		defer body.Release()
	}
	s.conclude(batch, r, nil, body)
}

// fail ends the request with an error, which foreign clients are told only if it
// came from the handler itself.
func (s *service) fail(batch *zsock.Batch, r *request, err *mdp.Error) {
	if r.guest() && err.Status == mdp.NotTaken {
		s.stats.Returned++ // it goes on elsewhere
	} else {
		s.stats.Failed++
	}
	s.conclude(batch, r, err, zsock.Body{})
}

// conclude tells whoever waits for the request how it ended, and ends it.
func (s *service) conclude(batch *zsock.Batch, r *request, err *mdp.Error, body zsock.Body) {
	switch {
	case !r.from.detached:
	case err != nil && !err.MayHaveRun && r.from.conn != nil:
		s.b.detached.drop(r.id) // its client learns that nothing happened, and may ask again
	default:
		s.b.detached.done(r.id, err, body, s.b.now())
	}
	switch {
	case r.from.local != nil:
		r.from.local.finish(r.from.collected, body, err)
	case r.from.conn == nil: // detached
	case r.from.dialect == mdp.Native:
		cmd := mdp.Command{Kind: mdp.Final}
		if err != nil {
			cmd.SetError(err)
		}
		r.from.conn.reply(batch, s.address(r, &cmd), body)
	case err == nil:
		s.writeForeign(batch, r, mdp.Final, body)
	case err.Status == mdp.AppError:
		text := zsock.NewBody([]byte("ERROR"), []byte("520 "+err.Text))
		s.writeForeign(batch, r, mdp.Final, text)
		text.Release()
	default:
		s.b.count.foreignUnanswered.Add(1)
	}
	s.noteEnd(r, statusOf(err))
	s.finish(batch, r)
}

// statusOf is OK for a request that was answered.
func statusOf(err *mdp.Error) mdp.Status {
	if err == nil {
		return mdp.OK
	}
	return err.Status
}

// address fills in what the asking side knows its request by.
func (s *service) address(r *request, cmd *mdp.Command) *mdp.Command {
	from := &r.from
	cmd.Role, cmd.Dialect, cmd.Delimited, cmd.Envelope = from.role, from.dialect, from.delimited, from.envelope
	if from.dialect != mdp.Native {
		cmd.Service = s.nameFrame
		return cmd
	}
	cmd.Head.Token, cmd.Head.ID, cmd.Head.Attempt = from.token, r.id, max(r.answering, r.attempt)
	if cmd.Head.Status != 0 && r.deliveries > 0 { // who tries again must go on behind the highest
		cmd.Head.Attempt = max(cmd.Head.Attempt, r.nextAttempt()-1)
	}
	if from.role == mdp.Peer {
		now := s.b.now()
		cmd.Service = s.nameFrame
		load, need := s.wordFor(from.conn.link.Load(), now)
		cmd.Head.Load = load
		cmd.Head.Load.ElapsedMs = elapsedMs(r, now)
		cmd.Head.Flags |= need | r.flags&mdp.FlagOnce // a worker may have wished so: its home must know
	}
	return cmd
}

// reply writes a FINAL to a native peer, which waits for it: if it does not fit,
// an error does; a peer whose queue takes not even that is cut off, and knows.
func (c *conn) reply(batch *zsock.Batch, cmd *mdp.Command, body zsock.Body) {
	err := c.send(batch, cmd, body)
	if err == nil {
		return
	}
	c.b.count.answersDropped.Add(1)
	if errors.Is(err, zsock.ErrClosed) {
		return
	}
	cmd.SetError(undeliverable(err))
	if err := c.send(batch, cmd, zsock.Body{}); err != nil {
		c.z.Close(errSlow)
	}
}

// undeliverable is what the asking side is told of an answer that its connection
// does not take.
func undeliverable(err error) *mdp.Error {
	if isUnfit(err) {
		return &mdp.Error{Status: mdp.TooBig, Text: "the answer does not fit into a message", MayHaveRun: true}
	}
	e := busy("the answer was dropped: its connection is read too slowly")
	e.MayHaveRun = true
	return e
}

// writeForeign sends one answer to an MDP/0.1 or 0.2 client.
func (s *service) writeForeign(batch *zsock.Batch, r *request, kind mdp.Kind, body zsock.Body) {
	cmd := mdp.Command{Kind: kind}
	if err := r.from.conn.send(batch, s.address(r, &cmd), atLeastOneFrame(body)); err != nil {
		s.b.count.answersDropped.Add(1)
	}
}

// partial forwards one part of an answer, of the holder at index i. An answer with
// a hole in it would be worse than none: where a part cannot be passed on, the
// request fails.
func (s *service) partial(batch *zsock.Batch, r *request, i int, body zsock.Body) {
	r.answering = r.holders[i].attempt
	s.claim(batch, r, i)
	if r.from.collects() {
		s.collect(batch, r, body)
		return
	}
	if r.from.conn == nil {
		s.b.count.partialsDropped.Add(1) // detached: only the final answer is kept
		return
	}
	r.partials++
	cmd := mdp.Command{Kind: mdp.Partial}
	s.address(r, &cmd)
	if cmd.Dialect != mdp.Native {
		body = atLeastOneFrame(body)
	}
	if err := r.from.conn.send(batch, &cmd, body); err != nil && !errors.Is(err, zsock.ErrClosed) {
		s.b.count.partialsDropped.Add(1)
		s.fail(batch, r, undeliverable(err))
	}
}

// collect keeps a part until the final answer comes.
func (s *service) collect(batch *zsock.Batch, r *request, body zsock.Body) {
	size := int64(body.Cost())
	if err := s.noRoomForPart(r, int64(body.Size()), size); err != nil {
		s.b.count.partialsDropped.Add(1)
		err.MayHaveRun = true
		s.fail(batch, r, err)
		return
	}
	r.from.octets += int64(body.Size())
	r.from.kept += size
	s.hold(r, size)
	r.from.collected = append(r.from.collected, body.Hold())
}

// noRoomForPart is why another part of so many octets, which take size octets of memory,
// is not kept; nil if it is.
func (s *service) noRoomForPart(r *request, octets, size int64) *mdp.Error {
	switch {
	case len(r.from.collected) >= maxPartials, r.from.octets+octets > s.b.cfg.MaxMessage:
		return mdp.Errorf(mdp.TooBig, "the parts of the answer are more than one message takes")
	case s.bytes+size > s.b.cfg.MaxBytes:
		return busy("the service holds its maximum of octets")
	}
	if no := s.b.noRoom(r.account, r.account.Load(), size, s.b.held.Load()); no != "" {
		return busy(no)
	}
	return nil
}

// forgetCollected drops the parts of an answer that will not be finished.
func (s *service) forgetCollected(r *request) {
	if len(r.from.collected) == 0 {
		return
	}
	for _, p := range r.from.collected {
		p.Release()
	}
	s.hold(r, -r.from.kept)
	r.from.collected, r.from.octets, r.from.kept = nil, 0, 0
}

// joinBodies puts the frames of several bodies into a new one, which the caller releases.
func joinBodies(parts []zsock.Body, last zsock.Body) zsock.Body {
	var frames [][]byte
	for _, p := range parts {
		frames = p.Append(frames)
	}
	return zsock.NewBody(last.Append(frames)...)
}

package broker

import (
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// oneEmptyFrame stands in for a missing body: some foreign peers need at least
// one body frame, none minds an empty one (MDP-FACTS section 3).
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
	if r.from.detached {
		s.b.detached.done(r.id, nil, body, s.b.now())
	}
	switch {
	case r.from.local != nil:
		r.from.local.finish(body, nil)
	case r.from.conn != nil:
		s.write(batch, r, mdp.Final, nil, body)
	}
	s.finish(batch, r)
}

// fail ends the request with an error, which foreign clients are told only if it
// came from the handler itself.
func (s *service) fail(batch *zsock.Batch, r *request, err *mdp.Error) {
	s.stats.Failed++
	if r.from.detached {
		s.b.detached.done(r.id, err, zsock.Body{}, s.b.now())
	}
	switch {
	case r.from.local != nil:
		r.from.local.finish(zsock.Body{}, err)
	case r.from.conn == nil:
	case r.from.dialect == mdp.Native:
		s.write(batch, r, mdp.Final, err, zsock.Body{})
	case err.Status == mdp.AppError:
		body := zsock.NewBody([]byte("ERROR"), []byte("520 "+err.Text))
		s.write(batch, r, mdp.Final, nil, body)
		body.Release()
	default:
		s.b.count.foreignUnanswered.Add(1)
	}
	s.finish(batch, r)
}

// partial forwards one part of an answer. MDP/0.1 clients know a single reply, so
// theirs are collected and put in front of the final body.
func (s *service) partial(batch *zsock.Batch, r *request, body zsock.Body) {
	r.partials++
	switch {
	case r.from.local != nil || r.from.conn == nil:
	case r.from.dialect == mdp.V01 || r.from.dialect == mdp.Bare:
		s.collect(r, body)
	default:
		s.write(batch, r, mdp.Partial, nil, body)
	}
}

func (s *service) collect(r *request, body zsock.Body) {
	size := int64(body.Size())
	if len(r.from.collected) >= maxPartials || r.size+size > s.b.cfg.MaxMessage {
		s.b.count.partialsDropped.Add(1)
		return
	}
	r.size += size
	s.bytes += size
	s.b.held.Add(size)
	r.from.collected = append(r.from.collected, body.Hold())
}

// write sends one answer to the connection the request came by, in its dialect.
func (s *service) write(batch *zsock.Batch, r *request, kind mdp.Kind, err *mdp.Error, body zsock.Body) {
	from := &r.from
	cmd := mdp.Command{Role: from.role, Kind: kind, Dialect: from.dialect, Delimited: from.delimited, Envelope: from.envelope}
	if from.dialect == mdp.Native {
		cmd.Head = mdp.Head{Token: from.token, ID: r.id, Attempt: r.attempt + uint16(max(r.deliveries, 1)-1)}
		if from.role == mdp.Peer {
			cmd.Service = s.nameFrame
			cmd.Head.Load = s.loadFor(from.conn.link.Load(), s.b.now()-r.entered)
		}
		if err != nil {
			cmd.SetError(err)
		}
	} else {
		cmd.Service = s.nameFrame
		if len(from.collected) > 0 {
			body = joinBodies(from.collected, body)
			defer body.Release()
		}
		body = atLeastOneFrame(body)
	}
	if err := from.conn.send(batch, &cmd, body); err != nil {
		s.b.count.answersDropped.Add(1) // its reader is stuck or gone: liveness ends it
	}
}

// joinBodies puts the frames of several bodies into a new one, which the caller releases.
func joinBodies(parts []zsock.Body, last zsock.Body) zsock.Body {
	var frames [][]byte
	for _, p := range parts {
		frames = p.Append(frames)
	}
	return zsock.NewBody(last.Append(frames)...)
}

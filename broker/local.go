package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// localCall is a request made inside the process; its channel gets one answer.
type localCall struct{ done chan localAnswer }

type localAnswer struct {
	body [][]byte
	err  error
}

// finish is called under the service's mutex: it copies and never blocks.
func (l *localCall) finish(body zsock.Body, err *mdp.Error) {
	var a localAnswer
	if err != nil {
		a.err = err
	} else {
		a.body = cloneFrames(body.Append(nil))
	}
	l.done <- a
}

// Call runs one request from inside the process, as POST /call does. It blocks
// until the answer, the deadline of ctx or its end; body frames are copied, and the
// answer is all partials and the final together. Errors are *mdp.Error.
func (b *Broker) Call(ctx context.Context, service string, body ...[]byte) ([][]byte, error) {
	return b.call(ctx, service, 0, body)
}

// call is Call with flags of the request.
func (b *Broker) call(ctx context.Context, service string, flags uint8, body [][]byte) ([][]byte, error) {
	if n := len(service); n == 0 || n > mdp.MaxService {
		return nil, fmt.Errorf("call: %w", mdp.Errorf(mdp.BadRequest, "a service name has 1 to 255 octets"))
	}
	if isMMI([]byte(service)) {
		return [][]byte{b.mmi(service, body)}, nil
	}
	call := &localCall{done: make(chan localAnswer, 1)}
	ref, err := b.enterLocal(ctx, call, service, flags, body)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", service, err)
	}
	a := b.awaitLocal(ctx, call, ref)
	if a.err != nil {
		return nil, fmt.Errorf("call %s: %w", service, a.err)
	}
	return a.body, nil
}

// awaitLocal waits for the answer, or gives the request up when ctx ends.
func (b *Broker) awaitLocal(ctx context.Context, call *localCall, ref requestRef) localAnswer {
	select {
	case a := <-call.done:
		return a
	case <-ctx.Done():
	}
	err := b.endLocal(ref, call, errors.Is(ctx.Err(), context.DeadlineExceeded))
	if err == nil {
		return <-call.done // it came just now
	}
	return localAnswer{err: err}
}

// enterLocal admits and places a request made inside the process.
func (b *Broker) enterLocal(ctx context.Context, call *localCall, service string, flags uint8, body [][]byte) (requestRef, error) {
	switch {
	case b.draining.Load():
		return requestRef{}, mdp.Errorf(mdp.NotTaken, "the broker is shutting down")
	case flags&mdp.FlagNoWait != 0 && b.find([]byte(service)) == nil: // no need to remember the name
		return requestRef{}, mdp.Errorf(mdp.NoWorker, "nobody offers %q", service)
	}
	s, err := b.require(nil, []byte(service), 0)
	if err != nil {
		return requestRef{}, err
	}
	var batch zsock.Batch
	defer batch.Flush() // after the unlocking below
	defer s.mu.Unlock()
	now := b.now()
	encoded := zsock.NewBody(body...)
	r, err := s.admit(&batch, nil, int64(encoded.Cost()), now)
	if err != nil {
		encoded.Release()
		return requestRef{}, err
	}
	r.body, r.from = encoded, origin{local: call, role: mdp.Client, dialect: mdp.Native}
	r.id, r.flags, r.attempt, r.hops = b.nextID(), flags, 1, homeHops
	if deadline, ok := ctx.Deadline(); ok {
		r.deadline = later(now, max(time.Until(deadline), 1))
	}
	ref := requestRef{s, r.token()}
	s.place(&batch, r, now)
	return ref, nil
}

// endLocal ends a request that nobody waits for any more, because its deadline has
// passed or for another reason, and returns what is to be said of it; nil if it was
// answered meanwhile.
func (b *Broker) endLocal(ref requestRef, call *localCall, late bool) *mdp.Error {
	var batch zsock.Batch
	defer batch.Flush()
	ref.s.mu.Lock()
	defer ref.s.mu.Unlock()
	r := ref.s.table.find(ref.token)
	if r == nil || r.from.local != call {
		return nil
	}
	err := &mdp.Error{Status: mdp.Cancelled, Text: "the caller gave up", MayHaveRun: r.mayHaveRun()}
	if late {
		err = ref.s.late(r)
		ref.s.stats.Expired++
		ref.s.stats.Failed++
	} else {
		ref.s.stats.Cancelled++
	}
	ref.s.noteEnd(r, err.Status)
	ref.s.finish(&batch, r)
	return err
}

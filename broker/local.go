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
	if n := len(service); n == 0 || n > mdp.MaxService {
		return nil, fmt.Errorf("call: %w", mdp.Errorf(mdp.BadRequest, "a service name has 1 to 255 octets"))
	}
	if isMMI([]byte(service)) {
		return [][]byte{b.mmi(service, body)}, nil
	}
	call := &localCall{done: make(chan localAnswer, 1)}
	ref, err := b.enterLocal(ctx, call, service, body)
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
	mayHaveRun, found := b.cancelLocal(ref, call)
	if !found {
		return <-call.done // it came just now
	}
	status := mdp.Cancelled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		status = mdp.Expired
	}
	return localAnswer{err: &mdp.Error{Status: status, Text: "no answer in time", MayHaveRun: mayHaveRun}}
}

// enterLocal admits and places a request made inside the process.
func (b *Broker) enterLocal(ctx context.Context, call *localCall, service string, body [][]byte) (requestRef, error) {
	if b.draining.Load() {
		return requestRef{}, mdp.Errorf(mdp.NotTaken, "the broker is shutting down")
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
	r.id, r.attempt, r.hops = b.nextID(), 1, homeHops
	if deadline, ok := ctx.Deadline(); ok {
		r.deadline = now + max(int64(time.Until(deadline)), 1)
	}
	ref := requestRef{s, r.token()}
	s.place(&batch, r, now)
	return ref, nil
}

// cancelLocal ends the request unless it was answered meanwhile.
func (b *Broker) cancelLocal(ref requestRef, call *localCall) (mayHaveRun, found bool) {
	var batch zsock.Batch
	defer batch.Flush()
	ref.s.mu.Lock()
	defer ref.s.mu.Unlock()
	r := ref.s.table.find(ref.token)
	if r == nil || r.from.local != call {
		return false, false
	}
	mayHaveRun = r.mayHaveRun()
	ref.s.stats.Cancelled++
	ref.s.finish(&batch, r)
	return mayHaveRun, true
}

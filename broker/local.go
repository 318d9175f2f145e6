package broker

import (
	"context"
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
// until the answer, the deadline of ctx or its end; body frames are copied.
// Errors are *mdp.Error.
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
	select {
	case a := <-call.done:
		if a.err != nil {
			return nil, fmt.Errorf("call %s: %w", service, a.err)
		}
		return a.body, nil
	case <-ctx.Done():
		b.cancelLocal(ref, call)
		return nil, fmt.Errorf("call %s: %w", service, &mdp.Error{Status: mdp.Expired, Text: "no answer in time", MayHaveRun: true})
	}
}

func (b *Broker) enterLocal(ctx context.Context, call *localCall, service string, body [][]byte) (requestRef, error) {
	if b.draining.Load() {
		return requestRef{}, mdp.Errorf(mdp.NotTaken, "the broker is shutting down")
	}
	s, err := b.require(nil, []byte(service))
	if err != nil {
		return requestRef{}, err
	}
	var batch zsock.Batch
	defer batch.Flush()
	defer s.mu.Unlock()
	encoded := zsock.NewBody(body...)
	r, err := s.admit(int64(encoded.Size()))
	if err != nil {
		encoded.Release()
		return requestRef{}, err
	}
	r.body, r.from = encoded, origin{local: call, role: mdp.Client, dialect: mdp.Native}
	r.id, r.attempt, r.hops = b.nextID(), 1, homeHops
	if deadline, ok := ctx.Deadline(); ok {
		r.deadline = r.entered + max(int64(time.Until(deadline)), 1)
	}
	ref := requestRef{s, r.token()}
	s.place(&batch, r)
	return ref, nil
}

func (b *Broker) cancelLocal(ref requestRef, call *localCall) {
	var batch zsock.Batch
	defer batch.Flush()
	ref.s.mu.Lock()
	defer ref.s.mu.Unlock()
	if r := ref.s.table.find(ref.token); r != nil && r.from.local == call {
		ref.s.stats.Cancelled++
		ref.s.finish(&batch, r)
		ref.s.dispatch(&batch)
	}
}

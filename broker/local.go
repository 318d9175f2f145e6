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

// localAnswer is an answer, in all its parts, or an error. Whoever got it releases it.
type localAnswer struct {
	parts []zsock.Body
	err   error
}

// finish is called under the service's mutex: it never blocks, and leaves it to the caller
// to copy what is large.
func (l *localCall) finish(parts []zsock.Body, last zsock.Body, err *mdp.Error) {
	var a localAnswer
	if err != nil {
		a.err = err
	} else {
		for _, p := range parts {
			a.parts = append(a.parts, p.Hold())
		}
		a.parts = append(a.parts, last.Hold())
	}
	l.done <- a
}

// frames are the payloads, as views that are valid until release.
func (a *localAnswer) frames() (all [][]byte) {
	for _, p := range a.parts {
		all = p.Append(all)
	}
	return all
}

// cost is the memory that the answer keeps, in octets.
func (a *localAnswer) cost() (n int64) {
	for _, p := range a.parts {
		n += int64(p.Cost())
	}
	return n
}

func (a *localAnswer) release() {
	for _, p := range a.parts {
		p.Release()
	}
}

// Call runs one request from inside the process, as POST /call does. It blocks
// until the answer, the deadline of ctx or its end; body frames are copied, and the
// answer is all partials and the final together. Errors are *mdp.Error.
func (b *Broker) Call(ctx context.Context, service string, body ...[]byte) ([][]byte, error) {
	a, err := b.call(ctx, service, 0, body)
	if err != nil {
		return nil, err
	}
	defer a.release()
	return cloneFrames(a.frames()), nil
}

// call is Call with flags of the request. Without an error the answer is to be released.
func (b *Broker) call(ctx context.Context, service string, flags uint8, body [][]byte) (localAnswer, error) {
	if n := len(service); n == 0 || n > mdp.MaxService {
		return localAnswer{}, fmt.Errorf("call: %w", mdp.Errorf(mdp.BadRequest, "a service name has 1 to 255 octets"))
	}
	if isMMI([]byte(service)) {
		return localAnswer{parts: []zsock.Body{zsock.NewBody(b.mmi(service, body))}}, nil
	}
	call := &localCall{done: make(chan localAnswer, 1)}
	ref, err := b.enterLocal(ctx, call, service, flags, body)
	if err != nil {
		b.noteRefused(service, "", "", err)
		return localAnswer{}, fmt.Errorf("call %s: %w", service, err)
	}
	a := b.awaitLocal(ctx, call, ref)
	if a.err != nil {
		return localAnswer{}, fmt.Errorf("call %s: %w", service, a.err)
	}
	return a, nil
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
func (b *Broker) enterLocal(ctx context.Context, call *localCall, service string, flags uint8, body [][]byte) (requestRef, *mdp.Error) {
	switch {
	case b.draining.Load():
		return requestRef{}, mdp.Errorf(mdp.NotTaken, "the broker is shutting down")
	case flags&mdp.FlagNoWait != 0 && b.find([]byte(service)) == nil: // no need to remember the name
		return requestRef{}, mdp.Errorf(mdp.NoWorker, "nobody offers %q", service)
	}
	encoded := zsock.NewBody(body...) // before anybody waits for the mutex: it may be large
	s, err := b.require(nil, []byte(service), 0)
	if err != nil {
		encoded.Release()
		return requestRef{}, err
	}
	var batch zsock.Batch
	defer batch.Flush() // after the unlocking below
	defer s.mu.Unlock()
	now := b.now()
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
	s.submit(&batch, r, now)
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

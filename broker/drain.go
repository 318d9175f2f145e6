package broker

import (
	"context"
	"slices"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// goodbyeTime bounds the wait, at the very end, for connections to take their last
// answers and close.
const goodbyeTime = 2 * time.Second

// drain lets go of the work in hand and of the peers around, in order.
func (b *Broker) drain(ctx context.Context) {
	b.draining.Store(true)
	b.log.Info("draining", "requests", b.liveRequests())
	for _, l := range b.listeners {
		l.z.StopAccepting()
	}
	var batch zsock.Batch
	b.announceDrain(&batch, b.allConns())
	batch.Flush()
	if !wait(ctx, b.drained, b.cfg.DrainTimeout) {
		b.log.Warn("drain timed out", "requests", b.liveRequests())
	}
	b.giveUp(&batch)
	for _, c := range b.allConns() {
		c.sayGoodbye(&batch)
	}
	batch.Flush()
	b.mu.Lock()
	b.leaving = true
	b.closeIfEmptyLocked()
	b.mu.Unlock()
	wait(ctx, b.empty, goodbyeTime)
}

// announceDrain tells everybody, and sends elsewhere what waits.
func (b *Broker) announceDrain(batch *zsock.Batch, conns []*conn) {
	for _, c := range conns {
		c.tellDrain(batch)
	}
	for _, s := range b.allServices() {
		s.shed(batch)
	}
}

// wait waits for done, and reports false if limit or ctx was sooner.
func wait(ctx context.Context, done <-chan struct{}, limit time.Duration) bool {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case <-done:
		return true
	case <-timeout.C:
	case <-ctx.Done():
	}
	return false
}

func (b *Broker) closeIfEmptyLocked() {
	if !b.leaving || len(b.conns) > 0 {
		return
	}
	select {
	case <-b.empty:
	default:
		close(b.empty)
	}
}

// tellDrain asks native clients, workers and peers to go elsewhere.
func (c *conn) tellDrain(batch *zsock.Batch) {
	if role := c.nativeRole(); role != 0 {
		c.sendControl(batch, &mdp.Command{Role: role, Kind: mdp.Drain})
	}
}

// sayGoodbye ends a connection: workers learn it by DISCONNECT or BYE.
func (c *conn) sayGoodbye(batch *zsock.Batch) {
	if w := c.worker.Load(); w != nil && w.dialect != mdp.Native {
		c.disconnect(batch, w.dialect, w.delimited)
	} else if role := c.nativeRole(); role != 0 {
		c.sendControl(batch, &mdp.Command{Role: role, Kind: mdp.Bye})
	}
	c.z.CloseAfterFlush(errDrained)
}

// nativeRole is the native half this connection speaks, or 0.
func (c *conn) nativeRole() mdp.Role {
	w := c.worker.Load()
	switch {
	case c.link.Load() != nil:
		return mdp.Peer
	case w != nil && w.dialect == mdp.Native:
		return mdp.Worker
	case c.client.Load() != nil:
		return mdp.Client
	}
	return 0
}

// shed sends waiting requests elsewhere: back to native clients and peers, which
// know other brokers; others, and those that may have run, to linked brokers. What
// no peer takes may still find a worker until the end.
func (s *service) shed(batch *zsock.Batch) {
	now := s.b.now()
	s.inPortions(batch, s.waiting, func(r *request) {
		if !r.waits() {
			return // somebody took it meanwhile
		}
		back := r.from.conn != nil && r.from.dialect == mdp.Native && !r.mayHaveRun()
		if back || !s.offload(batch, r, now) && r.guest() {
			s.fail(batch, r, &mdp.Error{Status: mdp.NotTaken, Text: "the broker is shutting down", MayHaveRun: r.mayHaveRun()})
		}
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed()
}

// giveUp answers everything that is left at the end of the drain: what took too long,
// and what waits though nobody is left who could take it.
func (b *Broker) giveUp(batch *zsock.Batch) {
	for _, s := range b.allServices() {
		s.giveUp(batch)
	}
}

func (s *service) giveUp(batch *zsock.Batch) {
	s.inPortions(batch, s.table.all, func(r *request) {
		err := &mdp.Error{Status: mdp.NotTaken, Text: "the broker is shutting down"}
		if r.mayHaveRun() {
			err = &mdp.Error{Status: mdp.BrokerLost, Text: "the broker has stopped before the answer came", MayHaveRun: true}
		}
		s.fail(batch, r, err)
	})
}

// inPortions does something to each of the listed requests, as far as they are there
// when it comes to them: now and then it lets go of the service's mutex and writes what
// that has caused, which may all be for one peer. Call it without the mutex.
func (s *service) inPortions(batch *zsock.Batch, list func() []*request, do func(*request)) {
	var tokens []uint64
	s.mu.Lock()
	for _, r := range list() {
		tokens = append(tokens, r.token())
	}
	s.mu.Unlock()
	for some := range slices.Chunk(tokens, portion) {
		s.mu.Lock()
		for _, token := range some {
			if r := s.table.find(token); r != nil {
				do(r)
			}
		}
		s.mu.Unlock()
		batch.Flush()
	}
}

// offeredElsewhere tells whether a linked broker takes requests for the service.
func (b *Broker) offeredElsewhere(name []byte) bool {
	s := b.find(name)
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.offeredByPeer(b.now())
}

// checkDrained ends the drain as soon as nothing is left that can be answered. It
// is called by the ticker.
func (b *Broker) checkDrained(services []*service, now int64) {
	if !b.draining.Load() {
		return
	}
	for _, s := range services {
		if s.pending(now) {
			return
		}
	}
	select {
	case <-b.drained:
	default:
		close(b.drained)
	}
}

// pending tells whether any request of the service may still be answered: it is
// held by somebody, or waits where somebody works.
func (s *service) pending(now int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.table.live > s.queued() || s.queued() > 0 && s.offered(now)
}

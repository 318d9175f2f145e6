package ingest

import (
	"context"
	"time"
)

// item is one record on its way to transform.
type item struct {
	conn    *conn
	slot    uint64
	line    []byte // the record as JSON, with its id, without a line end
	key     key    // key.id is "" when ingest made the id: then it meets no other
	content content
}

// key is what makes two records the same one.
type key struct{ series, id string }

// content is what may differ between records of one key.
type content struct {
	time  time.Time
	value float64
	rev   int64
}

// batch is what goes out in one call.
type batch struct {
	items []item
	bytes int
}

// holder counts the items of one key that are on their way, all of one content.
type holder struct {
	content content
	items   int
}

// batcher gathers the records of all connections into batches. One goroutine
// owns all of it; a batch that has left belongs to the goroutine that delivers
// it until that hands it back on finished.
//
// Two records of one key with other content never travel at the same time:
// which of them comes first decides about "conflict", so the second waits
// until the first is answered. That holds within one batch, too, because a
// batch may be sent twice, and then its first record would meet its second.
type batcher struct {
	srv      *Server
	finished chan *batch

	cur      *batch
	waiting  *item // kept back; nothing else is taken meanwhile
	keys     map[key]holder
	running  int
	due      bool // cur has waited for BatchDelay
	open     bool // more may come on submit
	dueTimer *time.Timer
}

func newBatcher(s *Server) *batcher {
	return &batcher{
		srv:      s,
		finished: make(chan *batch, s.cfg.Batches),
		cur:      &batch{},
		keys:     make(map[key]holder),
		open:     true,
	}
}

// run gathers until submit is closed and every batch has come back. work is the
// context of the calls.
func (b *batcher) run(work context.Context) {
	b.dueTimer = time.NewTimer(b.srv.cfg.BatchDelay)
	defer b.dueTimer.Stop()
	for b.open || b.waiting != nil || len(b.cur.items) > 0 || b.running > 0 {
		submit := b.srv.submit
		if !b.open || b.waiting != nil || b.full() {
			submit = nil
		}
		select { // what is already here comes first: it may share a call
		case it, ok := <-submit:
			b.take(it, ok)
			continue
		case done := <-b.finished:
			b.settle(done)
			continue
		default:
		}
		if b.ready() {
			b.send(work)
			continue
		}
		select {
		case it, ok := <-submit:
			b.take(it, ok)
		case done := <-b.finished:
			b.settle(done)
		case <-b.dueTimer.C:
			b.due = true
		}
	}
}

// full tells that cur takes no further record.
func (b *batcher) full() bool {
	return len(b.cur.items) >= b.srv.cfg.BatchRecords || b.cur.bytes >= b.srv.cfg.BatchBytes
}

// ready tells that cur should leave now. With nothing under way there is nothing
// to gain by waiting.
func (b *batcher) ready() bool {
	if len(b.cur.items) == 0 || b.running >= b.srv.cfg.Batches {
		return false
	}
	return b.running == 0 || b.full() || b.due || b.waiting != nil || !b.open
}

// take adds a record to cur, or keeps it back; ok is false at the end of submit.
func (b *batcher) take(it item, ok bool) {
	if !ok {
		b.open = false
		return
	}
	if it.key.id != "" {
		h, known := b.keys[it.key]
		if known && h.content != it.content {
			b.waiting = &it
			return
		}
		b.keys[it.key] = holder{it.content, h.items + 1}
	}
	if len(b.cur.items) == 0 {
		b.due = false
		b.dueTimer.Reset(b.srv.cfg.BatchDelay)
	}
	b.cur.items = append(b.cur.items, it)
	b.cur.bytes += len(it.line) + 1
}

// send hands cur to a goroutine of its own, which ends by handing it back.
func (b *batcher) send(work context.Context) {
	out := b.cur
	b.cur = &batch{items: make([]item, 0, len(out.items))}
	b.running++
	b.srv.batching.Add(1)
	go func() {
		b.srv.deliver(work, out)
		b.finished <- out
	}()
}

// settle frees the keys of a batch that is done, and with them what waited.
func (b *batcher) settle(done *batch) {
	b.running--
	b.srv.batching.Add(-1)
	for _, it := range done.items {
		if it.key.id == "" {
			continue
		}
		if h := b.keys[it.key]; h.items > 1 {
			b.keys[it.key] = holder{h.content, h.items - 1}
		} else {
			delete(b.keys, it.key)
		}
	}
	if it := b.waiting; it != nil {
		b.waiting = nil
		b.take(*it, true)
	}
}

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
	alone []item // of items: not answered yet, and to be tried alone
	lone  bool   // is one record that is tried alone
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
// Records of other keys pass by.
type batcher struct {
	srv      *Server
	finished chan *batch

	cur      *batch
	keys     map[key]holder
	behind   map[key][]item // wait for what holds their key, in the order they came
	freed    []item         // have waited, and go before all that comes
	running  int
	alone    int
	due      bool // cur should not wait for more
	open     bool // more may come on submit
	dueTimer *time.Timer
}

func newBatcher(s *Server) *batcher {
	return &batcher{
		srv:      s,
		finished: make(chan *batch, s.cfg.Batches+maxAlone),
		cur:      &batch{},
		keys:     make(map[key]holder),
		behind:   make(map[key][]item),
		open:     true,
	}
}

// run gathers until submit is closed and every batch has come back. work is the
// context of the calls. What waits behind another record needs no word in the
// condition: that one is gathered or under way.
func (b *batcher) run(work context.Context) {
	b.dueTimer = time.NewTimer(b.srv.cfg.BatchDelay)
	defer b.dueTimer.Stop()
	for b.open || len(b.freed) > 0 || len(b.cur.items) > 0 || b.running+b.alone > 0 {
		for len(b.freed) > 0 && !b.full() {
			b.add(b.freed[0])
			b.freed = b.freed[1:]
		}
		submit := b.srv.submit
		if !b.open || b.full() {
			submit = nil
		}
		select { // what is already here comes first: it may share a call
		case it, ok := <-submit:
			b.take(it, ok)
			continue
		case done := <-b.finished:
			b.settle(work, done)
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
			b.settle(work, done)
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
	return b.running == 0 || b.full() || b.due || !b.open
}

// take adds a record to cur, or has it wait; ok is false at the end of submit.
func (b *batcher) take(it item, ok bool) {
	if !ok {
		b.open = false
		return
	}
	h, known := b.keys[it.key]
	if known && (h.content != it.content || len(b.behind[it.key]) > 0) {
		b.behind[it.key] = append(b.behind[it.key], it)
		b.due = true // what it waits for may be in cur
		return
	}
	b.add(it)
}

// add puts a record into cur.
func (b *batcher) add(it item) {
	if len(b.cur.items) == 0 {
		b.due = false
		b.dueTimer.Reset(b.srv.cfg.BatchDelay)
	}
	b.hold(it)
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

// sendAlone does the same with one record, beside the batches.
func (b *batcher) sendAlone(work context.Context, it item) {
	b.alone++
	b.srv.batching.Add(1)
	go func() {
		b.srv.deliverAlone(work, it)
		b.finished <- &batch{items: []item{it}, lone: true}
	}()
}

// settle frees the keys of a batch that is done, and with them what waited.
func (b *batcher) settle(work context.Context, done *batch) {
	b.srv.batching.Add(-1)
	if done.lone {
		b.alone--
		<-b.srv.places
	} else {
		b.running--
	}
	for _, it := range done.alone {
		b.hold(it)
		b.sendAlone(work, it)
	}
	for _, it := range done.items {
		b.letGo(it)
	}
}

// hold notes that one more item of its key is on its way.
func (b *batcher) hold(it item) {
	if it.key.id != "" {
		b.keys[it.key] = holder{it.content, b.keys[it.key].items + 1}
	}
}

// letGo undoes hold. After the last item of a key those that waited for it may go:
// the first, and what follows it with the same content.
func (b *batcher) letGo(it item) {
	h, known := b.keys[it.key]
	if !known {
		return
	}
	if h.items > 1 {
		b.keys[it.key] = holder{h.content, h.items - 1}
		return
	}
	delete(b.keys, it.key)
	waiting := b.behind[it.key]
	n := 0
	for n < len(waiting) && waiting[n].content == waiting[0].content {
		n++
	}
	b.freed = append(b.freed, waiting[:n]...)
	if b.behind[it.key] = waiting[n:]; n == len(waiting) {
		delete(b.behind, it.key)
	}
}

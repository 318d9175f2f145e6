package broker

// place is where an element stands in a doubly linked list.
type place[T any] struct{ next, prev *T }

// list is an intrusive doubly linked list: a request or worker carries its own
// places, so that queueing allocates nothing and leaving is O(1).
type list[T any] struct {
	first, last *T
	n           int
	place       func(*T) *place[T]
}

func (l *list[T]) pushBack(e *T) { l.insertBefore(nil, e) }

// insertBefore puts e before the element at, or last if at is nil.
func (l *list[T]) insertBefore(at, e *T) {
	p := l.place(e)
	p.next, p.prev = at, l.last
	if at != nil {
		p.prev = l.place(at).prev
		l.place(at).prev = e
	} else {
		l.last = e
	}
	if p.prev != nil {
		l.place(p.prev).next = e
	} else {
		l.first = e
	}
	l.n++
}

func (l *list[T]) remove(e *T) {
	p := l.place(e)
	if p.prev == nil {
		l.first = p.next
	} else {
		l.place(p.prev).next = p.next
	}
	if p.next == nil {
		l.last = p.prev
	} else {
		l.place(p.next).prev = p.prev
	}
	*p = place[T]{}
	l.n--
}

func queuePlace(r *request) *place[request]  { return &r.waiting }
func wheelPlace(r *request) *place[request]  { return &r.wheel }
func clientPlace(r *request) *place[request] { return &r.ofClient }
func allPlace(w *worker) *place[worker]      { return &w.all }
func unheardPlace(w *worker) *place[worker]  { return &w.place }
func waitingPlace(w *worker) *place[worker]  { return &w.waiting }

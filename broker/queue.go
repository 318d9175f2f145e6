package broker

import "time"

// Bounds on a client's turn.
const (
	turnTime = time.Millisecond
	maxTurn  = 4
)

// queue holds requests that nobody holds, in a line for each client. Clients take
// turns, so that the backlog of one does not delay the first request of another. A
// turn is one request, or a few where requests are quick (service.turnLength).
// A client is a connection: of a peer it carries the requests of one home, and all
// calls made inside the process are one client. Guarded by the service's mutex.
//
// The lines of peers go by age instead, as long as none is passed over for long: their
// requests have taken turns at home, and where a pool of brokers is to be like one
// queue, who came first must go first.
type queue struct {
	n     int
	byAge bool
	lines map[*conn]*line
	turns list[line] // those with something in them; the first one is next
	clock *uint64    // of the service: order of turns over all its queues
}

// line is what one client waits for: oldest first, what was given back at the front.
type line struct {
	queue    *queue
	requests list[request]
	octets   int64
	stamp    uint64 // when it got in line for its turn
	left     int    // requests that its turn still has, if it has begun
	turn     place[line]
}

func (q *queue) init(clock *uint64, byAge bool) {
	q.clock, q.byAge = clock, byAge
	q.lines = make(map[*conn]*line)
	q.turns.place = turnPlace
}

func turnPlace(l *line) *place[line] { return &l.turn }

// line finds or adds the line of a client.
func (q *queue) line(client *conn) *line {
	l := q.lines[client]
	if l == nil {
		l = &line{queue: q}
		l.requests.place = queuePlace
		q.lines[client] = l
	}
	return l
}

// insert files a request in its client's line before another one, or last if that
// is nil.
func (l *line) insert(before, r *request) {
	l.requests.insertBefore(before, r)
	l.octets += r.size
	l.queue.n++
	r.line = l
	switch {
	case l.requests.n > 1:
	case l.left > 0: // its turn is not over: a client with one call at once gets as many
		l.queue.turns.insertBefore(l.queue.turns.first, l)
	default:
		l.getInLine()
	}
}

// remove takes out a request that nobody takes.
func (l *line) remove(r *request) {
	l.requests.remove(r)
	l.octets -= r.size
	l.queue.n--
	r.line = nil
	if l.requests.n == 0 {
		l.queue.turns.remove(l)
	}
}

// serve takes out a request for somebody. With the last one of its turn, which has so
// many, it is the next client's.
func (l *line) serve(r *request, turn int) {
	l.remove(r)
	if l.left == 0 { // the turn begins
		l.left = turn
	}
	if l.left = min(l.left, turn) - 1; l.left == 0 && l.requests.n > 0 {
		l.queue.turns.remove(l)
		l.getInLine()
	}
}

// first tells whether the request waits before all others of its client.
func (r *request) first() bool { return r.line != nil && r.line.requests.first == r }

func (l *line) getInLine() {
	*l.queue.clock++
	l.stamp = *l.queue.clock
	l.queue.turns.pushBack(l)
}

// maxPassed is how many turns of others, older ones, may go before a line where age
// decides: more than a healthy queue is long, or age would not decide after all.
const maxPassed = 1_000

// passed tells whether it is the line's turn, however young its requests are.
func (l *line) passed() bool { return *l.queue.clock-l.stamp > maxPassed }

// next is the request whose turn it is, or nil.
func (q *queue) next() *request {
	l := q.turns.first
	if l == nil {
		return nil
	}
	if q.byAge && !l.passed() {
		for k := l.turn.next; k != nil; k = k.turn.next {
			if k.requests.first.entered < l.requests.first.entered {
				l = k
			}
		}
	}
	return l.requests.first
}

// before tells which of two requests that are next in their queues goes first: the
// older one, or the one whose line has been passed over for too long.
func (r *request) before(other *request) bool {
	if r.line.passed() || other.line.passed() {
		return r.line.stamp < other.line.stamp
	}
	return r.entered < other.entered
}

// after finds the first request that may be taken among those that have skip others
// before them, as clients take turns of one, or nil. It looks at so many at most, of
// requests and of lines without any; where there are too many to walk past, at later ones.
func (q *queue) after(skip, looks int, may func(*request) bool) *request {
	if q.n <= skip {
		return nil
	}
	depth, deeper := skip/q.turns.n, skip%q.turns.n
	steps := looks
	for l := q.turns.first; l != nil && looks > 0; l = l.turn.next {
		d := depth
		if deeper > 0 {
			deeper--
			d++
		}
		r := l.past(d, &steps)
		if r == nil {
			looks--
		}
		for ; r != nil && looks > 0; r = r.waiting.next {
			if may(r) {
				return r
			}
			looks--
		}
	}
	return nil
}

// past is the first request of the line that has skip others before it, or nil. If that
// is more steps away from both ends than there are left, it is a later one.
func (l *line) past(skip int, steps *int) *request {
	behind := l.requests.n - 1 - skip
	if behind < 0 {
		return nil
	}
	if skip <= behind && skip <= *steps {
		*steps -= skip
		r := l.requests.first
		for ; skip > 0; skip-- {
			r = r.waiting.next
		}
		return r
	}
	r := l.requests.last
	for n := min(behind, *steps); n > 0; n-- {
		*steps--
		r = r.waiting.prev
	}
	return r
}

// sweep forgets the lines of clients that wait for nothing.
func (q *queue) sweep() {
	for client, l := range q.lines {
		if l.requests.n == 0 {
			delete(q.lines, client)
		}
	}
}

// oldest is when the request that waits longest entered, 0 if none waits. It looks
// at so many lines at most, in turn.
func (q *queue) oldest(lines int) (entered int64) {
	for l := q.turns.first; l != nil && lines > 0; l, lines = l.turn.next, lines-1 {
		if r := l.requests.first; entered == 0 || r.entered < entered {
			entered = r.entered
		}
	}
	return entered
}

// append adds all requests to dst.
func (q *queue) append(dst []*request) []*request {
	for l := q.turns.first; l != nil; l = l.turn.next {
		for r := l.requests.first; r != nil; r = r.waiting.next {
			dst = append(dst, r)
		}
	}
	return dst
}

// turnLength is how many requests a client's turn has: as many as a worker serves in
// turnTime, at most maxTurn. Of quick requests it is the messages that cost, and those
// that are answered together travel together.
func (s *service) turnLength() int {
	mean := s.mean.duration()
	if mean == 0 {
		return 1 // nothing is known yet
	}
	return int(min(max(turnTime/mean, 1), maxTurn))
}

// share is the part of its service's room that the line takes up, of requests or of
// octets, whichever is more.
func (l *line) share(cfg *Config) float64 {
	if l == nil {
		return 0
	}
	return share(l.requests.n, l.octets, cfg)
}

func share(requests int, octets int64, cfg *Config) float64 {
	return max(float64(requests)/float64(cfg.MaxRequests), float64(octets)/float64(cfg.MaxBytes))
}

// longest is the line that takes up most, nearly: it is looked for again when the
// last one found has shrunk to half, so that finding it costs little.
type longest struct {
	line  *line
	share float64
}

func (s *service) findLongest() *line {
	cfg := &s.b.cfg
	if s.longest.line != nil && s.longest.line.share(cfg) >= s.longest.share/2 {
		return s.longest.line
	}
	s.longest = longest{}
	for _, q := range [...]*queue{&s.own, &s.guests} {
		for l := q.turns.first; l != nil; l = l.turn.next {
			if share := l.share(cfg); share > s.longest.share {
				s.longest = longest{l, share}
			}
		}
	}
	return s.longest.line
}

package broker

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// The policy of sharing work with linked brokers: what each tells the others, what
// it believes of them, whom it sends a request to (choice.go) and what it moves
// later. Nothing here does I/O, knows a clock or a lock: the service's mutex guards
// the state, times come in as arguments, and a simulation runs the same code.

// standing is what a broker holds of itself for one service, as peers are told.
// Workers of scope local are not counted.
type standing struct {
	idle    int // places free now
	queue   int
	workers int // places in all
	mean    time.Duration
	need    bool  // nothing is idle here
	once    bool  // some worker runs what it is given at most once
	oldest  int64 // when the request that waits longest entered, 0 if none waits
}

// way is the road to a neighbour.
type way struct {
	oneWay   time.Duration // half the measured round trip, and the cost of the link
	class    int           // of latency; another zone is farther than all of ours
	patience int64         // ns after a request until silence about it is suspect
	shut     bool          // draining, paused or standing by: nothing is sent there
	mute     bool          // paused or standing by: nothing is offered there, either
}

// ledger is what a broker knows of one neighbour for one service: the
// neighbour's word about itself, and the account of what was sent to it. Counters
// are cumulative, so a lost or crossing message cannot make a belief drift. A new
// link begins a new ledger: a restarted broker's old promises are void.
type ledger struct {
	load    mdp.Load // the neighbour's last word
	need    bool     // it has no idle worker for the service
	once    bool     // it has workers that run what they get at most once
	behind  bool     // there are workers behind it, idle or busy
	heardAt int64    // when that word came; 0: never
	// oldestAt is when the request that waits longest there entered: those that came
	// before are elsewhere.
	oldestAt int64

	sent     uint32 // requests sent there
	received uint32 // requests got from there
	// markAt is when, of the requests sent there and not confirmed, the mark-th was
	// waited for; 0: all are confirmed.
	mark   uint32
	markAt int64
	owedAt int64 // when the first request came that it was not told of; 0: none

	told   told
	toldAt int64 // when a STATE said so; 0: something was said since by a request or an answer
	unsure bool  // what it was last told may not have got there
}

// told is what the neighbour was last told, as far as changes of it are news.
type told struct {
	idle, queue, via uint32 // coarse steps
	workers          uint32
	seen             uint32
	need, once       bool
	behind           bool
}

// update is what a neighbour is told when no request or answer goes there.
type update struct {
	mdp.Load
	behind bool
}

// staleAfter is how long a neighbour's word counts without being refreshed.
const staleAfter = int64(3 * time.Second)

// suspectAfter is how long a neighbour may be silent about a request, beyond the
// round trip and two of its update intervals.
const suspectAfter = 50 * time.Millisecond

// patience is how long a confirmation may take over a link.
func patience(rtt, updateEvery time.Duration) int64 {
	return int64(suspectAfter + rtt + 2*updateEvery)
}

// ask counts a request that was sent.
func (l *ledger) ask(now int64) {
	l.sent++
	if l.markAt == 0 {
		l.mark, l.markAt = l.sent, now
	}
}

// receive counts a request that came from there.
func (l *ledger) receive(now int64) {
	l.received++
	if l.owedAt == 0 {
		l.owedAt = now
	}
}

// confirmed notes that the neighbour was told of all requests that came from it, and
// how things stand here, by a message that its connection may yet refuse.
func (l *ledger) confirmed() {
	l.told.seen, l.owedAt = l.received, 0
	l.toldAt, l.unsure = 0, true
}

// assured tells whether the neighbour has what it was last told: a STATE said it, and
// none was refused since. It is not for the round in which that STATE is made.
func (l *ledger) assured(refusedAt int64) bool {
	if l.toldAt > refusedAt {
		l.unsure = false
	}
	return !l.unsure
}

// hear takes over the neighbour's word about itself. It reports false if that
// confirms more than was ever sent. Two messages may have crossed on their way into
// the link, so what was confirmed stays confirmed.
func (l *ledger) hear(load *mdp.Load, need, once bool, now int64) (honest bool) {
	seen := l.load.Seen
	honest = int32(l.sent-load.Seen) >= 0
	if honest && int32(load.Seen-seen) > 0 {
		seen = load.Seen
	}
	l.load, l.need, l.once, l.heardAt = *load, need, once, now
	l.load.Seen = seen
	switch {
	case load.Queue == 0: // who comes from now on is younger
		l.oldestAt = now
	case load.WaitedUs > 0:
		l.oldestAt = now - int64(load.WaitedUs)*int64(time.Microsecond)
	}
	if l.markAt != 0 && int32(seen-l.mark) >= 0 {
		l.mark, l.markAt = l.sent, now
		if seen == l.sent {
			l.markAt = 0
		}
	}
	return honest
}

// returned notes that one of the neighbour's own requests goes back to what it has idle.
func (l *ledger) returned() { l.load.Idle-- }

// believedIdle is what the neighbour offered less what it was sent since.
func (l *ledger) believedIdle() int {
	return int(l.load.Idle) - int(int32(l.sent-l.load.Seen))
}

// unconfirmedFor is for how long the neighbour has not confirmed what it was sent.
func (l *ledger) unconfirmedFor(now int64) int64 {
	if l.markAt == 0 {
		return 0
	}
	return now - l.markAt
}

// fresh tells whether the neighbour's word still counts.
func (l *ledger) fresh(now int64) bool { return l.heardAt != 0 && now-l.heardAt <= staleAfter }

// offers tells whether the neighbour, or one behind it, has workers.
func (l *ledger) offers() bool { return l.load.Workers > 0 || l.load.Via > 0 || l.behind }

// silent tells whether the neighbour's word says nothing at all.
func (l *ledger) silent() bool { return silent(&l.load) && !l.behind }

// view is the neighbour as the choice sees it.
func (l *ledger) view(w way, now int64) view {
	if w.shut || !l.fresh(now) || l.unconfirmedFor(now) > w.patience {
		return view{suspect: true}
	}
	return view{
		idle:    l.believedIdle(),
		queue:   int(l.load.Queue),
		via:     int(l.load.Via),
		workers: int(l.load.Workers),
		behind:  l.behind,
		mean:    time.Duration(l.load.MeanUs) * time.Microsecond,
		oneWay:  w.oneWay,
		class:   w.class,
	}
}

// neighbour is a ledger and the way there.
type neighbour struct {
	*ledger
	way
}

// word is this broker's word to the neighbour at index i, with the whole idle
// count: what every request and every answer carries. Via counts what is believed
// idle at neighbours no farther than the receiver.
func (s *standing) word(all []neighbour, i int, now int64) mdp.Load {
	if all[i].mute {
		return mdp.Load{Seen: all[i].received}
	}
	load := mdp.Load{
		Seen:    all[i].received,
		Idle:    uint32(max(s.idle, 0)),
		Queue:   uint32(s.queue),
		MeanUs:  uint32(s.mean / time.Microsecond),
		Workers: uint32(s.workers),
	}
	if s.oldest != 0 {
		load.WaitedUs = uint32(min(max((now-s.oldest)/int64(time.Microsecond), 1), math.MaxUint32))
	}
	for k := range all {
		if k != i && all[k].class <= all[i].class {
			load.Via += spare(&all[k], now)
		}
	}
	return load
}

// spare is what is believed idle at a neighbour.
func spare(n *neighbour, now int64) uint32 {
	if v := n.view(n.way, now); !v.suspect && v.idle > 0 {
		return uint32(v.idle)
	}
	return 0
}

// works tells whether a neighbour has workers that can be reached, idle or busy.
func works(n *neighbour, now int64) bool { return n.load.Workers > 0 && !n.shut && n.fresh(now) }

// announce is this broker's words to all neighbours for an update: as word, but
// the idle places are divided among those in need, so that herds do not form. The
// remainder goes to the nearest, and by lot among equals. It appends to dst, one
// for each, and takes time in proportion to their number.
func (s *standing) announce(dst []update, all []neighbour, draw uint32, now int64) []update {
	var via [classes]uint64  // believed idle by class
	var working [classes]int // neighbours with workers, by class
	var needy [classes]uint32
	total := uint32(0)
	for k := range all {
		via[all[k].class] += uint64(spare(&all[k], now))
		if works(&all[k], now) {
			working[all[k].class]++
		}
		if all[k].need && !all[k].shut {
			needy[all[k].class]++
			total++
		}
	}
	idle := uint32(max(s.idle, 0))
	share, rest := uint32(0), uint32(0)
	if total > 0 {
		share, rest = idle/total, idle%total
	}
	var more, dealt [classes]uint32 // one more for so many of the class, from the draw-th on
	for c := range needy {
		more[c] = min(rest, needy[c])
		rest -= more[c]
		if c > 0 {
			via[c] += via[c-1]
			working[c] += working[c-1]
		}
	}
	for k := range all {
		n := &all[k]
		if n.mute {
			dst = append(dst, update{Load: mdp.Load{Seen: n.received}})
			continue
		}
		load := mdp.Load{
			Seen:    n.received,
			Queue:   uint32(s.queue),
			Via:     uint32(min(via[n.class]-uint64(spare(n, now)), 1<<31)),
			MeanUs:  uint32(s.mean / time.Microsecond),
			Workers: uint32(s.workers),
		}
		if n.need && !n.shut {
			load.Idle = share
			if size := needy[n.class]; (dealt[n.class]+size-draw%size)%size < more[n.class] {
				load.Idle++
			}
			dealt[n.class]++
		}
		others := working[n.class]
		if works(n, now) {
			others--
		}
		dst = append(dst, update{load, others > 0})
	}
	return dst
}

// steps are a word as far as changes of it are news.
func (s *standing) steps(u *update) told {
	return told{idle: coarse(u.Idle), queue: coarse(u.Queue), via: coarse(u.Via),
		workers: u.Workers, seen: u.Seen, need: s.need, once: s.once, behind: u.behind}
}

// confirmWithin is how long a confirmation waits for a message that goes there
// anyway: an answer mostly. It is well within everybody's patience.
const confirmWithin = 20 * time.Millisecond

// isNews tells whether a word is worth a message before the next refresh: that the
// service came or went; to a neighbour in need, any change of a coarse step; to
// others, that what they were offered is no more, and our own need; and the
// confirmation of what was received, if no other message brought it.
func (l *ledger) isNews(t told, now int64) bool {
	old := l.told
	switch {
	case l.owedAt != 0 && now-l.owedAt >= int64(confirmWithin):
		return true
	case t.once != old.once, (t.workers > 0) != (old.workers > 0), t.workers == 0 && ((t.via > 0) != (old.via > 0) || t.behind != old.behind):
		return true
	case l.need && (t.idle != old.idle || t.queue != old.queue || t.workers != old.workers || t.workers == 0 && t.via != old.via):
		return true
	case t.idle < old.idle:
		return true
	}
	return t.need && !old.need && t.queue > 0
}

// coarse steps: 0, 1, 2, 3-5, 6-10, 11-20, and so on by doubling. Only a change of
// step is news.
func coarse(n uint32) uint32 {
	switch {
	case n <= 2:
		return n
	case n <= 5:
		return 3
	case n <= 10:
		return 4
	}
	step := uint32(5)
	for n > 20 {
		n /= 2
		step++
	}
	return step
}

// updateInterval is how often neighbours are told of changes at most.
const updateInterval = 5 * time.Millisecond

// updateEvery is the least time between two updates over a link: more links, fewer
// updates to each; far links need less.
func updateEvery(links int, oneWay time.Duration) time.Duration {
	return max(updateInterval, time.Duration(links)*time.Millisecond, oneWay/2)
}

// waitsLonger is the position in the queue here of the first request that waits
// longer than the way to a neighbour takes: (p+1) x mean / workers > oneWay. It is never
// below 0, and at most math.MaxInt32.
func (s *standing) waitsLonger(oneWay time.Duration) int {
	if s.workers == 0 {
		return 0
	}
	mean := s.mean
	if mean == 0 {
		mean = unknownMean
	}
	// In floating point: neighbours have a say in the way, and workers in their number.
	return int(min(max(float64(oneWay)*float64(s.workers)/float64(mean), 0), math.MaxInt32))
}

// byLot is the policy's source of chance.
func byLot(n int) int { return rand.IntN(n) }

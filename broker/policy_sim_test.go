package broker

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// TestPool runs the policy in a simulation of whole meshes and compares how long
// requests wait with what one pooled queue of the same workers makes them wait, and
// with figures of an independent simulation. Work is bimodal: 95 % exp(5 ms), 5 %
// exp(105 ms), mean 10 ms; arrivals are Poisson; a hop takes 0.2 ms.
func TestPool(t *testing.T) {
	for _, test := range []struct {
		brokers int
		workers int // of each broker
		load    float64
		hot     float64 // part of the arrivals that enters broker 0; 0: all the same
		seconds int
		more    time.Duration // p99 of wait beyond that of one queue, at most
		states  float64       // STATE messages a second and broker, at most
	}{
		{4, 4, 0.8, 0.25, 60, 4 * time.Millisecond, 250},
		{4, 4, 0.8, 0.7, 60, 4 * time.Millisecond, 250},
		{4, 10, 0.8, 0, 30, 2500 * time.Microsecond, 300},
		{4, 10, 0.8, 0.7, 30, 2500 * time.Microsecond, 300},
		{16, 10, 0.8, 0, 6, 2 * time.Millisecond, 350},
		{16, 10, 0.8, 0.7, 6, 2 * time.Millisecond, 350},
		{16, 10, 0.9, 0, 8, 4 * time.Millisecond, 600},
		{16, 10, 0.9, 0.7, 8, 4 * time.Millisecond, 600},
	} {
		t.Run(fmt.Sprintf("%d brokers of %d load %v hot %v", test.brokers, test.workers, test.load, test.hot), func(t *testing.T) {
			t.Parallel()
			p := newPlant(uint64(test.brokers), test.brokers, test.workers, test.load, test.hot)
			p.run(time.Duration(test.seconds) * time.Second)
			ideal := p.ideal()
			p99, p999, want := quantile(p.waits, 0.99), quantile(p.waits, 0.999), quantile(ideal, 0.99)
			states := float64(p.states) / float64(test.seconds) / float64(test.brokers)
			t.Logf("seed %d, %d requests: wait p99 %v p99.9 %v, one queue %v %v; offloaded %.0f %%, STATE messages per second and broker %.0f",
				test.brokers, len(p.waits), p99, p999, want, quantile(ideal, 0.999), 100*float64(p.offloaded)/float64(len(p.waits)), states)
			if p99 > want+test.more {
				t.Errorf("p99 of wait %v, want at most %v", p99, want+test.more)
			}
			if states > test.states {
				t.Errorf("%.0f STATE messages per second and broker, want at most %.0f", states, test.states)
			}
		})
	}
}

func (b *simBroker) to(id int) *neighbour { return &b.others[b.index(id)] }

func (b *simBroker) index(id int) int {
	if id > b.id {
		id--
	}
	return id
}

func (b *simBroker) idOf(i int) int {
	if i >= b.id {
		i++
	}
	return i
}

func (b *simBroker) standing() standing {
	s := standing{idle: b.free, queue: len(b.queue), workers: b.workers, mean: b.mean.duration(), need: b.free == 0}
	if len(b.queue) > 0 {
		s.oldest = b.queue[0].entered
	}
	return s
}

// arrive is service.submit.
func (p *plant) arrive(b *simBroker, job *simJob) {
	job.path = append(job.path, b.id)
	if b.free > 0 && len(b.queue) == 0 {
		p.start(b, job)
		return
	}
	if job.hops > 0 {
		here := view{idle: b.free, queue: len(b.queue), workers: b.workers, mean: b.mean.duration()}
		views := make([]view, len(b.others))
		for i := range b.others {
			if slices.Contains(job.path, b.idOf(i)) {
				views[i].suspect = true
				continue
			}
			views[i] = b.others[i].view(b.others[i].way, p.now)
		}
		if i := choose(here, views, job.hops, p.rand.IntN); i >= 0 {
			p.send(b, i, job)
			return
		}
	}
	at, _ := slices.BinarySearchFunc(b.queue, job.entered, func(j *simJob, at int64) int { return int(j.entered - at) })
	b.queue = slices.Insert(b.queue, at, job)
	p.changed(b)
}

func (p *plant) start(b *simBroker, job *simJob) {
	b.free--
	job.started, b.served = p.now, p.now
	p.waits = append(p.waits, time.Duration(p.now-job.entered))
	p.changed(b)
	p.after(time.Duration(job.work), func() {
		b.free++
		b.mean.add(p.now - job.started)
		p.answer(b, job)
		for b.free > 0 && len(b.queue) > 0 {
			next := b.queue[0]
			b.queue = b.queue[1:]
			p.start(b, next)
		}
		p.changed(b)
	})
}

// send is route.request.
func (p *plant) send(b *simBroker, i int, job *simJob) {
	if !job.left {
		p.offloaded++
	}
	job.left = true
	job.hops--
	s, to := b.standing(), p.brokers[b.idOf(i)]
	load := s.word(b.others, i, p.now)
	b.others[i].confirmed()
	b.others[i].ask(p.now)
	p.after(simHop, func() {
		n := to.to(b.id)
		n.receive(p.now)
		n.hear(&load, s.need, false, p.now)
		p.arrive(to, job)
		p.changed(to)
		p.move(to)
		p.level(to, to.index(b.id))
	})
}

// answer goes back the way the request came.
func (p *plant) answer(b *simBroker, job *simJob) {
	job.path = job.path[:len(job.path)-1]
	if len(job.path) == 0 {
		return
	}
	home := p.brokers[job.path[len(job.path)-1]]
	s := b.standing()
	i := b.index(home.id)
	load := s.word(b.others, i, p.now)
	b.others[i].confirmed()
	p.after(simHop, func() {
		p.hear(home, b.id, &load, s.need)
		p.answer(home, job)
	})
}

func (p *plant) hear(b *simBroker, from int, load *mdp.Load, need bool) {
	if !b.to(from).hear(load, need, false, p.now) {
		panic("confirmed more than was sent")
	}
	p.move(b)
	p.level(b, b.index(from))
}

// move is service.move.
func (p *plant) move(b *simBroker) {
	for i := range b.others {
		n := &b.others[i]
		s := b.standing()
		for at := s.waitsLonger(n.oneWay); at < len(b.queue); {
			job := b.queue[at]
			if v := n.view(n.way, p.now); v.suspect || v.idle <= 0 {
				break
			}
			if job.hops == 0 || slices.Contains(job.path, b.idOf(i)) {
				at++
				continue
			}
			b.queue = slices.Delete(b.queue, at, at+1)
			p.send(b, i, job)
		}
		p.sendBack(b, i)
	}
}

// sendBack is the second half of service.moveTo.
func (p *plant) sendBack(b *simBroker, i int) {
	n, s, home := &b.others[i], b.standing(), p.brokers[b.idOf(i)]
	for at := s.waitsLonger(n.oneWay); at < len(b.queue); {
		job := b.queue[at]
		if v := n.view(n.way, p.now); v.suspect || v.idle <= 0 {
			return
		}
		if len(job.path) < 2 || job.path[len(job.path)-2] != home.id {
			at++
			continue
		}
		n.returned()
		p.returned(b, i, at)
	}
}

// returned is service.sendBack and what the home does then.
func (p *plant) returned(b *simBroker, i, at int) {
	job, home := b.queue[at], p.brokers[b.idOf(i)]
	b.queue = slices.Delete(b.queue, at, at+1)
	job.path = job.path[:len(job.path)-2]
	job.hops++
	s := b.standing()
	load := s.word(b.others, i, p.now)
	b.others[i].confirmed()
	p.after(simHop, func() {
		p.hear(home, b.id, &load, s.need)
		p.arrive(home, job)
	})
}

// level is service.level.
func (p *plant) level(b *simBroker, i int) {
	n, here := &b.others[i], view{workers: b.workers, mean: b.mean.duration()}
	until := levels(here, n.view(n.way, p.now), n.oldestAt)
	at := 1
	if here.stalled(time.Duration(p.now - b.served)) {
		at = 0
	}
	for ; at < len(b.queue) && b.queue[at].entered < until; at++ {
		job := b.queue[at]
		switch {
		case job.hops > 0 && !slices.Contains(job.path, b.idOf(i)):
			b.queue = slices.Delete(b.queue, at, at+1)
			p.send(b, i, job)
		case len(job.path) > 1 && job.path[len(job.path)-2] == b.idOf(i):
			p.returned(b, i, at)
		default:
			continue
		}
		n.oldestAt = job.entered
		return
	}
}

// changed is service.changed and the pacing of gossip.
func (p *plant) changed(b *simBroker) {
	if b.telling {
		return
	}
	b.telling = true
	p.after(updateEvery(len(b.others), simHop), func() { p.tell(b, false) })
}

func (p *plant) refresh(b *simBroker) {
	b.draw = p.rand.Uint32()
	p.tell(b, true)
	p.after(simRefresh*9/10+time.Duration(p.rand.Int64N(int64(simRefresh/5))), func() { p.refresh(b) })
}

// tell is Broker.tell.
func (p *plant) tell(b *simBroker, full bool) {
	b.telling = false
	s := b.standing()
	for i, load := range s.announce(nil, b.others, b.draw, p.now) {
		n, to := &b.others[i], p.brokers[b.idOf(i)]
		steps := s.steps(&load)
		if !full && !n.isNews(steps, p.now) {
			if n.owedAt != 0 {
				p.changed(b)
			}
			continue
		}
		n.told = steps
		n.confirmed()
		p.states++
		p.after(simHop, func() { p.hear(to, b.id, &load.Load, s.need) })
	}
}

// ideal is how long the same requests wait in one queue for all workers.
func (p *plant) ideal() []time.Duration {
	free := make([]int64, len(p.brokers)*p.brokers[0].workers) // when each worker is
	var waits []time.Duration
	for _, a := range p.arrivals {
		first := 0
		for i := range free {
			if free[i] < free[first] {
				first = i
			}
		}
		begin := max(a.at, free[first])
		free[first] = begin + a.work
		waits = append(waits, time.Duration(begin-a.at))
	}
	return waits
}

func quantile(d []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(d))
	return sorted[int(math.Ceil(q*float64(len(sorted))))-1].Round(10 * time.Microsecond)
}

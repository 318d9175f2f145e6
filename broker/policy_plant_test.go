package broker

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

const (
	simHop     = 200 * time.Microsecond
	simRefresh = time.Second
)

// plant is a full mesh of brokers with workers, and all that is under way in it.
type plant struct {
	rand    *rand.Rand // of the policy
	work    *rand.Rand // of what is to be done: the same whatever the policy does
	brokers []*simBroker
	events  simEvents
	now     int64
	rate    float64 // arrivals per ns
	hot     float64
	left    int64 // arrivals end
	order   uint64

	arrivals  []simArrival
	waits     []time.Duration
	offloaded int
	states    int
}

type simArrival struct{ at, work int64 }

type simBroker struct {
	id      int
	free    int
	workers int
	served  int64     // when a worker last took a request
	queue   []*simJob // by age
	mean    ewma
	others  []neighbour // all other brokers: i is broker i, or i+1 from the own id on
	telling bool
	draw    uint32
}

type simJob struct {
	entered, started, work int64
	hops                   int
	left                   bool  // its home
	path                   []int // brokers it came by, this one last
}

type simEvent struct {
	at    int64
	order uint64
	do    func()
}

type simEvents []simEvent

func (e simEvents) Len() int { return len(e) }
func (e simEvents) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].order < e[j].order
}
func (e simEvents) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *simEvents) Push(x any)   { *e = append(*e, x.(simEvent)) }
func (e *simEvents) Pop() any {
	last := len(*e) - 1
	x := (*e)[last]
	(*e)[last] = simEvent{}
	*e = (*e)[:last]
	return x
}

func newPlant(seed uint64, brokers, workers int, load, hot float64) *plant {
	p := &plant{rand: rand.New(rand.NewPCG(seed, 7)), work: rand.New(rand.NewPCG(seed, 8)), hot: hot, now: 1}
	p.rate = load * float64(brokers*workers) / float64(10*time.Millisecond)
	road := way{oneWay: simHop, class: latencyClass(simHop, false), patience: patience(2*simHop, updateEvery(brokers-1, simHop))}
	for id := range brokers {
		b := &simBroker{id: id, free: workers, workers: workers}
		for range brokers - 1 {
			b.others = append(b.others, neighbour{&ledger{}, road})
		}
		p.brokers = append(p.brokers, b)
		p.after(time.Duration(p.rand.Int64N(int64(simRefresh))), func() { p.refresh(b) })
	}
	return p
}

func (p *plant) after(d time.Duration, do func()) {
	p.order++
	heap.Push(&p.events, simEvent{p.now + int64(d), p.order, do})
}

func (p *plant) run(d time.Duration) {
	p.left = p.now + int64(d)
	p.nextArrival()
	for len(p.events) > 0 && (p.now < p.left || len(p.waits) < len(p.arrivals)) {
		e := heap.Pop(&p.events).(simEvent)
		p.now = e.at
		e.do()
	}
}

func (p *plant) nextArrival() {
	p.after(time.Duration(p.work.ExpFloat64()/p.rate), func() {
		if p.now > p.left {
			return
		}
		mean := 5e6
		if p.work.IntN(20) == 0 {
			mean = 105e6
		}
		job := &simJob{entered: p.now, work: int64(p.work.ExpFloat64() * mean), hops: homeHops}
		p.arrivals = append(p.arrivals, simArrival{p.now, job.work})
		entry := p.work.IntN(len(p.brokers))
		if p.hot > 0 {
			if entry = 0; p.work.Float64() >= p.hot {
				entry = 1 + p.work.IntN(len(p.brokers)-1)
			}
		}
		p.arrive(p.brokers[entry], job)
		p.nextArrival()
	})
}

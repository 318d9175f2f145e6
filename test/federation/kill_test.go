package federation

import (
	"fmt"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// Of two brokers one is killed under 2,000 calls a second. Its clients know both, its
// workers are attached to both: no call fails.
func TestBrokerKilled(t *testing.T) {
	t.Parallel()
	const (
		rate    = 2000 // calls a second, of all clients
		clients = 4
		every   = 10 * time.Millisecond
		before  = 1500 // calls of each client until the broker is killed, and after that
	)
	sites, ledger := mesh(t, []string{"a", "b"}, func(i int) []int { return []int{0}[:i] }), newLedger()
	a, b := sites[0], sites[1]
	linked(t, a, b)
	a.works(t, 32, ledger.sleeping("first", 2*time.Millisecond), b)
	b.works(t, 32, ledger.sleeping("second", 2*time.Millisecond), a)
	flows, half := make(chan *flow, clients), make(chan struct{}, clients)
	for i := range clients {
		c := sites[i%2].client(t, sites[(i+1)%2])
		f := &flow{name: fmt.Sprintf("client %d", i), client: c, each: rate / clients * int(every) / int(time.Second), every: every, total: 2 * before}
		go func() {
			f.run(t, half)
			flows <- f
		}()
	}
	for range clients {
		receive(t, half)
	}
	dies, lives := a, b
	if b.counter(t, "requests") > a.counter(t, "requests") {
		dies, lives = b, a // most clients are with it
	}
	dies.Kill(t)
	failovers := uint64(0)
	for range clients {
		f := receive(t, flows)
		f.check(t)
		failovers += f.client.Counters().Failovers
	}
	if failovers == 0 {
		t.Error("no client was with the broker that was killed")
	}
	settled(t, lives)
	requests, again := ledger.check(t)
	t.Logf("%d requests executed, %d executions more than that", requests, again)
}

// flow is calls at a steady rate, whether or not earlier ones are answered.
type flow struct {
	name         string
	client       *client.Client
	each         int // calls at a time
	every        time.Duration
	total        int
	failed, odd  int
	first        error
	slowest      time.Duration
	begun, ended time.Time
}

// run makes all calls, tells when half of them are answered, and takes their answers.
func (f *flow) run(t *testing.T, half chan<- struct{}) {
	f.begun = time.Now()
	done := make(chan *client.Pending, f.total)
	go func() {
		ticker := time.NewTicker(f.every)
		defer ticker.Stop()
		for sent := 0; sent < f.total; sent += f.each {
			<-ticker.C
			for i := range min(f.each, f.total-sent) {
				f.client.Go(t.Context(), client.Call{Service: service, Body: [][]byte{f.body(sent + i), stamp()}, Timeout: meshproc.Guard}, done)
			}
		}
	}()
	for n := range f.total {
		if n == f.total/2 {
			half <- struct{}{}
		}
		f.take(<-done)
	}
	f.ended = time.Now()
}

func (f *flow) body(n int) []byte { return fmt.Appendf(nil, "%s %d", f.name, n) }

func stamp() []byte { return fmt.Append(nil, time.Now().UnixNano()) }

func (f *flow) take(p *client.Pending) {
	switch {
	case p.Err != nil:
		f.failed++
		f.first = p.Err
	case len(p.Reply.Body) != 3 || string(p.Reply.Body[1]) != string(p.Call.Body[0]):
		f.odd++
	default:
		var sent int64
		_, _ = fmt.Sscan(string(p.Reply.Body[2]), &sent)
		f.slowest = max(f.slowest, time.Since(time.Unix(0, sent)))
	}
}

func (f *flow) check(t *testing.T) {
	t.Helper()
	n := f.client.Counters()
	if f.failed > 0 || f.odd > 0 || n.Late > 0 {
		t.Errorf("%s: of %d calls %d failed, %d got another's answer, %d answers came late: %v", f.name, f.total, f.failed, f.odd, n.Late, f.first)
	}
	t.Logf("%s: %d calls in %v, the slowest after %v; retries %d, failovers %d", f.name, f.total, f.ended.Sub(f.begun).Round(time.Millisecond),
		f.slowest.Round(time.Millisecond), n.Retries, n.Failovers)
}

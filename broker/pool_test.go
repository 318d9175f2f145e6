package broker

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/bench/work"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
	"github.com/mdmesh/mdmesh/zsock/memsock"
)

// poolHop is how long a message takes from broker to broker.
const poolHop = 100 * time.Microsecond

// TestPoolOfBrokers makes requests wait in whole brokers, under simulated time, and
// compares one broker of 16 workers with four linked ones of four: the work is that of
// bench/federation, without its machine. Goroutines run in any order, so that runs differ by
// 2 ms and more: TestPool is the policy alone, and exact.
// MD_POOL_CALLS=90000 makes it nearly as long as a point of the benchmark.
func TestPoolOfBrokers(t *testing.T) {
	calls, err := strconv.Atoi(os.Getenv("MD_POOL_CALLS"))
	if err != nil {
		calls = 12_000
	}
	for _, hot := range []float64{0.25, 0.7} {
		t.Run(fmt.Sprintf("hot %v", hot), func(t *testing.T) {
			t.Parallel()
			plan := work.Plan{Seed: 1, Calls: calls, Load: 0.8, Workers: 16, Entries: 1}
			one := poolWaits(t, plan)
			plan.Entries, plan.Hot = 4, hot
			four := poolWaits(t, plan)
			p99, p999 := quantile(four, 0.99), quantile(four, 0.999)
			want99, want999 := quantile(one, 0.99)+10*time.Millisecond, quantile(one, 0.999)*5/2
			t.Logf("%d requests: wait p99 %v p99.9 %v, one broker %v %v", calls, p99, p999, quantile(one, 0.99), quantile(one, 0.999))
			if p99 > want99 || p999 > want999 {
				t.Errorf("wait p99 %v p99.9 %v, want at most %v and %v", p99, p999, want99, want999)
			}
		})
	}
}

// poolWaits is how long each request of the plan waits for a worker.
func poolWaits(t *testing.T, plan work.Plan) []time.Duration {
	waits := make([]time.Duration, plan.Calls)
	synctest.Test(t, func(t *testing.T) {
		m := &mesh{t, memsock.New()}
		brokers := m.linkedWell(plan.Entries)
		drawn := plan.Draw()
		submitted := make([]time.Time, plan.Calls)
		for i := range plan.Workers {
			w := m.worker(brokers[i%len(brokers)], "s", 1)
			go w.serve(func(call int) time.Duration {
				waits[call] = time.Since(submitted[call])
				return drawn[call].Service
			})
		}
		m.pass(3 * time.Second) // all know of all workers
		var clients []*peer
		for i, b := range brokers {
			clients = append(clients, m.client(b, strconv.Itoa(i)))
		}
		began := time.Now()
		for i, call := range drawn {
			time.Sleep(call.At - time.Since(began))
			submitted[i] = time.Now()
			clients[call.Entry].ask("s", string(binary.BigEndian.AppendUint32(nil, uint32(i))))
		}
		m.pass(10 * time.Second)
		for _, b := range brokers {
			m.empty(b)
		}
	})
	return waits
}

// linkedWell starts n brokers, each linked with all others.
func (m *mesh) linkedWell(n int) (brokers []*Broker) {
	var names []string
	for i := range n {
		name := string(rune('a' + i))
		for _, other := range names {
			m.net.Fault(name, other, memsock.Fault{Delay: poolHop})
			m.net.Fault(other, name, memsock.Fault{Delay: poolHop})
		}
		brokers = append(brokers, m.broker(name, peers(names...)))
		names = append(names, name)
	}
	return brokers
}

// serve answers requests, whose bodies are the numbers of calls, each after the time
// that work says.
func (p *peer) serve(work func(call int) time.Duration) {
	for {
		select {
		case <-p.closed:
			return
		case r := <-p.got:
			if r.Kind != mdp.Request {
				continue
			}
			time.Sleep(work(int(binary.BigEndian.Uint32([]byte(r.body())))))
			var batch zsock.Batch
			_ = p.write(&batch, mdp.Command{Kind: mdp.Final, Head: mdp.Head{Token: r.Head.Token, ID: r.Head.ID}}, "y")
			batch.Flush()
		}
	}
}

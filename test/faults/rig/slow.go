package rig

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/test/faults/relay"
	"github.com/mdmesh/mdmesh/test/faults/wire"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// p99 is the value that one in a hundred exceeds. It sorts times.
func p99(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)*99/100]
}

// pace does something at even distances, until the test ends or stop is called, or
// until it fails, which is an error unless it was stopped.
func pace(t testing.TB, every time.Duration, do func(n uint64) error) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for n := uint64(0); ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if err := do(n); err != nil {
				if ctx.Err() == nil {
					t.Error(err)
				}
				return
			}
		}
	})
	stop = func() {
		cancel()
		done.Wait()
	}
	t.Cleanup(stop)
	return stop
}

// pairs is how many windows without and with somebody slow are taken in turn, so that
// what else the machine does hits both.
const pairs = 3

// SlowClient compares the p99 of a client's calls beside another one that reads its
// answers, and while that asks as much and reads nothing.
func SlowClient(t testing.TB, b *Broker) (without, with time.Duration) {
	t.Helper()
	// What is not read in a window, beyond what the kernel takes, stays below 8 MiB, where
	// such a client is cut off and others have the broker for themselves.
	const window, every, size = time.Second, 50 * time.Millisecond, 256 << 10
	p, theirs, r := Pairs(t, b, b.Requests), Fresh(), Relay(t, b.Requests)
	Worker(t, b.Requests, theirs)
	calls(t, p, window/4) // all are warm
	var fast, slow []time.Duration
	for range pairs {
		r.Heal()
		c := Peer(t, r.Endpoint())
		go func() {
			for err := error(nil); err == nil; {
				_, err = c.Recv(meshproc.Guard)
			}
		}()
		stop := pace(t, every, func(n uint64) error { return c.Send(Request(theirs, n), fmt.Appendf(nil, "size %d", size)) })
		fast = append(fast, calls(t, p, window)...)
		r.Fault(relay.Down, relay.Fault{Stall: true})
		b.Await(t, "answers are unread", func(st broker.State) bool { return st.Unread > 0 })
		slow = append(slow, calls(t, p, window)...)
		if n := b.State(t).Connections; n != 4 {
			t.Fatalf("%d connections are open: the slow one was cut off", n)
		}
		stop()
		r.Reset()
		b.Await(t, "the slow one is gone", func(st broker.State) bool { return st.Connections == 3 })
	}
	return p99(fast), p99(slow)
}

// calls are the times of calls in a row, for as long as given.
func calls(t testing.TB, p *Pair, window time.Duration) (times []time.Duration) {
	t.Helper()
	for begun := time.Now(); time.Since(begun) < window || len(times) == 0; {
		asked := time.Now()
		if o := Do(t.Context(), p.Client, p.Call("echo")); o.Err != nil || o.Attempt != 1 {
			t.Fatalf("another's call: attempt %d, %v", o.Attempt, o.Err)
		}
		times = append(times, time.Since(asked))
	}
	return times
}

// SlowSubscriber compares the p99 of how long events are under way to a subscriber
// beside another one that reads them, too, and while that one reads nothing.
func SlowSubscriber(t testing.TB, b *Broker) (without, with time.Duration) {
	t.Helper()
	// 16 MB a second: beyond the bound of a queue, and what the kernel takes, in a window.
	const every, size, window = time.Millisecond, 16 << 10, 1000
	r, base, body := Relay(t, b.Subscribe), time.Now(), make([]byte, size)
	under := listen(t, b, base)
	publisher := Client(t, b.Requests)
	stop := pace(t, every, func(uint64) error {
		binary.BigEndian.PutUint64(body, uint64(time.Since(base)))
		return publisher.Publish(t.Context(), "t", body)
	})
	var fast, slow []time.Duration
	for range pairs {
		passed := r.Passed(relay.Down)
		subscribe(t, r.Endpoint())
		Await(t, "the other one is subscribed", func() error {
			if n := r.Passed(relay.Down) - passed; n < 2*size {
				return fmt.Errorf("%d octets have come", n)
			}
			return nil
		})
		take(t, under, window/4) // all are warm, and what came meanwhile is gone
		fast = append(fast, take(t, under, window)...)
		dropped := b.State(t).Counters["events_dropped"]
		r.Fault(relay.Down, relay.Fault{Stall: true})
		slow = append(slow, take(t, under, window)...)
		b.Await(t, "events are dropped", func(st broker.State) bool { return st.Counters["events_dropped"] > dropped })
		r.Reset()
		r.Heal()
	}
	stop()
	return p99(fast), p99(slow)
}

// listen subscribes to topic t and delivers how long events were under way, whose
// bodies begin with when they were published, from base on.
func listen(t testing.TB, b *Broker, base time.Time) <-chan time.Duration {
	t.Helper()
	times := make(chan time.Duration, 100)
	ctx, cancel := context.WithCancel(t.Context())
	var listening sync.WaitGroup
	c := Client(t, b.Requests)
	listening.Go(func() {
		_ = c.Subscribe(ctx, []string{"t"}, func(e client.Event) {
			select {
			case times <- time.Since(base) - time.Duration(binary.BigEndian.Uint64(e.Body[0])):
			default: // nobody is measuring
			}
		})
	})
	t.Cleanup(func() {
		cancel()
		listening.Wait()
	})
	return times
}

// subscribe connects a subscriber of topic t that reads what comes, to its end.
func subscribe(t testing.TB, endpoint string) {
	t.Helper()
	nc, err := net.DialTimeout("tcp", strings.TrimPrefix(endpoint, "tcp://"), meshproc.Guard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	if _, err := nc.Write(slices.Concat(wire.Greeting(), wire.Ready("SUB"), wire.Frame([]byte("\x01t"), false))); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, nc) }() // until it is closed
}

// take takes so many times of events.
func take(t testing.TB, times <-chan time.Duration, n int) []time.Duration {
	t.Helper()
	out, guard := make([]time.Duration, 0, n), time.After(meshproc.Guard)
	for len(out) < n {
		select {
		case took := <-times:
			out = append(out, took)
		case <-guard:
			t.Fatalf("only %d events have come within %v", len(out), meshproc.Guard)
		}
	}
	return out
}

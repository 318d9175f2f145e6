package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/mdtest"
	"github.com/mdmesh/mdmesh/mdtest/scripted"
	"github.com/mdmesh/mdmesh/zsock"
	"github.com/mdmesh/mdmesh/zsock/memsock"
)

// events is a client with a scripted broker that has event endpoints.
type events struct {
	*client.Client
	t                  *testing.T
	net                *memsock.Net
	broker             *scripted.Broker
	publish, subscribe *scripted.Broker
}

func withEvents(t *testing.T, f func(t *testing.T, e *events)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := &events{t: t, net: memsock.New()}
		says := *welcome
		says.Publish, says.Subscribe = []string{"tcp://0.0.0.0:5556"}, []string{"tcp://0.0.0.0:5557"}
		b := scripted.Start(t, scripted.Config{Endpoint: endpoint(0), Network: e.net, Welcome: &says})
		e.broker = b
		e.publish = e.listen("5556", zsock.XSub)
		e.subscribe = e.listen("5557", zsock.XPub)
		c, err := client.New(client.Config{Brokers: []string{b.Endpoint}, Network: e.net})
		if err != nil {
			t.Fatal(err)
		}
		e.Client = c
		f(t, e)
		_ = c.Close()
		for _, b := range []*scripted.Broker{b, e.publish, e.subscribe} {
			b.Stop()
		}
	})
}

func (e *events) listen(port string, kind zsock.SocketType) *scripted.Broker {
	return scripted.Start(e.t, scripted.Config{Endpoint: "tcp://brokera:" + port, Network: e.net, Type: kind})
}

// frames sends a plain message.
func frames(s *scripted.Session, frames ...string) {
	var head [][]byte
	for _, f := range frames {
		head = append(head, []byte(f))
	}
	var b zsock.Batch
	_ = s.Conn.Send(&b, head, zsock.Body{})
	b.Flush()
}

// session waits for the connection number n to b.
func session(t *testing.T, b *scripted.Broker, n int) *scripted.Session {
	t.Helper()
	for range 1000 {
		synctest.Wait()
		if all := b.Sessions(); len(all) > n {
			return all[n]
		}
		time.Sleep(10 * time.Millisecond) // of the bubble: a dial is backing off
	}
	t.Fatalf("no connection %d", n)
	return nil
}

func TestPublishWaitsForTheSubscription(t *testing.T) {
	withEvents(t, func(t *testing.T, e *events) {
		done := make(chan error)
		go func() { done <- e.Publish(t.Context(), "rollup/cpu", []byte("1"), []byte("2")) }()
		s := session(t, e.publish, 0)
		frames(s, "\x01other")
		synctest.Wait()
		e.publish.None()
		frames(s, "\x01rollup/")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		m := e.publish.Next()
		if len(m.Body) != 3 || string(m.Body[0]) != "rollup/cpu" || string(m.Body[2]) != "2" {
			t.Errorf("event %q", m.Body)
		}
		frames(s, "\x00rollup/")
		synctest.Wait()
		err := e.Publish(t.Context(), "rollup/cpu")
		if !errors.Is(err, mdp.Expired) || e.Counters().Unwanted != 1 {
			t.Errorf("after the broker has unsubscribed: %v", err)
		}
	})
}

func TestPublishReconnects(t *testing.T) {
	withEvents(t, func(t *testing.T, e *events) {
		done := make(chan error, 1)
		publish := func(text string) { go func() { done <- e.Publish(t.Context(), "t", []byte(text)) }() }
		publish("1")
		frames(session(t, e.publish, 0), "\x01")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		e.publish.Next()
		e.publish.Stop()
		synctest.Wait()
		publish("2")
		synctest.Wait()
		e.publish = e.listen("5556", zsock.XSub)
		frames(session(t, e.publish, 0), "\x01")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if m := e.publish.Next(); string(m.Body[1]) != "2" {
			t.Errorf("event %q", m.Body)
		}
	})
}

func TestPublishWithoutABroker(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		if err := m.Publish(t.Context(), "t"); !errors.Is(err, mdp.NotOffered) {
			t.Errorf("a broker without event endpoints: %v", err)
		}
		m.brokers[0].Stop()
	})
	t.Run("none", func(t *testing.T) {
		inBubble(t, 1, func(t *testing.T, m *mesh) {
			m.brokers[0].Stop()
			if err := m.Publish(t.Context(), "t"); !errors.Is(err, client.ErrNoBroker) {
				t.Errorf("no broker: %v", err)
			}
			_ = m.Close()
			if err := m.Publish(t.Context(), "t"); !errors.Is(err, client.ErrClosed) {
				t.Errorf("closed: %v", err)
			}
		})
	})
}

func TestSubscribeAgainAfterALoss(t *testing.T) {
	withEvents(t, func(t *testing.T, e *events) {
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan client.Event, 10)
		done := make(chan error)
		go func() { done <- e.Subscribe(ctx, []string{"a/", "b/"}, func(ev client.Event) { got <- ev }) }()
		for round := range 3 {
			for _, want := range []string{"\x01a/", "\x01b/"} {
				if m := e.subscribe.Next(); len(m.Body) != 1 || string(m.Body[0]) != want {
					t.Fatalf("subscription %q, want %q", m.Body, want)
				}
			}
			s := e.subscribe.Sessions()[round]
			frames(s, "a/1", "x", "y")
			if ev := <-got; ev.Topic != "a/1" || len(ev.Body) != 2 || string(ev.Body[1]) != "y" {
				t.Errorf("%+v", ev)
			}
			s.Conn.Close(nil)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("subscribe: %v", err)
		}
	})
}

// A broker that is silent is left with all connections: those of events would not be
// missed for as long as it hangs.
func TestEventsLeaveASilentBroker(t *testing.T) {
	withEvents(t, func(t *testing.T, e *events) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- e.Subscribe(ctx, []string{"a/"}, func(client.Event) {}) }()
		e.subscribe.Expect(0)
		published := make(chan error, 1)
		publish := func() { published <- e.Publish(ctx, "a/1") }
		go publish()
		p := session(t, e.publish, 0)
		frames(p, "\x01")
		if err := <-published; err != nil {
			t.Error(err)
		}
		s := e.subscribe.Sessions()[0]
		e.broker.Sessions()[0].Silent.Store(true)
		e.subscribe.Expect(0) // subscribed again
		<-s.Closed
		<-p.Closed
		go publish()
		frames(session(t, e.publish, 1), "\x01")
		if err := <-published; err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("subscribe: %v", err)
		}
	})
}

func TestSlowSubscriberLosesTheOldest(t *testing.T) {
	withEvents(t, func(t *testing.T, e *events) {
		ctx, cancel := context.WithCancel(t.Context())
		got, goOn := make(chan string), make(chan struct{})
		done := make(chan error)
		go func() {
			done <- e.Subscribe(ctx, []string{""}, func(ev client.Event) {
				got <- ev.Topic
				<-goOn
			})
		}()
		e.subscribe.Next()
		s := e.subscribe.Sessions()[0]
		frames(s, "first")
		<-got
		for i := range 10_005 {
			frames(s, fmt.Sprint(i))
		}
		synctest.Wait()
		if n := e.Counters(); n.EventsLost != 5 || n.Events != 10_006 {
			t.Errorf("counters %+v", n)
		}
		goOn <- struct{}{}
		if topic := <-got; topic != "5" {
			t.Errorf("the oldest event kept is %s, want 5", topic)
		}
		cancel()
		close(goOn)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Octets are bounded, too: one large event takes the place of many small ones.
func TestSlowSubscriberAndLargeEvents(t *testing.T) {
	withEvents(t, func(t *testing.T, e *events) {
		ctx, cancel := context.WithCancel(t.Context())
		got, goOn := make(chan string), make(chan struct{})
		done := make(chan error)
		go func() {
			done <- e.Subscribe(ctx, []string{""}, func(ev client.Event) {
				got <- ev.Topic
				<-goOn
			})
		}()
		e.subscribe.Next()
		s := e.subscribe.Sessions()[0]
		frames(s, "first")
		<-got
		for i := range 9 {
			frames(s, fmt.Sprint(i), strings.Repeat("x", 1<<20))
			synctest.Wait()
		}
		frames(s, "large", strings.Repeat("x", 7<<20))
		synctest.Wait()
		if n := e.Counters().EventsLost; n != 9 { // one or two with the small ones, the rest at once
			t.Errorf("%d events dropped, want 9", n)
		}
		goOn <- struct{}{}
		if topic := <-got; topic != "large" {
			t.Errorf("the oldest event kept is %s", topic)
		}
		cancel()
		close(goOn)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestSubscribeEndsWithTheClient(t *testing.T) {
	withEvents(t, func(t *testing.T, e *events) {
		done := make(chan error)
		go func() { done <- e.Subscribe(t.Context(), []string{""}, func(client.Event) {}) }()
		e.subscribe.Next()
		_ = e.Close()
		if err := <-done; !errors.Is(err, client.ErrClosed) {
			t.Errorf("%v", err)
		}
		if err := e.Subscribe(t.Context(), nil, nil); err == nil {
			t.Error("a subscription to nothing is accepted")
		}
	})
}

// Through the real broker, over TCP.
func TestEventsThroughABroker(t *testing.T) {
	t.Parallel()
	b := mdtest.StartBroker(t, func(c *broker.Config) { c.MaxMessage = 80 << 20 })
	c := mdtest.Client(t, b)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	got := make(chan client.Event, 1000)
	done := make(chan error, 1)
	go func() { done <- c.Subscribe(ctx, []string{"t/"}, func(e client.Event) { got <- e }) }()
	tick := time.NewTicker(20 * time.Millisecond) // until the subscription has got through
	defer tick.Stop()
	for i := 0; ; i++ {
		if err := c.Publish(ctx, "t/x", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
		select {
		case e := <-got:
			if e.Topic != "t/x" || len(e.Body) != 1 {
				t.Errorf("%+v", e)
			}
			if err := c.Publish(ctx, "t/large", make([]byte, 70<<20)); err != nil { // as large as the broker takes
				t.Error(err)
			}
			for e.Topic != "t/large" && ctx.Err() == nil {
				select {
				case e = <-got:
				case <-ctx.Done():
					t.Error("the large event did not come")
				}
			}
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			return
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("no event came")
		}
	}
}

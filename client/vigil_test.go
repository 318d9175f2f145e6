package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// calls makes n blocking calls at once and returns what collects their errors.
func (m *mesh) calls(ctx context.Context, n int) (results func() []error) {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { _, errs[i] = m.Call(ctx, "echo") })
	}
	return func() []error {
		wg.Wait()
		return errs
	}
}

// Calls that share a context all end with it, those in front of its watch and behind
// it; each is cancelled at the broker.
func TestSharedContextEnds(t *testing.T) {
	type key struct{}
	for _, n := range []int{1, 15, 16, 17, 100} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inBubble(t, 1, func(t *testing.T, m *mesh) {
				cause := errors.New("enough")
				ctx, end := context.WithCancelCause(t.Context())
				results := m.calls(ctx, n)
				// Another context of the same calls: it is not theirs to end.
				other := m.calls(context.WithValue(t.Context(), key{}, 1), 20)
				m.brokers[0].Expect(mdp.Hello)
				for range n + 20 {
					m.brokers[0].Expect(mdp.Request)
				}
				end(cause)
				for _, err := range results() {
					if !errors.Is(err, mdp.Cancelled) || !errors.Is(err, cause) {
						t.Errorf("%d calls: %v", n, err)
					}
				}
				for range n {
					m.brokers[0].Expect(mdp.Cancel)
				}
				if _, err := m.Call(ctx, "echo"); !errors.Is(err, cause) {
					t.Errorf("a call behind the end: %v", err)
				}
				_ = m.Close()
				other()
			})
		})
	}
}

// The watch moves on to another context that is used often, but not while calls rely
// on it.
func TestVigilMovesOn(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		first, endFirst := context.WithCancel(t.Context())
		second, endSecond := context.WithTimeout(t.Context(), time.Second)
		defer endSecond()
		a := m.calls(first, 40)
		synctest.Wait()
		b := m.calls(second, 300)
		m.brokers[0].Expect(mdp.Hello)
		for range 340 {
			m.brokers[0].Expect(mdp.Request)
		}
		time.Sleep(500 * time.Millisecond)
		endFirst()
		for _, err := range a() {
			if !errors.Is(err, mdp.Cancelled) || !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		for _, err := range b() {
			if !errors.Is(err, mdp.Expired) {
				t.Error(err)
			}
		}
		third, endThird := context.WithCancel(t.Context())
		c := m.calls(third, 40)
		synctest.Wait()
		endThird()
		for _, err := range c() {
			if !errors.Is(err, mdp.Cancelled) {
				t.Error(err)
			}
		}
	})
}

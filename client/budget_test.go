package client

import (
	"testing"
	"time"
)

func TestBudget(t *testing.T) {
	t.Parallel()
	second := func(s float64) instant { return instant(s * float64(time.Second)) }
	spendAll := func(g *budget, now instant) (n int) {
		for g.spend(now) {
			n++
		}
		return n
	}
	var g budget
	if n := spendAll(&g, second(0)); n != 100 {
		t.Errorf("%d retries without a call, want 10 a second for 10 s", n)
	}
	if n := spendAll(&g, second(9.9)); n != 0 {
		t.Errorf("%d more in the same 10 s", n)
	}
	if n := spendAll(&g, second(10)); n != 100 {
		t.Errorf("%d retries 10 s later, want 100 anew", n)
	}
	for i := range 20_000 { // 2,000 a second
		g.call(second(100 + float64(i)/2000))
	}
	if n := spendAll(&g, second(109.9)); n != 2000 {
		t.Errorf("%d retries after 20,000 calls, want 10 %%", n)
	}
	g.call(second(110)) // the first 2,000 calls are past, the retries are not
	if n := spendAll(&g, second(110)); n != 0 {
		t.Errorf("%d retries more than 10 %%", n)
	}
	if n := spendAll(&g, second(1e6)); n != 100 {
		t.Errorf("%d retries after a long pause", n)
	}
	if g.recentCalls != 0 || g.recentRetries != 100 {
		t.Errorf("%d calls and %d retries are recent", g.recentCalls, g.recentRetries)
	}
}

package client

import "time"

// The retry budget: what is tried again must not multiply the load on a mesh that
// is failing already.
const (
	budgetWindow  = 10 // seconds that count as recent
	budgetShare   = 10 // one retry for so many calls
	budgetMinimum = 10 // retries a second that are always allowed
)

// budget counts the calls and retries of the last seconds.
type budget struct {
	second         int64 // since Client.epoch, of the latest entry
	calls, retries [budgetWindow]int
	recentCalls    int // sums
	recentRetries  int
}

// call notes a call.
func (g *budget) call(now instant) {
	g.calls[g.at(now)]++
	g.recentCalls++
}

// spend takes one retry, if there is one left.
func (g *budget) spend(now instant) bool {
	i := g.at(now)
	if g.recentRetries >= max(g.recentCalls/budgetShare, budgetMinimum*budgetWindow) {
		return false
	}
	g.retries[i]++
	g.recentRetries++
	return true
}

// at is the index of the current second, after forgetting those that are past.
func (g *budget) at(now instant) int {
	second := int64(time.Duration(now) / time.Second)
	for range min(second-g.second, budgetWindow) {
		g.second++
		i := g.second % budgetWindow
		g.recentCalls -= g.calls[i]
		g.recentRetries -= g.retries[i]
		g.calls[i], g.retries[i] = 0, 0
	}
	g.second = max(g.second, second)
	return int(g.second % budgetWindow)
}

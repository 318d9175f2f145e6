package broker

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// Interest is what linked brokers tell each other of their subscribers, so that an
// event goes only where somebody wants it: for each broker a set of prefixes, its
// own first, then those of the brokers it is linked with, for it will relay to
// them. INTEREST is the whole of it each time, and is sent when it changed.

// Bounds of what one broker says. Beyond them its interest is everything.
const (
	maxInterest       = 1_000    // prefixes of one broker
	maxInterestOctets = 16 << 10 // of them
	maxInterestBody   = 64 << 10
	interestPace      = 20 * time.Millisecond // between the end of a pass and the next one
)

// Bounds of what a pass looks at. Beyond them its interest is everything unseen, though
// a few of the prefixes may cover the others.
const (
	maxCovered       = 4 * maxInterest       // distinct prefixes here
	maxCoveredOctets = 4 * maxInterestOctets // of them
)

// Bounds of what all subscribers here hold. Every prefix takes prefixCost octets more
// than it has: the entries of two maps.
const (
	prefixCost = 96
	maxHeld    = 128 << 20
	heldAlways = 4 << 10 // room that each subscriber has, whatever others hold
)

// interest sums up the subscriptions of all subscribers here, with each that comes or
// ends, for there may be a million. Guarded by events.mu.
type interest struct {
	counts map[string]int // subscribers of each prefix
	octets int            // of these prefixes
	held   int            // octets that all subscriptions take
	peak   int            // prefixes that counts had: a map does not shrink
}

// count enters a subscription that began or ended, and tells whether that may be news
// for linked brokers.
func (i *interest) count(prefix string, on bool) (news bool) {
	before, step := i.isEverything(), 1
	if !on {
		step = -1
	}
	n := i.counts[prefix] + step
	i.held += step * (prefixCost + len(prefix))
	i.counts[prefix] = n
	i.peak = max(i.peak, len(i.counts))
	if n == 0 {
		delete(i.counts, prefix)
		i.trim()
	}
	if n > 1 || n == 1 && !on {
		return false // others want it as well
	}
	i.octets += step * len(prefix)
	return !before || !i.isEverything()
}

// trim makes a small map of a large one that is nearly empty: a pass walks all of it.
func (i *interest) trim() {
	if len(i.counts) > maxCovered || i.peak <= 16*maxCovered {
		return
	}
	counts := make(map[string]int, len(i.counts))
	maps.Copy(counts, i.counts) // a clone would be as large as the old one
	i.counts, i.peak = counts, len(counts)
}

// isEverything tells whether no pass needs to look at the prefixes.
func (i *interest) isEverything() bool {
	return i.counts[""] > 0 || len(i.counts) > maxCovered || i.octets > maxCoveredOctets
}

// list is the distinct prefixes, in any order, maxCovered at most.
func (i *interest) list() []string {
	if i.isEverything() {
		return []string{""}
	}
	list := make([]string, 0, len(i.counts))
	for prefix := range i.counts {
		list = append(list, prefix)
	}
	return list
}

// full tells whether all subscribers together hold too much for this one to hold
// another prefix.
func (i *interest) full(p *prefixes, prefix string) bool {
	size := prefixCost + len(prefix)
	return i.held+size > maxHeld && len(p.set)*prefixCost+p.octets+size > heldAlways
}

// peerInterest is the interest that came over a link.
type peerInterest struct {
	own    group
	beyond []group // of brokers the peer is linked with
}

// group is the interest of one broker.
type group struct {
	broker string
	list   []string
	set    *prefixes
}

// eventRoutes says which links an event takes. It is made anew when interest or
// links change.
type eventRoutes struct {
	all    []eventRoute
	direct map[[8]byte]struct{} // incarnations of the linked brokers
}

// eventRoute is what is wanted behind one link.
type eventRoute struct {
	link   *link
	own    *prefixes   // of the peer
	beyond []*prefixes // of brokers to which it is the way
}

// wanted tells whether the peer itself wants the topic, and whether a broker
// beyond it does.
func (r *eventRoute) wanted(topic []byte) (own, beyond bool) {
	own = r.own != nil && r.own.want(topic)
	for _, p := range r.beyond {
		if p.want(topic) {
			return own, true
		}
	}
	return own, false
}

// hearInterest takes the peer's INTEREST.
func (l *link) hearInterest(m *zsock.Msg) {
	frames := m.Frames()
	if l.flooded(1, 0, l.b.now()) {
		return
	}
	if len(frames) <= l.c.cmd.Body {
		l.b.count.malformed.Add(1)
		return
	}
	h, ok := parseInterest(frames[l.c.cmd.Body])
	if !ok {
		l.b.count.malformed.Add(1)
		return
	}
	l.interest.Store(h)
	l.b.events.changed()
}

// parseInterest reads the body of INTEREST: groups of n(1) broker(n) count(2), and
// so many times length(2) prefix. The first group is the sender's own.
func parseInterest(p []byte) (*peerInterest, bool) {
	if len(p) > maxInterestBody {
		return nil, false
	}
	h := &peerInterest{}
	for first := true; len(p) > 0; first = false {
		n := int(p[0])
		if len(p) < 3+n || len(h.beyond) >= maxLinks {
			return nil, false
		}
		g := group{broker: string(p[1 : 1+n]), set: newPrefixes()}
		count := int(binary.BigEndian.Uint16(p[1+n:]))
		p = p[3+n:]
		for range count {
			if len(p) < 2 {
				return nil, false
			}
			size := int(binary.BigEndian.Uint16(p))
			if size > maxTopic || len(p) < 2+size {
				return nil, false
			}
			g.list = append(g.list, string(p[2:2+size]))
			g.set.subscribe(string(p[2:2+size]), true)
			p = p[2+size:]
		}
		if first {
			h.own = g
		} else {
			h.beyond = append(h.beyond, g)
		}
	}
	return h, true
}

func appendGroup(dst []byte, broker string, list []string) []byte {
	dst = append(dst, byte(len(broker)))
	dst = append(dst, broker...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(list)))
	for _, prefix := range list {
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(prefix)))
		dst = append(dst, prefix...)
	}
	return dst
}

// aggregate is a short list that covers all prefixes: none begins with another. It is
// made in place.
func aggregate(all []string) []string {
	slices.Sort(all)
	list, octets := all[:0], 0
	for _, prefix := range all {
		if n := len(list); n > 0 && strings.HasPrefix(prefix, list[n-1]) {
			continue
		}
		list = append(list, prefix)
		octets += len(prefix)
	}
	if len(list) > maxInterest || octets > maxInterestOctets {
		return []string{""}
	}
	return list
}

// interests tells links of the interest here and makes the routes of events anew, if
// anything changed. It is called by the gossip goroutine, and returns how long until
// it is due again, 0 if it is not.
func (g *gossip) interests(now int64) int64 {
	e := &g.b.events
	if !e.news.Load() {
		return 0
	}
	if now < g.interestAt {
		return g.interestAt - now
	}
	e.news.Store(false)
	links := slices.DeleteFunc(g.b.upLinks(), func(l *link) bool { return l.paused.Load() || l.refuses.Load() })
	slices.SortFunc(links, func(x, y *link) int { return cmp.Compare(x.peerName(), y.peerName()) })
	e.routes.Store(routesFor(links, g.b.name))
	if len(links) > 0 {
		g.sayInterests(links)
	}
	g.interestAt = g.b.now() + int64(interestPace) // however long this took
	return 0
}

// sayInterests tells each link what is wanted here and behind the others.
func (g *gossip) sayInterests(links []*link) {
	e := &g.b.events
	e.mu.RLock()
	all := e.interest.list()
	e.mu.RUnlock()
	own := aggregate(all) // not under the mutex, which readers wait for
	var batch zsock.Batch
	for _, l := range links {
		if !l.sayInterest(&batch, interestFor(l, links, g.b.name, own)) {
			e.news.Store(true) // the refresh tries again
		}
	}
	batch.Flush()
}

// interestFor is the body of INTEREST for one link. Brokers for which there is no
// room are said to want everything.
func interestFor(l *link, links []*link, name string, own []string) []byte {
	body := appendGroup(nil, name, own)
	for _, other := range links {
		h := other.interest.Load()
		if other == l || h == nil || len(h.own.list) == 0 {
			continue
		}
		list := h.own.list
		if len(body)+len(h.own.list)*2+h.own.set.octets+512 > maxInterestBody/2 {
			list = []string{""}
		}
		if len(body)+512 < maxInterestBody {
			body = appendGroup(body, other.peerName(), list)
		}
	}
	return body
}

// sayInterest sends INTEREST unless it says what the peer was told last. It reports
// false if the connection refuses.
func (l *link) sayInterest(batch *zsock.Batch, text []byte) bool {
	told := l.toldInterest
	if told == "" {
		told = string(appendGroup(nil, l.b.name, nil)) // who is told nothing assumes nothing
	}
	if told == string(text) {
		return true
	}
	body := zsock.NewBody(text)
	defer body.Release()
	cmd := mdp.Command{Role: mdp.Peer, Kind: mdp.Interest, Dialect: mdp.Native}
	if err := l.c.send(batch, &cmd, body); err != nil {
		l.b.count.controlDropped.Add(1)
		return false
	}
	l.toldInterest = string(text)
	return true
}

// routesFor finds the links events take: to each linked broker its own, and to each
// broker beyond the first link that leads there.
func routesFor(links []*link, self string) *eventRoutes {
	routes := &eventRoutes{direct: make(map[[8]byte]struct{})}
	reached := map[string]bool{self: true}
	for _, l := range links {
		reached[l.peerName()] = true
		routes.direct[l.origin] = struct{}{}
	}
	for _, l := range links {
		h := l.interest.Load()
		if h == nil {
			continue
		}
		r := eventRoute{link: l}
		if len(h.own.list) > 0 {
			r.own = h.own.set
		}
		for _, g := range h.beyond {
			if !reached[g.broker] && len(g.list) > 0 {
				reached[g.broker] = true
				r.beyond = append(r.beyond, g.set)
			}
		}
		if r.own != nil || len(r.beyond) > 0 {
			routes.all = append(routes.all, r)
		}
	}
	return routes
}

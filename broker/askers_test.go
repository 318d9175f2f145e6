package broker

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// asker is a client of the simulation.
type asker struct {
	s        *simulation
	x        *wire
	foreign  bool
	kind     mdp.Dialect
	instance string
	tokens   uint64
	open     map[uint64]*history
	waiting  []*history // of a foreign one: whatever comes answers one of these
	errors   int        // of handlers, of which it is not told what they belong to
	heard    time.Duration
	silent   time.Duration // until then it says nothing
	missing  []*history    // detached ones of the client before, to attach to
	gone     bool
}

// join lets a client come, or one come back that has lost its connection.
func (s *simulation) join(instance string, missing ...*history) {
	if s.b.draining.Load() {
		return // it accepts nobody
	}
	c := &asker{s: s, instance: instance, kind: mdp.Native, open: make(map[uint64]*history), missing: missing}
	if instance == "" {
		s.ids++
		c.instance = fmt.Sprint("client ", s.ids)
		if s.chance(25) {
			c.foreign, c.kind = true, []mdp.Dialect{mdp.V01, mdp.V02}[s.rand.IntN(2)]
		}
	}
	c.x = s.connect(s.upTo(80*time.Millisecond), c.hear, c.ended)
	c.x.sent, c.x.lost, c.x.read = c.told, c.refused, c.posted
	s.clients = append(s.clients, c)
	if c.foreign {
		s.foreign = append(s.foreign, c)
		return
	}
	c.x.say(mdp.Command{Role: mdp.Client, Kind: mdp.Hello, Dialect: mdp.Native, Map: mdp.EncodeMap(&mdp.HelloMap{Instance: c.instance})})
	c.beat()
	c.attach()
}

func (c *asker) beat() {
	switch now := c.s.now(); {
	case c.gone:
		return
	case now < c.silent:
	case c.waits() && now-max(c.heard, c.x.stalled) > livenessMisses*time.Second:
		c.leave(false) // a broker that says nothing is gone
		return
	default:
		c.x.say(mdp.Command{Role: mdp.Client, Kind: mdp.Heartbeat, Dialect: mdp.Native})
	}
	c.s.in(time.Second, c.beat)
}

// waits tells whether it wants an answer.
func (c *asker) waits() bool {
	for _, h := range c.open {
		if !h.cancelled {
			return true
		}
	}
	return false
}

// anyClient draws one of the clients, who may be a dummy when there are none.
func (s *simulation) anyClient() *asker {
	if len(s.clients) == 0 {
		return &asker{s: s, gone: true}
	}
	return s.clients[s.rand.IntN(len(s.clients))]
}

// pause lets it read nothing for a while, and say nothing either if its process is
// stopped.
func (c *asker) pause(d time.Duration) {
	if c.gone {
		return
	}
	c.x.stall(d)
	if c.s.chance(50) {
		c.silent = c.s.now() + d
	}
}

// halve lets its connection be half open. What an MDP client waits for then is its own
// affair: it learns of the end later.
func (c *asker) halve() {
	if c.gone || c.x.mute || c.x.numb {
		return
	}
	c.x.halve(!c.foreign)
	c.s.halves++
	c.giveUpWaiting()
}

func (c *asker) giveUpWaiting() {
	for _, h := range c.waiting {
		h.over = h.over || len(h.outcomes) == 0
	}
}

// attach asks for what the client before left behind.
func (c *asker) attach() {
	if c.gone || len(c.missing) == 0 {
		return
	}
	for _, h := range c.missing {
		c.tokens++
		c.open[c.tokens] = h
		c.x.say(mdp.Command{Role: mdp.Client, Kind: mdp.Attach, Dialect: mdp.Native, Head: mdp.Head{Token: c.tokens, ID: h.id}})
	}
	c.missing = nil
}

// ask sends a request of a random client.
func (s *simulation) ask() {
	if len(s.clients) == 0 {
		return
	}
	c := s.anyClient()
	if s.now() < c.silent {
		return
	}
	s.ids++
	h := &history{body: fmt.Sprint("request ", s.ids), id: mdp.RequestID{9, 14: byte(s.ids >> 8), 15: byte(s.ids)}, dialect: c.kind, starts: make(map[uint16][]int)}
	s.histories[h.body] = h
	s.histories[h.body+"+"] = h
	s.order = append(s.order, h)
	cmd := mdp.Command{Role: mdp.Client, Kind: mdp.Request, Dialect: c.kind, Service: []byte("s")}
	if c.foreign {
		c.waiting = append(c.waiting, h)
		h.over = c.x.mute || c.x.numb
		c.x.say(cmd, h.body)
		return
	}
	for _, f := range []uint8{mdp.FlagOnce, mdp.FlagNoWait, mdp.FlagRestartable, mdp.FlagDetached} {
		if s.chance(15) {
			h.flags |= f
		}
	}
	if !c.waits() {
		c.heard = s.now() // from here on it listens
	}
	c.tokens++
	c.open[c.tokens] = h
	cmd.Head = mdp.Head{Flags: h.flags, Token: c.tokens, ID: h.id, Attempt: 1}
	if s.chance(40) {
		cmd.Head.Remaining = uint32(1 + s.rand.IntN(3_000))
	}
	c.x.say(cmd, h.body)
}

// cancel gives up a request.
func (s *simulation) cancel() {
	for _, c := range s.clients {
		for token := uint64(1); token <= c.tokens && s.now() >= c.silent; token++ {
			if h := c.open[token]; h != nil && s.chance(30) {
				h.over, h.cancelled = true, true
				c.x.say(mdp.Command{Role: mdp.Client, Kind: mdp.Cancel, Dialect: mdp.Native, Head: mdp.Head{Token: token, ID: h.id}})
				return
			}
		}
	}
}

// vanish ends a client; another one of the same instance may come for what was detached.
func (s *simulation) vanish() {
	if len(s.clients) < 2 {
		return
	}
	s.anyClient().leave(s.chance(50))
}

// leave is a client's end by itself: what is under way to it is lost, also where the broker
// has said goodbye meanwhile.
func (c *asker) leave(lossy bool) {
	c.x.abrupt = true
	c.ended()
	c.x.die(lossy)
}

func (c *asker) ended() {
	if c.gone {
		return
	}
	c.gone = true
	s := c.s
	s.clients = slices.DeleteFunc(s.clients, func(d *asker) bool { return c == d })
	// In order it ends when all that the broker has sent was read.
	orderly := s.farewell && !c.x.abrupt
	if !orderly {
		c.giveUpWaiting()
	}
	for _, h := range c.waiting {
		h.over = h.over || !h.read
	}
	var detached []*history
	for token := uint64(1); token <= c.tokens; token++ {
		h := c.open[token]
		if h == nil || orderly && h.read {
			continue
		}
		if h.flags&mdp.FlagDetached != 0 && !h.over {
			detached = append(detached, h)
		}
		h.over = true // its outcome may have been lost on the way, and so may the request
	}
	if len(detached) > 0 || s.calm {
		s.in(s.upTo(3*time.Second), func() { s.join(c.instance, detached...) })
	}
}

// told is called when the broker sends something: before BYE, all that it took is
// answered; an answer is the one that it accepted.
func (c *asker) told(m *message) {
	cmd := &m.Command
	if cmd.Kind == mdp.Bye && c.x.conn.outstandingCount() > 0 {
		c.s.fail("%s is told BYE while %d of its requests are unanswered", c.instance, c.x.conn.outstandingCount())
	}
	if h := c.open[cmd.Head.Token]; h != nil && !c.foreign && cmd.Kind == mdp.Final && cmd.Head.Attempt > h.answeredBy {
		h.answered, h.answeredBy = c.s.now(), cmd.Head.Attempt
	}
}

// refused is called when its connection did not take what the broker sent.
func (c *asker) refused(m *message) {
	if !c.foreign || m.Kind != mdp.Final {
		return
	}
	if h := c.s.histories[string(m.frames[len(m.frames)-1])]; h != nil {
		h.dropped = true
	} else {
		c.errors++
	}
}

// posted is called when the broker reads something of it.
func (c *asker) posted(body string) {
	if h := c.s.histories[body]; h != nil {
		h.read = true
	}
}

// hear takes an answer: it must be one that this client waits for.
func (c *asker) hear(m *message) {
	c.heard = c.s.now()
	if c.gone || m.Kind == mdp.Heartbeat || m.Kind == mdp.Welcome || m.Kind == mdp.Drain || m.Kind == mdp.Bye {
		return
	}
	s := c.s
	if c.foreign {
		c.hearForeign(m)
		return
	}
	h := c.open[m.Head.Token]
	status := mdp.Status(m.Head.Status)
	switch {
	case h == nil || h.id != m.Head.ID:
		s.fail("%s got %v for token %d, which is not open", c.instance, m.Kind, m.Head.Token)
		return
	case status == mdp.OK && strings.TrimSuffix(m.body(), "+") != h.body:
		s.fail("%s got %q for %q", c.instance, m.body(), h.body)
	case m.Kind == mdp.Partial:
		h.parts++
		return
	case m.Kind != mdp.Final:
		s.fail("%s got %v", c.instance, m.Kind)
	}
	delete(c.open, m.Head.Token)
	switch status {
	case mdp.Running:
		c.missing = append(c.missing, h)
		s.in(500*time.Millisecond, c.attach)
		return
	case mdp.Unknown: // to ATTACH: the request or its error was lost with the connection
		return
	}
	h.outcomes = append(h.outcomes, status)
}

// hearForeign takes the answer of MDP, which does not say to what: the body does. It
// must be that of a request which has none yet, whole, and as its dialect has it.
func (c *asker) hearForeign(m *message) {
	h := c.s.histories[string(m.frames[len(m.frames)-1])]
	if m.Kind == mdp.Final && m.body() == "ERROR|520 failed" {
		c.errors++
		return
	}
	if h == nil || !slices.Contains(c.waiting, h) || string(m.Service) != "s" || len(h.outcomes) > 0 {
		c.s.fail("%s got %v %q", c.instance, m.Kind, m.frames)
		return
	}
	switch body := m.body(); {
	case m.Kind == mdp.Partial && c.kind == mdp.V02 && body == h.body+"+":
		h.parts++
	case m.Kind == mdp.Final && (body == h.body || c.kind == mdp.V01 && body == h.body+"+|"+h.body):
		h.outcomes = append(h.outcomes, mdp.OK)
	default:
		c.s.fail("%s got %v %q", c.instance, m.Kind, m.frames)
	}
}
